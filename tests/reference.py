"""The PyTorch reference, imported without its side effects, with the weights of `seeded.py`."""

import importlib
import importlib.util
import os
import sys
import types
from typing import Any

import pytest
import seeded

torch = pytest.importorskip("torch")
pytest.importorskip("torchlibrosa")
pytest.importorskip("uss")
PANNS = importlib.util.find_spec("panns_inference")  # does not run the package's __init__, which would download
if PANNS is None:
    pytest.skip("could not find panns_inference", allow_module_level=True)

PANNS_FIELDS = {"mel_bins": 64, "fmin": 50, "fmax": 14_000, "classes_num": 527}
PANNS_FRONT_END = {"sample_rate": seeded.SAMPLE_RATE_HZ, "window_size": 1024, "hop_size": 320}


def panns() -> Any:
    """`panns_inference.models`, imported past the package's __init__."""
    if "panns_reference" not in sys.modules:
        os.environ.setdefault("MPLBACKEND", "agg")
        package = types.ModuleType("panns_reference")
        package.__path__ = list(PANNS.submodule_search_locations)
        sys.modules["panns_reference"] = package
    return importlib.import_module("panns_reference.models")


def bare_module(name: str) -> Any:
    """A network of the reference, freshly made; by the names in `seeded.NETWORKS`."""
    size = seeded.NETWORKS[name].condition_size
    if size is None:
        return getattr(panns(), name)(**PANNS_FRONT_END, **PANNS_FIELDS).eval()
    from uss.models.resunet import ResUNet30

    return ResUNet30(input_channels=1, output_channels=1, condition_size=size).eval()


def load(module: Any, state: seeded.names.State) -> Any:
    """Puts weights into a module; the constants and counters that it has besides stay."""
    known = module.state_dict()
    assert set(state) <= set(known)
    module.load_state_dict(known | {name: torch.from_numpy(value.copy()) for name, value in state.items()})
    return module


def module(name: str) -> Any:
    """A network of the reference with the weights that `seeded.state` gives it, in evaluation mode."""
    return load(bare_module(name), seeded.state(name))


def run(module: Any, *arrays: Any) -> dict[str, Any]:
    """Calls a tagger with audio, or a separator with a mixture and a condition; keeps gradients where it may."""
    if len(arrays) == 1:
        return module(torch.from_numpy(arrays[0]))
    mixture, condition = map(torch.from_numpy, arrays)
    return {"waveform": module({"mixture": mixture[:, None], "condition": condition})["waveform"][:, 0]}


def state_of(module: Any) -> seeded.names.State:
    """A module's parameters and buffers, copied: training changes the buffers in place."""
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


class Heard(torch.nn.Module):
    """A tagger that hears what it is told."""

    def __init__(self, framewise: Any) -> None:
        super().__init__()
        self.framewise = torch.from_numpy(framewise)

    def forward(self, input: Any) -> dict[str, Any]:
        """Whatever is played: (curves, frames, 1)."""
        return {"framewise_output": self.framewise[:, :, None]}


def anchor_detector(framewise: Any) -> Any:
    """The reference's detector of anchors, with a tagger that hears these curves."""
    from uss.data.anchor_segment_detectors import AnchorSegmentDetector

    return AnchorSegmentDetector(Heard(framewise), 10.0, 2.0, 100, seeded.SAMPLE_RATE_HZ, "max_area")


def anchor_starts(framewise: Any) -> Any:
    """First frame of the anchor in each curve: (curves,)."""
    clips = torch.zeros(1, 10 * seeded.SAMPLE_RATE_HZ).expand(len(framewise), -1)
    found = anchor_detector(framewise)(clips, [0] * len(framewise))
    return found["bgn_sample"].numpy() // 320


def loss_and_gradient(module: Any, mixture: Any, condition: Any, target: Any) -> tuple[float, seeded.names.State]:
    """The L1 loss of a training step, and its gradients by name. Leaves the module in training mode."""
    from uss.losses import get_loss_function

    estimate = run(module.train(), mixture, condition)["waveform"]
    segments = [{"segment": x[:, None]} for x in (estimate, torch.from_numpy(target))]
    loss = get_loss_function("l1_wav")(*segments)
    loss.backward()
    gradients = {name: value.grad.numpy() for name, value in module.named_parameters() if value.grad is not None}
    return loss.item(), gradients


def optimise(start: Any, gradients: Any, amsgrad: bool = True) -> Any:
    """The reference's optimiser on given gradients, (steps, size): parameters after each step, (steps, size)."""
    tensor = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = torch.optim.AdamW([tensor], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=amsgrad)
    path = []
    for gradient in gradients:
        tensor.grad = torch.from_numpy(gradient)
        optimiser.step()
        path.append(tensor.detach().numpy().copy())
    return path
