"""What each side does with its networks in `against_reference.py`, each in a process of its own.

A side is made of the materials and the number of threads: libraries are imported, models loaded, and everything run
once, so that what is timed is warm. What is made is a function that does the work once more, and says how long it took
and what came out. Outputs have the same names on both sides.
"""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import uss_reference
from materials import CONFIG, Materials

Outputs = dict[str, np.ndarray]


class Turn(NamedTuple):
    """What came of a turn.

    Attributes:
      seconds: that it took.
      outputs: by name.
      peak_mib: memory that its process took at most, where a turn is a process.
    """

    seconds: float
    outputs: Outputs
    peak_mib: float | None = None


Side = Callable[[], Turn]


def timed(run: Callable[[], Any], outputs: Callable[[Any], Outputs]) -> Side:
    """A side that calls `run`; what it gives becomes outputs after the clock is stopped."""

    def side() -> Turn:
        begun = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - begun
        return Turn(seconds, outputs(result))

    return side


def warm(run: Callable[[], Any], outputs: Callable[[Any], Outputs]) -> Side:
    """As `timed`, of a function that was called once before."""
    run()
    return timed(run, outputs)


def our_tagging(materials: Materials, threads: int, batch_size: int) -> Side:
    """Cnn14 on segments, as a loaded model runs it."""
    del threads  # those of the processors that this process may use
    import uss_jax

    inference, segments = uss_jax.load(str(materials.model)).inference, materials.segments()[:batch_size]
    return warm(lambda: inference.probabilities(segments), lambda found: {"probabilities": found})


def their_tagging(materials: Materials, threads: int, batch_size: int) -> Side:
    """Cnn14 of panns_inference on the same segments."""
    torch, device = set_up_torch(materials, threads)
    from uss.utils import load_pretrained_panns

    tagger = load_pretrained_panns("Cnn14", checkpoint_path=str(materials.tagger), freeze=True).to(device).eval()
    segments = torch.from_numpy(materials.segments()[:batch_size])

    def run() -> Any:
        with torch.no_grad():
            return tagger(segments.to(device))["clipwise_output"].cpu().numpy()

    return warm(run, lambda found: {"probabilities": found})


def our_separating(materials: Materials, threads: int, batch_size: int) -> Side:
    """ResUNet30 on mixtures and conditions, as a loaded model runs it."""
    del threads
    import uss_jax

    inference = uss_jax.load(str(materials.model)).inference
    mixtures, conditions = materials.segments()[:batch_size], materials.conditions()[:batch_size]
    return warm(lambda: inference.separate(mixtures, conditions), lambda found: {"waveforms": found})


def their_separating(materials: Materials, threads: int, batch_size: int) -> Side:
    """The reference's ResUNet30 on the same."""
    torch, device = set_up_torch(materials, threads)
    separator = their_model(materials).ss_model.to(device).eval()
    mixtures = torch.from_numpy(materials.segments()[:batch_size])[:, None]
    conditions = torch.from_numpy(materials.conditions()[:batch_size])

    def run() -> Any:
        with torch.no_grad():
            given = {"mixture": mixtures.to(device), "condition": conditions.to(device)}
            return separator(given)["waveform"][:, 0].cpu().numpy()

    return warm(run, lambda found: {"waveforms": found})


def our_training(materials: Materials, threads: int, batch_size: int) -> Side:
    """A training step in float32, by `train_step.py`; there is no output, for tests compare gradients and updates."""
    del materials, threads
    from train_step import our_step
    from training import CONFIG as training_config
    from training import TAGGER

    return _steps(our_step(training_config, TAGGER, "float32", False, batch_size))


def their_training(materials: Materials, threads: int, batch_size: int) -> Side:
    """The reference's training step, by `train_step.py`."""
    from train_step import reference_step

    return _steps(reference_step(materials.home, None, "float32", batch_size, False, threads))


def _steps(measure: Callable[[int], float]) -> Side:
    measure(1)
    return lambda: Turn(measure(1), {})


def set_up_torch(materials: Materials, threads: int) -> tuple[Any, str]:
    """PyTorch, set up for the reference, and the device that it works on."""
    os.chdir(materials.folder)  # the reference leaves things in the working folder
    uss_reference.use(materials.home, None)
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch, "cuda" if torch.cuda.is_available() else "cpu"


def their_model(materials: Materials, write: Callable[..., None] = uss_reference.write_floats) -> Any:
    """The reference's model of the checkpoint; stems that `uss.inference` makes go to `write`."""
    reference = uss_reference.inference(materials.home, materials.tagger, write)
    return reference.load_ss_model(configs=CONFIG, checkpoint_path=str(materials.separator)).eval()
