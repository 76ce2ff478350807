"""bfloat16 compute and rematerialisation: what they change, and what they leave as it is."""

import functools
import json
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models import SMALL_TAGGER, initialised, noise

from uss_jax import model_dir
from uss_jax.models.cnn14 import Cnn14, Cnn14DecisionLevelMax, Tags
from uss_jax.models.query import QueryNet
from uss_jax.models.resunet import ResUNet

pytestmark = pytest.mark.usefixtures("on_cpu")  # the errors were measured there

SEPARATOR = ResUNet(window=128, hop=64, widths=(4, 4, 4), strides=((1, 1),) * 3)
FIELDS = SMALL_TAGGER | {"widths": (4, 6), "block_dropout": 0.0, "head_dropout": 0.0}
TAGGER = Cnn14DecisionLevelMax(**FIELDS)
MODULES = [SEPARATOR, TAGGER]
# That XLA's CPU compiler orders operations for little memory, as it does on accelerators, rather than for threads.
FOR_MEMORY = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


KEYS = {"augment": jax.random.key(1), "dropout": jax.random.key(2)}


def inputs(module: nn.Module) -> tuple[np.ndarray, ...]:
    """A batch of two."""
    return (noise(2, 2001), noise(2, 7)) if isinstance(module, ResUNet) else (noise(2, 8000),)


@functools.cache
def variables_of(module: nn.Module) -> Any:
    return initialised(module, *inputs(module))


def main_output(outcome: Any) -> jax.Array:
    """A separator's waveforms, a tagger's logits."""
    return outcome.logits if isinstance(outcome, Tags) else outcome


@functools.cache
def evaluated(module: nn.Module) -> Any:
    """What it gives, not in training."""
    return jax.jit(module.apply)(variables_of(module.clone(dtype=jnp.float32)), *inputs(module))


def loss(module: nn.Module, params: Any, statistics: Any, keys: Any, *args: Any) -> Any:
    """Of a training pass; besides, the outcome and the new statistics."""
    outcome, updated = module.apply(
        {"params": params, "batch_stats": statistics},
        *args,
        train=True,
        rngs=keys,
        mutable=["batch_stats"],
    )
    return jnp.mean(main_output(outcome) ** 2), (outcome, updated["batch_stats"])


@functools.cache
def trained(module: nn.Module) -> tuple[Any, Any, Any, int]:
    """Gradient, outcome and new statistics of a training pass, and the bytes that it needs besides them."""
    variables = variables_of(module.clone(dtype=jnp.float32, rematerialise=False))
    args = (variables["params"], variables["batch_stats"], KEYS, *inputs(module))
    gradient = jax.jit(jax.grad(functools.partial(loss, module), has_aux=True))
    compiled = gradient.lower(*args).compile(compiler_options=FOR_MEMORY)
    found, (outcome, statistics) = compiled(*args)
    return found, outcome, statistics, compiled.memory_analysis().temp_size_in_bytes


