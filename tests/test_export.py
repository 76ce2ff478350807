"""The separator within other programs: a function under JAX's transformations, and StableHLO without the package."""

import re
import resource
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import SMALL

from uss_jax import audioset, model_dir, stablehlo
from uss_jax.inference import Inference

WITHOUT_PACKAGES = """
import importlib.abc, pathlib, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("uss_jax", "flax", "librosa", "soundfile", "safetensors"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
try:
    import uss_jax
except ImportError:
    pass
else:
    sys.exit("the package is there")
import jax.export
import numpy as np
folder = pathlib.Path(sys.argv[1])
separate = jax.export.deserialize(folder.joinpath("separator.stablehlo").read_bytes()).call
with np.load(folder / "in.npz") as arrays:
    mixtures, conditions = arrays["mixtures"], arrays["conditions"]
np.savez(folder / "out.npz", whole=separate(mixtures, conditions), one=separate(mixtures[:1], conditions[:1]))
"""


@pytest.fixture(scope="module")
def networks() -> model_dir.Networks:
    """A small model, its weights and statistics random."""
    random = np.random.default_rng(1)
    built = model_dir.build_networks(SMALL, {})
    shapes = model_dir.variable_shapes(built)
    limits = {"params": (-0.1, 0.1), "batch_stats": (0.5, 1.5)}
    variables = {
        part: {
            kind: jax.tree.map(lambda x, of=limits[kind]: random.uniform(*of, x.shape).astype(np.float32), tree)
            for kind, tree in trees.items()
        }
        for part, trees in shapes.items()
    }
    return model_dir.build_networks(SMALL, variables)


@pytest.fixture(scope="module")
def exported(networks) -> jax.export.Exported:
    return stablehlo.export(networks)


def inputs(networks: model_dir.Networks, batch: int, samples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    mixtures = random.normal(0, 0.1, (batch, samples or networks.segment_samples))
    return mixtures.astype(np.float32), random.uniform(0, 1, (batch, networks.condition_size)).astype(np.float32)


# The program


@pytest.mark.usefixtures("on_cpu")
def test_the_file_gives_the_model_s_numbers_where_no_package_is_installed(tmp_path):
    """The bundled model, for two sizes of the batch."""
    tiny = model_dir.load("tiny")
    mixtures, _ = inputs(tiny, 3)
    heard_in_noise = [
        tiny.config["classes"].index(audioset.find_class(name).index) for name in ("Rain", "Water", "Fire")
    ]
    conditions = tiny.class_conditions[heard_in_noise]
    np.savez(tmp_path / "in.npz", mixtures=mixtures, conditions=conditions)
    stablehlo.write(tmp_path / "separator.stablehlo", stablehlo.export(tiny))
    command = [sys.executable, "-c", WITHOUT_PACKAGES, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    expected = Inference(tiny).separate(mixtures, conditions)
    assert np.abs(expected).max() > 0.01
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["whole"], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(arrays["one"], expected[:1], rtol=0, atol=1e-6)


def test_one_program_runs_on_all_platforms_with_any_batch(networks, exported):
    assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")
    assert [str(shape) for shape in exported.in_avals] == ["float32[batch,8000]", "float32[batch,527]"]
    assert [str(shape) for shape in exported.out_avals] == ["float32[batch,8000]"]


def test_everything_is_float32_on_every_platform(networks, exported):
    """No type has fewer bits, and no convolution or matrix product may use fewer."""
    text = exported.mlir_module()
    types = set(re.findall(r"tensor<(?:[\d?x]+x)?(\w+|complex<\w+>)>", text))
    assert {kind for kind in types if not kind.startswith(("i", "ui"))} == {"f32", "complex<f32>"}
    operations = re.findall(r"stablehlo\.(convolution|dot_general)\W.*", text)
    assert {"convolution", "dot_general"} == set(operations)
    assert text.count("precision HIGHEST>, #stablehlo<precision HIGHEST>]") == operations.count("convolution")
    assert text.count("precision = [HIGHEST, HIGHEST]") == operations.count("dot_general")
    spectra = re.findall(r"stablehlo\.fft .*: \(tensor<[\d?x]+x(\S+)>\) -> tensor<[\d?x]+x(\S+)>", text)
    assert set(spectra) == {("f32", "complex<f32>"), ("complex<f32>", "f32")}


def test_mixtures_may_have_another_length(networks):
    mixtures, conditions = inputs(networks, 2, samples=4321)
    found = stablehlo.export(networks, samples=4321).call(mixtures, conditions)
    np.testing.assert_allclose(found, Inference(networks).separate(mixtures, conditions), rtol=0, atol=1e-6)


def test_what_cannot_be_exported_is_named(networks):
    config = {name: part for name, part in SMALL.items() if name not in ("query", "separator")}
    with pytest.raises(ValueError, match="the model 'small' tags and does not separate"):
        stablehlo.export(model_dir.build_networks(config, {}))
    with pytest.raises(ValueError, match="100 samples, but a window of 512"):
        stablehlo.export(networks, samples=100)


def test_a_file_is_written_whole_or_not_at_all(exported, tmp_path):
    path = tmp_path / "separator.stablehlo"
    stablehlo.write(path, exported)
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(OSError, match="File too large"):
            stablehlo.write(path, exported)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
    assert jax.export.deserialize(whole).mlir_module() == exported.mlir_module()


# The function


def test_it_may_be_jitted_and_vmapped(networks):
    separate = stablehlo.function(networks)
    mixtures, conditions = inputs(networks, 6)
    expected = Inference(networks).separate(mixtures, conditions)
    found = jax.jit(jax.vmap(separate))(mixtures.reshape(2, 3, -1), conditions.reshape(2, 3, -1))
    np.testing.assert_allclose(found.reshape(6, -1), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(separate(mixtures, conditions), expected, rtol=0, atol=1e-6)


def test_its_gradient_is_that_of_finite_differences(networks):
    """Of the energy of what is separated, with respect to condition and mixture."""
    separate = stablehlo.function(networks)
    arguments = inputs(networks, 2)

    @jax.jit
    def energy(mixtures: jax.Array, conditions: jax.Array) -> jax.Array:
        return jnp.sum(separate(mixtures, conditions) ** 2)

    gradients = jax.jit(jax.grad(energy, argnums=(0, 1)))(*arguments)
    for number, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        assert np.isfinite(gradient).all()
        step = 1e-4 * np.linalg.norm(argument) * gradient / np.linalg.norm(gradient)  # the steepest way
        ends = [
            energy(*(value + sign * step if i == number else value for i, value in enumerate(arguments)))
            for sign in (1, -1)
        ]
        expected = 2 * np.sum(gradient * step)
        assert expected > 0
        np.testing.assert_allclose(ends[0] - ends[1], expected, rtol=0.02)


def test_it_computes_in_float32_whatever_the_caller_s_default(networks):
    with jax.default_matmul_precision("bfloat16"):
        text = jax.jit(stablehlo.function(networks)).lower(*inputs(networks, 1)).as_text()
    assert text.count("stablehlo.dot_general") == text.count("precision = [HIGHEST, HIGHEST]") > 0
