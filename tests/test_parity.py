"""The networks, spectra, optimiser and anchors of this project equal the PyTorch reference's, in fp32 on the CPU."""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import make_golden
import numpy as np
import optax
import pytest
import reference
import seeded
from reference import torch
from seeded import NETWORKS, assert_close, conditions, curves, flat, normal, relative_error, shapes_of, sounds

from uss_jax import anchors, compiling, losses, signal
from uss_jax.pytorch import names
from uss_jax.training.optimiser import paper_schedule

pytestmark = pytest.mark.usefixtures("on_cpu")

MEL = {"sample_rate_hz": seeded.SAMPLE_RATE_HZ, "bands": 64, "low_hz": 50.0, "high_hz": 14_000.0}


# Spectra


@pytest.mark.parametrize(("window", "hop", "samples"), [(1024, 320, 64_000), (2048, 320, 64_000), (2048, 320, 31_337)])
def test_stft(window: int, hop: int, samples: int) -> None:
    from torchlibrosa.stft import STFT

    audio = sounds(samples)
    real, imag = STFT(n_fft=window, hop_length=hop)(torch.from_numpy(audio))
    ours = signal.stft(jnp.asarray(audio), window, hop)
    assert_close(1e-5, ours.real, real[:, 0], f"STFT, window {window}, real")
    assert_close(1e-5, ours.imag, imag[:, 0], f"STFT, window {window}, imaginary")


def test_istft_of_a_changed_spectrum() -> None:
    """A spectrum that is no signal's: how overlapping frames are weighted matters."""
    from torchlibrosa.stft import ISTFT

    rng = np.random.default_rng(0)
    samples = 31_337
    spectrum = np.array(signal.stft(jnp.asarray(sounds(samples)), 2048, 320))
    spectrum *= rng.uniform(0, 1, spectrum.shape).astype(np.float32)
    parts = [torch.from_numpy(np.ascontiguousarray(x))[:, None] for x in (spectrum.real, spectrum.imag)]
    expected = ISTFT(n_fft=2048, hop_length=320)(*parts, samples)
    assert_close(1e-5, signal.istft(jnp.asarray(spectrum), 2048, 320, samples), expected, "ISTFT")


@pytest.mark.parametrize("silent", [False, True])
def test_log_mel(silent: bool) -> None:
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram

    audio = sounds(64_000)
    if silent:
        audio[:, 20_000:] = 0.0
    extract = torch.nn.Sequential(
        Spectrogram(n_fft=1024, hop_length=320),
        LogmelFilterBank(sr=seeded.SAMPLE_RATE_HZ, n_fft=1024, n_mels=64, fmin=50, fmax=14_000, top_db=None),
    )
    expected = extract(torch.from_numpy(audio))[:, 0]
    assert_close(1e-5, signal.log_mel(jnp.asarray(audio), window=1024, hop=320, **MEL), expected, "log-mel")


# Networks


class Pair(NamedTuple):
    """A reference module and the same network here.

    Attributes:
      theirs: PyTorch module, in evaluation mode.
      ours: Linen module.
      variables: its variables, converted.
      apply: `ours.apply`, compiled.
    """

    theirs: Any
    ours: Any
    variables: Any
    apply: Any


def make_pair(name: str) -> Pair:
    ours = NETWORKS[name].module
    return Pair(
        reference.module(name), ours, seeded.variables(name), jax.jit(ours.apply, compiler_options=compiling.options())
    )


@pytest.fixture(scope="module", params=["Cnn14", "Cnn14_DecisionLevelMax"])
def taggers(request: pytest.FixtureRequest) -> Pair:
    """Each PANNs tagger."""
    return make_pair(request.param)


@pytest.fixture(scope="module")
def resunets() -> Pair:
    """Of the soft condition."""
    return make_pair("ResUNet30_soft")


