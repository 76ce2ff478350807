"""The networks, spectra, optimiser and anchors of this project equal the PyTorch reference's, in fp32 on the CPU."""

import copy
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from reference_weights import randomise, resunet_variables, tagger_variables

from uss_jax import anchors, losses, signal
from uss_jax.models.cnn14 import Cnn14, Cnn14DecisionLevelMax
from uss_jax.models.resunet import ResUNet
from uss_jax.training.optimiser import make_optimiser, paper_schedule

torch = pytest.importorskip("torch")
pytest.importorskip("torchlibrosa")
pytest.importorskip("uss")
PANNS = importlib.util.find_spec("panns_inference")  # does not run the package's __init__, which would download
if PANNS is None:
    pytest.skip("could not find panns_inference", allow_module_level=True)

SAMPLE_RATE_HZ = 32_000
MEL = {"sample_rate_hz": SAMPLE_RATE_HZ, "bands": 64, "low_hz": 50.0, "high_hz": 14_000.0}
PANNS_FIELDS = {"mel_bins": 64, "fmin": 50, "fmax": 14_000, "classes_num": 527}
PANNS_FRONT_END = {"sample_rate": SAMPLE_RATE_HZ, "window_size": 1024, "hop_size": 320}
TAGGERS = {"Cnn14": Cnn14, "Cnn14_DecisionLevelMax": Cnn14DecisionLevelMax}


@pytest.fixture(autouse=True)
def on_cpu() -> Iterator[None]:
    """Accelerators round matrix products more coarsely."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture(scope="module")
def panns(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`panns_inference.models`, imported past the package's __init__ and without traces in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        package = types.ModuleType("panns_reference")
        package.__path__ = list(PANNS.submodule_search_locations)
        patch.setitem(sys.modules, "panns_reference", package)
        yield importlib.import_module("panns_reference.models")


def relative_error(ours: Any, reference: Any) -> float:
    """‖ours − reference‖ / ‖reference‖."""
    ours, reference = (np.asarray(x, np.float64) for x in (ours, reference))
    assert ours.shape == reference.shape
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def sounds(samples: int, seed: int = 0, batch: int = 2) -> np.ndarray:
    """Decaying chirps in noise, so that bands and moments differ in level: (batch, samples)."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(samples) / SAMPLE_RATE_HZ
    audio = 0.003 * rng.standard_normal((batch, samples))
    for clip in audio:
        for _ in range(4):
            low_hz, sweep_hz, onset = rng.uniform(100, 4000), rng.uniform(-50, 2000), rng.uniform(0, 0.7) * seconds[-1]
            after = np.maximum(seconds - onset, 0.0)
            clip += 0.2 * np.sin(2 * np.pi * (low_hz + sweep_hz * after) * after) * np.exp(-3.0 * after)
    return audio.astype(np.float32)


def state_of(module: Any) -> dict[str, np.ndarray]:
    """A PyTorch module's parameters and buffers, copied: training changes the buffers in place."""
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def shapes(tree: Any) -> Any:
    """The shapes of a tree's leaves."""
    return jax.tree.map(lambda leaf: leaf.shape, tree)


def flat(tree: Any) -> np.ndarray:
    """All leaves in one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


# Spectra


@pytest.mark.parametrize(("window", "hop", "samples"), [(1024, 320, 64_000), (2048, 320, 64_000), (2048, 320, 31_337)])
def test_stft(window: int, hop: int, samples: int) -> None:
    from torchlibrosa.stft import STFT

    audio = sounds(samples)
    real, imag = STFT(n_fft=window, hop_length=hop)(torch.from_numpy(audio))
    ours = signal.stft(jnp.asarray(audio), window, hop)
    assert relative_error(ours.real, real[:, 0]) < 1e-5
    assert relative_error(ours.imag, imag[:, 0]) < 1e-5


def test_istft_of_a_changed_spectrum() -> None:
    """A spectrum that is no signal's: how overlapping frames are weighted matters."""
    from torchlibrosa.stft import ISTFT

    rng = np.random.default_rng(0)
    samples = 31_337
    spectrum = np.array(signal.stft(jnp.asarray(sounds(samples)), 2048, 320))
    spectrum *= rng.uniform(0, 1, spectrum.shape).astype(np.float32)
    parts = [torch.from_numpy(np.ascontiguousarray(x))[:, None] for x in (spectrum.real, spectrum.imag)]
    reference = ISTFT(n_fft=2048, hop_length=320)(*parts, samples)
    assert relative_error(signal.istft(jnp.asarray(spectrum), 2048, 320, samples), reference) < 1e-5


