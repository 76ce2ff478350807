"""What is compiled for a CPU: convolutions and products by Eigen, and 1×1 convolutions as products."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run

from uss_jax import compiling, parallel
from uss_jax.inference import compiled
from uss_jax.models.layers import conv
from uss_jax.models.resunet import ResUNet

pytestmark = pytest.mark.usefixtures("on_cpu")

SMALL = ResUNet(window=256, hop=64, widths=(16, 16), strides=((2, 2), (2, 2)))


@pytest.fixture
def known() -> dict[str, str]:
    """The options, where this XLA knows them."""
    if not compiling.options():
        pytest.skip("this XLA does not give convolutions to YNNPACK")
    return compiling.options()


def of_ynnpack(program: Any) -> list[str]:
    """What a compiled program leaves to YNNPACK and what has a convolution in it, as text."""
    text = program.as_text()
    names = re.findall(r"calls=(%[\w.\-]+).*__ynn_fusion", text)
    computations = [
        part for part in text.split("\n\n") if part.lstrip().startswith(tuple(f"{name} " for name in names))
    ]
    return [part for part in computations if " convolution(" in part]


def gradient_of_kernels(x: jax.Array, kernel: jax.Array) -> jax.Array:
    def loss(kernel: jax.Array) -> jax.Array:
        return jnp.sum(
            jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        )

    return jax.grad(loss)(kernel)


def test_options_keep_convolutions_from_ynnpack(known):
    arrays = jnp.ones((2, 16, 16, 32)), jnp.ones((3, 3, 32, 32))
    lowered = jax.jit(gradient_of_kernels).lower(*arrays)
    assert of_ynnpack(lowered.compile())  # XLA's own choice; once it is another, the options can go
    assert not of_ynnpack(lowered.compile(known))


def test_inference_is_compiled_with_them(known):
    mixture, condition = np.zeros((1, 4096), np.float32), np.zeros((1, 5), np.float32)
    variables = SMALL.init(jax.random.key(0), mixture, condition)
    assert of_ynnpack(jax.jit(SMALL.apply).lower(variables, mixture, condition).compile())
    assert not of_ynnpack(compiled(SMALL).lower(variables, mixture, condition).compile())


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that no XLA knows, so that whoever compiles with them fails."""
    monkeypatch.setattr(compiling, "options", lambda: {"xla_cpu_no_such_option": "1"})


def test_mining_is_compiled_with_them(unknown):
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        parallel.pmap_inference(lambda variables, batch: batch)(0.0, jnp.zeros((jax.local_device_count(), 1)))


@pytest.mark.slow
def test_training_is_compiled_with_them(tones, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
from uss_jax import compiling
compiling.options = lambda: {"xla_cpu_no_such_option": "1"}
import train
from absl import app
app.run(train.main)
""")
    run = small_run.start(
        [*small_run.prepare(tones.dataset, tmp_path), "--config.steps=2"], tmp_path / "run", 1, program
    )
    assert "no_such_option" in small_run.finish(run, status=1)
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert not metrics.exists() or not metrics.read_text()  # not only when it was evaluated, after the steps


def test_mining_compiles_once():
    x, kernel = jnp.ones((2, 16, 16, 32)), jnp.ones((3, 3, 32, 32))
    seen = []

    def apply(kernel: jax.Array, x: jax.Array) -> jax.Array:
        seen.append(x.shape)
        return gradient_of_kernels(x, kernel)

    run = parallel.pmap_inference(apply)
    for _ in range(2):
        np.testing.assert_allclose(run(kernel, x[None])[0], gradient_of_kernels(x, kernel), rtol=1e-5)
    assert len(seen) == 1  # compiled once


def test_a_convolution_of_one_position_is_a_product():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 7))
    layer = conv(3, (1, 1), use_bias=True, dtype=jnp.float32, name=None)
    variables = layer.init(jax.random.key(1), x)
    assert "convolution" not in jax.jit(layer.apply).lower(variables, x).as_text()
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (1, 1, 7, 3)  # as the reference has it
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-5, atol=1e-6)