@pytest.mark.parametrize("name", NETWORKS)
def test_variables_are_complete(name: str) -> None:
    network = NETWORKS[name]
    shaped = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in seeded.inputs(network, 64_000)]
    expected = jax.eval_shape(network.module.init, jax.random.key(0), *shaped)
    state = reference.state_of(reference.bare_module(name))
    assert shapes_of(names.to_linen(state, network.tensors)) == shapes_of(expected)


# The frames of 41 000 samples, 129, leave a remainder in every pooling, as do the 201 of 2 s and the 1001 of 10 s.
@pytest.mark.slow
@pytest.mark.parametrize("samples", [41_000, 64_000, 320_000])
def test_tagger(taggers: Pair, samples: int) -> None:
    audio = sounds(samples)
    with torch.no_grad():
        expected = reference.run(taggers.theirs, audio)
    tags = taggers.apply(taggers.variables, audio)
    assert set(expected) in ({"clipwise_output", "embedding"}, {"clipwise_output", "framewise_output"})
    for name, values in expected.items():
        what = f"{type(taggers.ours).__name__}, {samples} samples, {name}"
        assert_close(1e-4, getattr(tags, name.removesuffix("_output")), values, what)


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


# The frames of 20 001 samples, 63, are padded to 64; the 201 of two seconds to 224.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "samples"), [("ResUNet30_soft", 20_001), ("ResUNet30_soft", 64_000), ("ResUNet30_latent", 64_000)]
)
def test_resunet(name: str, samples: int) -> None:
    pair = make_pair(name)
    inputs = seeded.inputs(NETWORKS[name], samples)
    with torch.no_grad():
        expected = reference.run(pair.theirs, *inputs)["waveform"]
    assert_close(1e-5, pair.apply(pair.variables, *inputs), expected, f"{name}, {samples} samples, waveform")


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
    theirs = copy.deepcopy(resunets.theirs)
    loss, gradients = reference.loss_and_gradient(theirs, audio, condition, target)
    expected = names.to_linen(reference.state_of(theirs) | gradients, names.resunet_tensors())

    def our_loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": resunets.variables["batch_stats"]}
        estimate, updated = resunets.ours.apply(variables, audio, condition, train=True, mutable="batch_stats")
        return losses.l1(estimate, target), updated["batch_stats"]

    differentiate = jax.jit(jax.value_and_grad(our_loss, has_aux=True), compiler_options=compiling.options())
    (value, stats), ours = differentiate(resunets.variables["params"])
    assert_close(1e-5, value, loss, "ResUNet30, L1 loss")
    assert_close(1e-3, flat(ours), flat(expected["params"]), "ResUNet30, gradient of the L1 loss")
    # PyTorch multiplies a batch's variance by n / (n - 1), Linen does not; one step carries 1 % of it.
    assert_close(1e-4, flat(stats), flat(expected["batch_stats"]), "ResUNet30, running statistics after a step")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_still_gives_the_golden_numbers(name: str) -> None:
    golden = seeded.golden()
    for key, values in make_golden.outputs(name).items():
        assert_close(1e-5, values, golden[key], key)


# Loss and optimiser


@pytest.mark.parametrize(("ours", "theirs"), [("l1", "l1_wav"), ("l1_spectrogram", "l1_wav_l1_sp")])
def test_loss(ours: str, theirs: str) -> None:
    """With its gradient; a few bins of these sounds are so soft that the loss on spectrograms ignores them."""
    from uss.losses import get_loss_function

    estimate, target = sounds(20_001, seed=3), sounds(20_001, seed=4)
    tensor = torch.from_numpy(estimate).requires_grad_()
    segments = [{"segment": x[:, None]} for x in (tensor, torch.from_numpy(target))]
    loss = get_loss_function(theirs)(*segments)
    loss.backward()
    value, grad = jax.value_and_grad(losses.LOSSES[ours])(jnp.asarray(estimate), target)
    assert_close(1e-5, value, loss.item(), ours)
    assert_close(1e-4, grad, tensor.grad, f"{ours}, gradient")