@pytest.mark.parametrize("silent", [False, True])
def test_log_mel(silent: bool) -> None:
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram

    audio = sounds(64_000)
    if silent:
        audio[:, 20_000:] = 0.0
    extract = torch.nn.Sequential(
        Spectrogram(n_fft=1024, hop_length=320),
        LogmelFilterBank(sr=SAMPLE_RATE_HZ, n_fft=1024, n_mels=64, fmin=50, fmax=14_000, top_db=None),
    )
    reference = extract(torch.from_numpy(audio))[:, 0]
    assert relative_error(signal.log_mel(jnp.asarray(audio), window=1024, hop=320, **MEL), reference) < 1e-5


# Taggers


class Pair(NamedTuple):
    """A reference module and the same network here.

    Attributes:
      reference: PyTorch module, in evaluation mode.
      module: Linen module.
      variables: its variables, converted.
      apply: `module.apply`, compiled.
    """

    reference: Any
    module: Any
    variables: Any
    apply: Any


@pytest.fixture(scope="module", params=TAGGERS)
def taggers(request: pytest.FixtureRequest, panns: Any) -> Pair:
    """Each PANNs tagger."""
    reference = getattr(panns, request.param)(**PANNS_FRONT_END, **PANNS_FIELDS)
    randomise(reference, 1, lambda: reference(torch.from_numpy(sounds(64_000, seed=9))))
    module = TAGGERS[request.param]()
    return Pair(reference, module, tagger_variables(state_of(reference)), jax.jit(module.apply))


def assert_taggers_agree(taggers: Pair, audio: np.ndarray) -> None:
    """Compares whatever the reference returns."""
    with torch.no_grad():
        reference = taggers.reference(torch.from_numpy(audio))
    tags = taggers.apply(taggers.variables, audio)
    assert set(reference) in ({"clipwise_output", "embedding"}, {"clipwise_output", "framewise_output"})
    for name, values in reference.items():
        assert relative_error(getattr(tags, name.removesuffix("_output")), values) < 1e-4, name


def test_tagger_variables_are_complete(taggers: Pair) -> None:
    expected = jax.eval_shape(taggers.module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64_000), jnp.float32))
    assert shapes(taggers.variables) == shapes(expected)


# The frames of 41 000 samples, 129, leave a remainder in every pooling, as do the 201 of 2 s and the 1001 of 10 s.
@pytest.mark.slow
@pytest.mark.parametrize("samples", [41_000, 64_000, 320_000])
def test_tagger(taggers: Pair, samples: int) -> None:
    assert_taggers_agree(taggers, sounds(samples))


@pytest.mark.slow
def test_tagger_comparison_can_fail(taggers: Pair) -> None:
    """With one convolution's input channels in another order the outputs are far apart, and not saturated."""
    audio = sounds(64_000)
    tags = taggers.apply(taggers.variables, audio)
    assert float(jnp.std(tags.logits)) > 0.2
    assert float(jnp.mean((tags.clipwise > 0.01) & (tags.clipwise < 0.99))) > 0.1

    kernel = taggers.variables["params"]["block2"]["conv1"]["kernel"]
    shuffled = jax.tree.map(lambda x: np.flip(x, axis=2) if x is kernel else x, taggers.variables)
    assert relative_error(taggers.apply(shuffled, audio).clipwise, tags.clipwise) > 1e-2


# Separator


def make_resunet(condition_size: int) -> Pair:
    """ResUNet30 and its twin."""
    from uss.models.resunet import ResUNet30

    reference = ResUNet30(input_channels=1, output_channels=1, condition_size=condition_size)
    randomise(reference, 2, lambda: separate(reference, sounds(20_001, seed=9), conditions(condition_size, seed=9)))
    module = ResUNet()
    return Pair(reference, module, resunet_variables(state_of(reference)), jax.jit(module.apply))


def conditions(size: int, seed: int = 0) -> np.ndarray:
    """(2, size), like tagger outputs: not negative, and 1 in the mean square, so that FiLM shifts by about 1."""
    return np.abs(np.random.default_rng(seed).standard_normal((2, size))).astype(np.float32)


def separate(reference: Any, audio: np.ndarray, condition: np.ndarray) -> Any:
    """Runs a ResUNet30: (batch, time) and (batch, condition) → (batch, time), a tensor."""
    inputs = {"mixture": torch.from_numpy(audio)[:, None], "condition": torch.from_numpy(condition)}
    return reference(inputs)["waveform"][:, 0]


@pytest.fixture(scope="module")
def resunets() -> Pair:
    """Of the soft condition."""
    return make_resunet(527)


@pytest.mark.slow
def test_resunet_variables_are_complete(resunets: Pair) -> None:
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 64_000), (1, 527))]
    expected = jax.eval_shape(resunets.module.init, jax.random.key(0), *inputs)
    assert shapes(resunets.variables) == shapes(expected)