def kept_bytes(module: nn.Module) -> int:
    """Size of what the forward pass keeps for the backward pass."""
    variables = variables_of(module.clone(rematerialise=False))

    def residuals(params: Any, *args: Any) -> Any:
        return jax.vjp(lambda params: loss(module, params, *args)[0], params)[1]

    kept = jax.eval_shape(residuals, variables["params"], variables["batch_stats"], KEYS, *inputs(module))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def error(found: Any, expected: Any) -> float:
    """The distance of two trees over the length of the second."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    distance = sum(np.sum(np.square(np.asarray(a, np.float64) - b)) for a, b in pairs)
    return float(np.sqrt(distance / sum(np.sum(np.square(b, dtype=np.float64)) for _, b in pairs)))


def dtypes(tree: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


# bfloat16


@pytest.mark.parametrize("module", MODULES)
def test_parameters_and_statistics_stay_float32(module):
    """They, and what goes out, and gradients."""
    half = module.clone(dtype=jnp.bfloat16)
    assert jax.eval_shape(half.init, jax.random.key(0), *inputs(module)) == jax.eval_shape(
        module.init, jax.random.key(0), *inputs(module)
    )
    gradient, outcome, statistics, _ = trained(half)
    assert dtypes((gradient, outcome, statistics)) == {"float32"}


@pytest.mark.parametrize(("module", "bound"), [(SEPARATOR, 0.024), (TAGGER, 0.0052), (Cnn14(**FIELDS), 0.0058)])
def test_bfloat16_gives_nearly_the_same(module, bound):
    """Within twice the relative error that was measured on this input."""
    exact, half = (main_output(evaluated(module.clone(dtype=dtype))) for dtype in (jnp.float32, jnp.bfloat16))
    assert 0 < error(half, exact) < bound


@pytest.mark.parametrize(("module", "bound"), [(SEPARATOR, 6e-4), (TAGGER, 3e-5)])
def test_statistics_of_bfloat16_are_nearly_the_same(module, bound):
    """What a training step adds to them, within twice the relative error that was measured on this input."""
    before = variables_of(module)["batch_stats"]
    exact, half = (
        jax.tree.map(np.subtract, trained(module.clone(dtype=dtype))[2], before)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert 0 < error(half, exact) < bound


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("module", [*MODULES, Cnn14(**FIELDS)])
def test_convolutions_compute_in_the_type(module, dtype):
    """All of them."""
    text = jax.jit(module.clone(dtype=jnp.dtype(dtype)).apply).lower(variables_of(module), *inputs(module)).as_text()
    types = re.findall(r"stablehlo\.convolution.*-> tensor<[0-9x]+x(\w+)>", text)
    assert set(types) == {{"float32": "f32", "bfloat16": "bf16"}[dtype]}
    assert len(types) == text.count("stablehlo.convolution(")


def test_a_query_net_computes_in_the_type_and_gives_float32():
    tags = Tags(noise(2, 5), noise(2, 5))
    exact = QueryNet(adaptor_size=3, hidden=4)
    variables = initialised(exact, tags)
    half = exact.clone(dtype=jnp.bfloat16).apply(variables, tags)
    assert half.dtype == jnp.float32
    assert 0 < error(half, exact.apply(variables, tags)) < 0.0043  # twice what was measured


# Rematerialisation


@pytest.mark.parametrize("module", MODULES)
def test_rematerialisation_changes_no_gradient(module):
    again = module.clone(rematerialise=True)
    shapes = [jax.eval_shape(m.init, jax.random.key(0), *inputs(module)) for m in (module, again)]
    assert shapes[0] == shapes[1]
    for kept, made_again in zip(jax.tree.leaves(trained(module)[:3]), jax.tree.leaves(trained(again)[:3]), strict=True):
        np.testing.assert_allclose(made_again, kept, rtol=1e-5, atol=1e-5 * np.abs(kept).max())


@pytest.mark.parametrize("module", MODULES)
def test_rematerialisation_keeps_less_for_the_backward_pass(module):
    assert kept_bytes(module.clone(rematerialise=True)) < kept_bytes(module) / 2


def test_rematerialisation_needs_less_memory():
    """Of the compiled gradient: a sixth less was measured. XLA's CPU compiler reorders what is made again."""
    assert trained(SEPARATOR.clone(rematerialise=True))[3] < 0.9 * trained(SEPARATOR)[3]


# Configurations


@pytest.mark.parametrize("field", model_dir.RUN_FIELDS)
@pytest.mark.parametrize("part", ["tagger", "separator", "query"])
def test_a_model_does_not_say_how_a_run_computes(part, field):
    config = json.loads((model_dir.bundled()["tiny"] / "config.json").read_text())
    model_dir.build_networks(config, {})
    config[part][field] = "bfloat16"
    with pytest.raises(ValueError, match=f"has no field '{field}'"):
        model_dir.build_networks(config, {})