def descend(gradients: np.ndarray) -> np.ndarray:
    """What our optimiser makes of gradients, (steps, size): parameters after each step, (steps, size)."""
    optimiser = seeded.optimiser()

    def step(carry: Any, grad: jax.Array) -> Any:
        params, state = carry
        updates, state = optimiser.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = jnp.zeros_like(gradients[0])
    return np.asarray(jax.lax.scan(step, (start, optimiser.init(start)), gradients)[1])


def test_amsgrad_remembers_large_gradients() -> None:
    """Gradients fall to a hundredth after 200 of 1500 steps, so that from there on the greatest moment counts."""
    gradients = 0.3 + normal((1500, 30), 1, "gradients")
    gradients[200:] *= 0.01
    start = np.zeros_like(gradients[0])
    ours, theirs = descend(gradients), np.stack(reference.optimise(start, gradients))
    assert_close(1e-4, ours, theirs, "AMSGrad, 1500 steps")
    plain = np.stack(reference.optimise(start, gradients, amsgrad=False))
    late = [np.diff(path[1000:], axis=0) for path in (ours, theirs, plain)]
    assert_close(1e-3, late[0], late[1], "AMSGrad, late steps")
    assert relative_error(late[2], late[1]) > 0.1  # plain AdamW, after the same gradients, takes other steps


def test_three_training_steps() -> None:
    """L1 loss of a linear model, its gradient, and what the optimiser makes of it."""
    weights, inputs, target = (normal(s, 0, name) for s, name in (((20, 8), "w"), ((64, 20), "x"), ((64, 8), "y")))
    tensor = torch.nn.Parameter(torch.from_numpy(weights.copy()))
    theirs = torch.optim.AdamW([tensor], lr=1e-3, weight_decay=0.0, amsgrad=True)
    optimiser, params = seeded.optimiser(), jnp.asarray(weights)
    state = optimiser.init(params)
    for _ in range(3):
        theirs.zero_grad()
        torch.mean(torch.abs(torch.from_numpy(inputs) @ tensor - torch.from_numpy(target))).backward()
        theirs.step()
        grad = jax.grad(lambda p: losses.l1(inputs @ p, target))(params)
        updates, state = optimiser.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        assert_close(1e-5, grad, tensor.grad, "linear model, gradient")
        assert_close(1e-4, params - weights, tensor.detach().numpy() - weights, "linear model, AMSGrad steps")


def test_schedule() -> None:
    from uss.optimizers.lr_schedulers import get_lr_lambda

    factor = get_lr_lambda("constant_warm_up", warm_up_steps=10_000, reduce_lr_steps=1_000_000)
    ours = paper_schedule(1e-3)
    for step in (0, 9_999, 10_000, 19_999, 20_000, 29_999, 30_000, 900_000):
        assert ours(step) == pytest.approx(1e-3 * factor(step), rel=1e-6), step


# Anchors


@pytest.mark.parametrize("frames_per_value", [1, 32])
def test_anchors(frames_per_value: int) -> None:
    framewise = curves(300, frames_per_value)
    expected = reference.anchor_starts(framewise)
    ours, confidence = anchors.find(framewise.T, segment_frames=200)
    print(f"anchors: {np.mean(ours == expected):.4f} are the same, at least 0.99")
    assert np.mean(ours == expected) >= 0.99
    assert {0, 800} <= set(expected.tolist())  # both ends are reached, where the start is clamped

    scorer = reference.anchor_detector(framewise).anchor_segment_scorer
    scores = np.stack([scorer(torch.from_numpy(row)).numpy() for row in framewise])
    assert_close(1e-5, confidence, scores.max(axis=1), "anchors, confidence")
    assert_close(1e-5, anchors.moving_average(framewise.T, 201).T, scores, "moving average")
