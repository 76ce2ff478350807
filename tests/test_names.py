"""State dicts and Linen trees: the mapping is complete, exact, and goes both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seeded
from seeded import NETWORKS

from uss_jax.models.query import QueryNet
from uss_jax.pytorch import names


@pytest.mark.parametrize("name", ["Cnn14", "ResUNet30_soft"])
def test_there_and_back_changes_no_bit(name):
    tensors = NETWORKS[name].tensors
    state = seeded.draw(NETWORKS[name])
    variables = names.to_linen(state, tensors)
    back = names.to_torch(variables, tensors)
    assert list(back) == list(state)
    used = [tensor.name for tensor in tensors if tensor.unused is None]
    for key in used:
        np.testing.assert_array_equal(back[key], state[key])
    jax.tree.map(np.testing.assert_array_equal, names.to_linen(back, tensors), variables)


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name)


@pytest.mark.parametrize(
    ("name", "trained", "stored"),
    [("ResUNet30_soft", 25_747_781, 26_595_781), ("ResUNet30_latent", 38_305_157, 41_586_757)],
)
def test_parameters_are_as_many_as_the_references(name, trained, stored):
    """The reference's files also hold a BatchNorm and a FiLM in each decoder block that it never uses."""
    network = NETWORKS[name]
    shaped = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in seeded.inputs(network, 64_000, 1)]
    variables = jax.eval_shape(network.module.init, jax.random.key(0), *shaped)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == trained
    assert count(names.torch_shapes(variables, network.tensors)) == stored


def test_what_the_reference_never_uses_is_written_as_neutral():
    variables = seeded.variables("ResUNet30_soft")
    state = names.to_torch(variables, names.resunet_tensors())
    block = "base.decoder_block2.bn2"
    for name, value in {"weight": 1.0, "running_var": 1.0, "bias": 0.0, "running_mean": 0.0}.items():
        np.testing.assert_array_equal(state[f"{block}.{name}"], np.full(384, value, np.float32))
    assert not state["film.decoder_block2->beta2.weight"].any()


def test_a_transposed_convolution_keeps_the_place_of_every_number():
    """Each input channel's p × q block of each output channel lands where `layers.unfold` looks for it."""
    weight = np.arange(3 * 5 * 2 * 4, dtype=np.float32).reshape(3, 5, 2, 4)  # in, out, time, frequency
    kernel = names.LAYOUTS["upsample"].to_linen(weight)
    for i, out, p, q in np.ndindex(weight.shape):
        assert kernel[i, (p * 4 + q) * 5 + out] == weight[i, out, p, q]
    np.testing.assert_array_equal(names.LAYOUTS["upsample"].to_torch(kernel, (2, 4)), weight)


def test_an_adaptor_computes_what_its_two_linear_layers_do():
    sizes = {"fc1": (6, 4), "fc2": (3, 6)}
    state = {
        f"{name}.{kind}": seeded.normal(shape if kind == "weight" else shape[:1], 0, name + kind)
        for name, shape in sizes.items()
        for kind in ("weight", "bias")
    }
    x = expected = seeded.normal((2, 4), 0, "x")
    for name in sizes:
        expected = expected @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        expected = np.where(expected > 0, expected, 0.01 * expected)
    variables = names.to_linen(state, names.adaptor_tensors())
    found = QueryNet("soft", adaptor_size=3, hidden=6).apply(variables, seeded.tags(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