# The frames of 20 001 samples, 63, are padded to 64; the 201 of two seconds to 224.
@pytest.mark.slow
@pytest.mark.parametrize("samples", [20_001, 64_000])
def test_resunet(resunets: Pair, samples: int) -> None:
    audio, condition = sounds(samples), conditions(527)
    with torch.no_grad():
        reference = separate(resunets.reference, audio, condition)
    assert relative_error(resunets.apply(resunets.variables, audio, condition), reference) < 1e-5


@pytest.mark.slow
def test_resunet_with_latent_condition() -> None:
    pair = make_resunet(2048)
    audio, condition = sounds(64_000), conditions(2048)
    with torch.no_grad():
        reference = separate(pair.reference, audio, condition)
    assert relative_error(pair.apply(pair.variables, audio, condition), reference) < 1e-5


@pytest.mark.slow
def test_resunet_comparison_can_fail(resunets: Pair) -> None:
    """A transposed convolution whose four positions are in another order, or another condition, shows."""
    audio, condition = sounds(20_001), conditions(527)
    estimate = resunets.apply(resunets.variables, audio, condition)
    assert relative_error(estimate, audio) > 0.1  # not a mask of ones
    assert relative_error(resunets.apply(resunets.variables, audio, condition[::-1]), estimate) > 1e-2

    kernel = resunets.variables["params"]["up2"]["Dense_0"]["kernel"]
    transposed = kernel.reshape(len(kernel), 2, 2, -1).transpose(0, 2, 1, 3).reshape(kernel.shape)
    shuffled = jax.tree.map(lambda x: transposed if x is kernel else x, resunets.variables)
    assert relative_error(resunets.apply(shuffled, audio, condition), estimate) > 1e-2


@pytest.mark.slow
def test_resunet_training(resunets: Pair) -> None:
    """Gradient of the L1 loss for all parameters, through batch statistics, and the new running statistics."""
    audio, target, condition = sounds(64_000), sounds(64_000, seed=5), conditions(527)

    reference = copy.deepcopy(resunets.reference).train()
    loss = torch.mean(torch.abs(separate(reference, audio, condition) - torch.from_numpy(target)))
    loss.backward()
    grads = {name: value.grad.numpy() for name, value in reference.named_parameters() if value.grad is not None}
    expected = resunet_variables({**state_of(reference), **grads})  # gradients in place of parameters

    def our_loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": resunets.variables["batch_stats"]}
        estimate, updated = resunets.module.apply(variables, audio, condition, train=True, mutable="batch_stats")
        return losses.l1(estimate, target), updated["batch_stats"]

    differentiate = jax.jit(jax.value_and_grad(our_loss, has_aux=True))
    (value, stats), ours = differentiate(resunets.variables["params"])
    assert relative_error(value, loss.item()) < 1e-5
    assert relative_error(flat(ours), flat(expected["params"])) < 1e-3
    # PyTorch multiplies a batch's variance by n / (n - 1), Linen does not; one step carries 1 % of it.
    assert relative_error(flat(stats), flat(expected["batch_stats"])) < 1e-4


# Loss and optimiser


@pytest.mark.parametrize(("ours", "reference"), [("l1", "l1_wav"), ("l1_spectrogram", "l1_wav_l1_sp")])
def test_loss(ours: str, reference: str) -> None:
    """With its gradient; a few bins of these sounds are so soft that the loss on spectrograms ignores them."""
    from uss.losses import get_loss_function

    estimate, target = sounds(20_001, seed=3), sounds(20_001, seed=4)
    tensor = torch.from_numpy(estimate).requires_grad_()
    segments = [{"segment": x[:, None]} for x in (tensor, torch.from_numpy(target))]
    expected = get_loss_function(reference)(*segments)
    expected.backward()
    value, grad = jax.value_and_grad(losses.LOSSES[ours])(jnp.asarray(estimate), jnp.asarray(target))
    assert relative_error(value, expected.detach()) < 1e-5
    assert relative_error(grad, tensor.grad) < 1e-4


