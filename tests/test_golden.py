"""The numbers of the PyTorch reference, kept in golden.npz: parity where neither PyTorch nor the reference is there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import seeded
from seeded import NETWORKS, assert_close, conditions, curves, normal, relative_error, sounds, subset

from uss_jax import anchors, compiling, losses, signal
from uss_jax.models.cnn14 import Tags

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return seeded.golden()


def outputs_of(name: str, variables: Any) -> dict[str, np.ndarray]:
    """What a network here makes of the sounds of the golden file, by the reference's names."""
    network = NETWORKS[name]
    found = jax.jit(network.module.apply, compiler_options=compiling.options())(
        variables, *seeded.inputs(network, 64_000)
    )
    if not isinstance(found, Tags):
        return {"waveform": found}
    return {
        "clipwise_output": found.clipwise,
        "embedding": found.embedding,
        "framewise_output": found.framewise,
    }


def test_spectra(golden):
    audio = jnp.asarray(sounds(64_000))
    spectrum = signal.stft(audio, 2048, 320)
    mel = {"sample_rate_hz": seeded.SAMPLE_RATE_HZ, "bands": 64, "low_hz": 50.0, "high_hz": 14_000.0}
    found = {
        "real": spectrum.real,
        "imag": spectrum.imag,
        "log_mel": signal.log_mel(audio, window=1024, hop=320, **mel),
    }
    for name, values in found.items():
        assert_close(1e-5, subset(name, values), golden[f"spectra/{name}"], name)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(golden, name):
    expected = {key.partition("/")[2]: value for key, value in golden.items() if key.startswith(f"{name}/")}
    found = outputs_of(name, seeded.variables(name))
    assert expected
    for key, values in expected.items():
        assert np.std(values) > 1e-3  # neither silent nor saturated
        assert_close(1e-5 if key == "waveform" else 1e-4, subset(key, found[key]), values, f"{name}, {key}")


def test_a_changed_network_is_noticed(golden):
    """With one convolution's input channels in another order the outputs are far from the golden ones."""
    variables = seeded.variables("Cnn14")
    convolution = variables["params"]["block2"]["conv1"]
    convolution["kernel"] = np.flip(convolution["kernel"], axis=2)
    found = outputs_of("Cnn14", variables)["clipwise_output"]
    assert relative_error(subset("clipwise_output", found), golden["Cnn14/clipwise_output"]) > 1e-2


@pytest.mark.slow
def test_loss_and_gradient(golden):
    module, variables = NETWORKS["ResUNet30_soft"].module, seeded.variables("ResUNet30_soft")

    def loss(params: Any) -> jax.Array:
        inputs = (sounds(64_000), conditions(527))
        estimate, _ = module.apply(variables | {"params": params}, *inputs, train=True, mutable="batch_stats")
        return losses.l1(estimate, sounds(64_000, seed=5))

    value, gradient = jax.jit(jax.value_and_grad(loss), compiler_options=compiling.options())(variables["params"])
    assert_close(1e-5, value, golden["training/loss"], "loss")
    assert_close(1e-3, subset("gradient", seeded.flat(gradient)), golden["training/gradient"], "gradient")


def test_three_steps_of_amsgrad(golden):
    optimiser = seeded.optimiser()
    params = start = jnp.asarray(normal((200,), 0, "start"))
    state = optimiser.init(params)
    for gradient, expected in zip(normal((3, 200), 0, "gradients"), golden["training/steps"], strict=True):
        updates, state = optimiser.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        assert_close(1e-3, params - start, expected - start, "AMSGrad")


@pytest.mark.parametrize("frames_per_value", [1, 32])
def test_anchors(golden, frames_per_value):
    starts, _ = anchors.find(curves(300, frames_per_value).T, segment_frames=200)
    assert np.mean(starts == golden[f"anchors/{frames_per_value}"]) >= 0.99