def optimiser_pair(params: np.ndarray, amsgrad: bool = True) -> tuple[Any, Any, optax.GradientTransformation]:
    """A PyTorch parameter, the reference's optimiser of it, and ours."""
    tensor = torch.nn.Parameter(torch.from_numpy(params.copy()))
    reference = torch.optim.AdamW([tensor], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=amsgrad)
    config = ml_collections.ConfigDict({"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0})
    config.clip_norm = 0.0
    return tensor, reference, make_optimiser(config, optax.constant_schedule(1e-3))


def test_three_training_steps() -> None:
    """L1 loss of a linear model, its gradient, and what the optimiser makes of it."""
    rng = np.random.default_rng(0)
    weights, inputs, target = (rng.standard_normal(s).astype(np.float32) for s in ((20, 8), (64, 20), (64, 8)))
    tensor, reference, optimiser = optimiser_pair(weights)
    params = jnp.asarray(weights)
    state = optimiser.init(params)
    for _ in range(3):
        reference.zero_grad()
        torch.mean(torch.abs(torch.from_numpy(inputs) @ tensor - torch.from_numpy(target))).backward()
        reference.step()
        grad = jax.grad(lambda p: losses.l1(inputs @ p, target))(params)
        updates, state = optimiser.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        assert relative_error(grad, tensor.grad) < 1e-5
        assert relative_error(params - weights, tensor.detach().numpy() - weights) < 1e-4


def descend(amsgrad: bool, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the two optimisers make of the same gradients, (steps, size), ours and the reference's: (steps, size)."""
    tensor, reference, optimiser = optimiser_pair(np.zeros_like(gradients[0]), amsgrad)
    expected = []
    for grad in gradients:
        tensor.grad = torch.from_numpy(grad)
        reference.step()
        expected.append(tensor.detach().numpy().copy())

    def step(carry: Any, grad: jax.Array) -> Any:
        params, state = carry
        updates, state = optimiser.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = jnp.zeros_like(gradients[0])
    return np.asarray(jax.lax.scan(step, (start, optimiser.init(start)), gradients)[1]), np.stack(expected)


def test_amsgrad_remembers_large_gradients() -> None:
    """Gradients fall to a hundredth after 200 of 1500 steps, so that from there on the greatest moment counts."""
    rng = np.random.default_rng(1)
    gradients = (0.3 + rng.standard_normal((1500, 30))).astype(np.float32)
    gradients[200:] *= 0.01
    ours, reference = descend(True, gradients)
    assert relative_error(ours, reference) < 1e-4
    late = [np.diff(path[1000:], axis=0) for path in (ours, reference, descend(False, gradients)[1])]
    assert relative_error(late[0], late[1]) < 1e-3
    assert relative_error(late[2], late[1]) > 0.1  # plain AdamW, after the same gradients, takes other steps


def test_schedule() -> None:
    from uss.optimizers.lr_schedulers import get_lr_lambda

    reference = get_lr_lambda("constant_warm_up", warm_up_steps=10_000, reduce_lr_steps=1_000_000)
    ours = paper_schedule(1e-3)
    for step in (0, 9_999, 10_000, 19_999, 20_000, 29_999, 30_000, 900_000):
        assert ours(step) == pytest.approx(1e-3 * reference(step), rel=1e-6), step


# Anchors


class Heard(torch.nn.Module):
    """A tagger that hears what it is told."""

    def __init__(self, framewise: np.ndarray) -> None:
        super().__init__()
        self.framewise = torch.from_numpy(framewise)

    def forward(self, input: Any) -> dict[str, Any]:
        """Whatever is played: (curves, frames, 1)."""
        return {"framewise_output": self.framewise[:, :, None]}


def curves(count: int, frames_per_value: int) -> np.ndarray:
    """Random smooth probabilities: (count, 1001), held for so many frames as the tagger's are."""
    rng = np.random.default_rng(frames_per_value)
    noise = rng.standard_normal((count, 1001 + 128))
    kernel = np.hanning(129) / np.sqrt(np.sum(np.hanning(129) ** 2))
    logits = np.stack([np.convolve(row, kernel, mode="valid") for row in noise])
    held = np.arange(1001) // frames_per_value * frames_per_value
    return (1.0 / (1.0 + np.exp(2.0 - 2.0 * logits)))[:, held].astype(np.float32)


@pytest.mark.parametrize("frames_per_value", [1, 32])
def test_anchors(frames_per_value: int) -> None:
    from uss.data.anchor_segment_detectors import AnchorSegmentDetector

    framewise = curves(300, frames_per_value)
    detector = AnchorSegmentDetector(Heard(framewise), 10.0, 2.0, 100, SAMPLE_RATE_HZ, "max_area")
    clips = torch.zeros(1, 10 * SAMPLE_RATE_HZ).expand(len(framewise), -1)
    reference = detector(clips, [0] * len(framewise))["bgn_sample"].numpy() // 320
    ours, confidence = anchors.find(framewise.T, segment_frames=200)
    assert np.mean(ours == reference) >= 0.99
    assert {0, 800} <= set(reference.tolist())  # both ends are reached, where the start is clamped

    scores = np.stack([detector.anchor_segment_scorer(torch.from_numpy(row)).numpy() for row in framewise])
    assert relative_error(confidence, scores.max(axis=1)) < 1e-5
    assert relative_error(anchors.moving_average(framewise.T, 201).T, scores) < 1e-5
