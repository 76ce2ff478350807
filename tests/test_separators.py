"""Laws that every separator of the registry keeps, on small ones with random weights, and what each can learn."""

import dataclasses
import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import band_noise
from flax import traverse_util
from jax.flatten_util import ravel_pytree
from test_models import drawn, initialised, noise, parameter_count
from test_training import SMALL

from uss_jax import model_dir, signal
from uss_jax.losses import negative_sdr
from uss_jax.models.conv_tasnet import ConvTasNet, Depthwise
from uss_jax.models.layers import NormFilm
from uss_jax.models.open_unmix import OpenUnmix
from uss_jax.models.registry import SEPARATORS
from uss_jax.models.resunet import ResUNet
from uss_jax.models.separator import SpectrumSeparator
from uss_jax.models.unet import UNet
from uss_jax.pytorch import convert
from uss_jax.separation import Model

pytestmark = pytest.mark.usefixtures("on_cpu")  # the errors were measured there

SPECTRUM = {"window": 256, "hop": 64, "normalise_level": True}
U_SHAPED = SPECTRUM | {"widths": (4,), "strides": ((2, 2),)}
FIELDS: dict[str, dict[str, Any]] = {
    "resunet": U_SHAPED,
    "unet": U_SHAPED,
    "conv_tasnet": SPECTRUM | {"filters": 24, "kernel": 16, "bottleneck": 8, "hidden": 12, "blocks": 2, "repeats": 2},
    "open_unmix": SPECTRUM | {"hidden": 8, "layers": 1, "bandwidth_hz": 12_000},
}
VARIANTS = {"resunet60 with film_scale": ("resunet", {"blocks_per_level": 2, "film_scale": True})}
NAMES = [*SEPARATORS, *VARIANTS]
SAMPLES = 2_345  # no multiple of a hop or of a stride
MIXTURES, CONDITIONS = noise(2, SAMPLES), noise(2, 7, seed=1)
# Programs that run once or twice on little are made faster than they are made fast.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def named(name: str, **fields: Any) -> Any:
    """A small separator of the registry, or a variant of one."""
    kind, change = VARIANTS.get(name, (name, {}))
    return SEPARATORS[kind](**FIELDS[kind] | change | fields)


@functools.cache
def variables_of(name: str) -> Any:
    """All parameters at random, for conditions of 7 numbers."""
    return initialised(named(name), MIXTURES, CONDITIONS)


@functools.cache
def compiled(module: nn.Module, method: str | None = None) -> Any:
    """`module.apply`, compiled once for all that ask."""
    return jit(functools.partial(module.apply, method=method))


def separated(name: str, mixture: Any, condition: Any, **fields: Any) -> np.ndarray:
    return np.asarray(compiled(named(name, **fields))(variables_of(name), mixture, condition))


@functools.cache
def gradient_function(module: nn.Module) -> Any:
    """Of a training pass's squared error: by the parameters and the condition; beside it the estimate."""

    def error(params: Any, condition: Any, statistics: Any, mixture: Any, target: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        estimate, _ = module.apply(variables, mixture, condition, train=True, mutable=["batch_stats"])
        return jnp.mean((estimate - target) ** 2), estimate

    return jit(jax.grad(error, argnums=(0, 1), has_aux=True))


def gradients(name: str, mixture: np.ndarray, **fields: Any) -> Any:
    variables = variables_of(name)
    arguments = (variables["params"], CONDITIONS, variables["batch_stats"], mixture, noise(2, SAMPLES, seed=2))
    return gradient_function(named(name, **fields))(*arguments)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_every_separator_of_the_registry_is_tested():
    assert set(FIELDS) == set(SEPARATORS)


# What goes in and what comes out


@pytest.mark.parametrize("name", NAMES)
def test_an_estimate_has_the_mixtures_shape(name):
    module = named(name)
    for shape in ((1, 129), (2, 12_345), (3, 16_000)):
        inputs = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((shape[0], 7), jnp.float32))
        estimate = jax.eval_shape(module.apply, variables_of(name), *inputs)
        assert (estimate.shape, estimate.dtype) == (shape, jnp.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_shape_is_named(name):
    for mixture, condition in (((2, 300), (1, 7)), ((300,), (1, 7)), ((2, 300, 1), (2, 7)), ((2, 300), (7,))):
        with pytest.raises(ValueError, match=re.escape(f"{mixture} and {condition}")):
            named(name).apply(variables_of(name), np.zeros(mixture), np.zeros(condition))


@pytest.mark.parametrize("name", NAMES)
def test_silence_has_a_finite_estimate_and_gradient(name):
    found = gradients(name, np.zeros_like(MIXTURES))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_depends_on_its_own_mixture_and_condition(name):
    found = separated(name, MIXTURES, CONDITIONS)
    assert np.isfinite(found).all()
    others = np.stack([MIXTURES[0], MIXTURES[0]]), np.stack([CONDITIONS[0], CONDITIONS[0]])
    np.testing.assert_allclose(separated(name, *others)[0], found[0], atol=1e-6)
    for mixture, condition in ((MIXTURES, others[1]), (others[0], CONDITIONS)):
        assert relative_error(separated(name, mixture, condition)[1], found[1]) > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_everything_learns(name):
    """The condition has a gradient, and so has every parameter."""
    (of_params, of_condition), estimate = gradients(name, MIXTURES)
    assert np.isfinite(estimate).all()
    assert np.all(np.linalg.norm(of_condition, axis=1) > 0.0)
    zero = [path for path, leaf in traverse_util.flatten_dict(of_params, sep="/").items() if not np.any(leaf)]
    assert zero == []


@pytest.mark.parametrize("name", SEPARATORS)
def test_a_gain_on_the_input_is_the_same_gain_on_the_output_of_a_normalised_level(name):
    gains = np.array([[7.0], [0.2]], np.float32)

    def error(**fields: Any) -> float:
        loud, usual = (separated(name, x, CONDITIONS, **fields) for x in (gains * MIXTURES, MIXTURES))
        return relative_error(loud, gains * usual)

    assert error() < 1e-4
    assert error(normalise_level=False) > 1e-3


# Masks


@pytest.mark.parametrize("name", SEPARATORS)
def test_masks_are_what_separates(name):
    """Those of a waveform make its windows' spectra the estimate's, unless these are more than the mixture's."""
    module, variables = named(name, normalise_level=False), variables_of(name)
    masks_of = compiled(module, "masks")
    estimate = separated(name, MIXTURES, CONDITIONS, normalise_level=False)
    if isinstance(module, SpectrumSeparator):
        assert not module.on_waveforms
        spectrum = jit(signal.stft, static_argnums=(1, 2))(MIXTURES, module.window, module.hop)
        masks = masks_of(variables, np.maximum(np.abs(spectrum), 1e-5), CONDITIONS)
        found = jit(signal.istft, static_argnums=(1, 2, 3))(spectrum * masks, module.window, module.hop, SAMPLES)
        np.testing.assert_allclose(found, estimate, atol=1e-5)
    else:
        assert module.on_waveforms
        masks = masks_of(variables, MIXTURES, CONDITIONS)
        spectrum, expected = (signal.spectra(x, module.window, module.hop) for x in (MIXTURES, estimate))
        assert masks.shape == spectrum.shape
        free = np.abs(masks) < 0.999
        assert free.mean() > 0.1
        np.testing.assert_allclose((spectrum * masks)[free], expected[free], atol=1e-4)
        assert not np.any(masks_of(variables, np.zeros_like(MIXTURES), CONDITIONS))
    assert masks.dtype == jnp.complex64
    if not isinstance(module, OpenUnmix):
        assert np.abs(masks).max() <= 1.0 + 1e-5


# Precision and memory


@pytest.mark.parametrize("name", SEPARATORS)
def test_bfloat16_is_inside_only(name):
    module = named(name, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(module.init, jax.random.key(0), MIXTURES, CONDITIONS)
    assert shapes == jax.eval_shape(named(name).init, jax.random.key(0), MIXTURES, CONDITIONS)
    exact, half = (separated(name, MIXTURES, CONDITIONS, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    assert half.dtype == np.float32
    assert 0.0 < relative_error(half, exact) < 0.05


@pytest.mark.parametrize("name", SEPARATORS)
def test_rematerialisation_changes_no_gradient(name):
    kept, again = (gradients(name, MIXTURES, rematerialise=value)[0] for value in (False, True))
    assert jax.tree.structure(kept) == jax.tree.structure(again)
    assert relative_error(ravel_pytree(again)[0], ravel_pytree(kept)[0]) < 1e-5


# Sizes, and what single networks are made of


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (ResUNet(), 25_747_781),
        (ResUNet(film_scale=True), 30_106_949),
        (ResUNet(blocks_per_level=2), 45_205_061),
        (UNet(), 24_179_045),
        (ConvTasNet(), 17_916_416),
        (OpenUnmix(), 6_847_494),
    ],
)
def test_sizes_at_the_papers_scale(module, count):
    assert parameter_count(module, (1, 64_000), (1, 527)) == count


@pytest.mark.parametrize(
    ("blocks_per_level", "count"), [(1, 34), (2, 60)]
)  # ResUNet30 counts the 30 of encoder and decoder
def test_resunet60_has_60_convolutions(blocks_per_level, count):
    """All that are on the signal's way: not the shortcuts of its blocks, nor what the condition goes through."""
    module = ResUNet(blocks_per_level=blocks_per_level)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64_000)), jnp.zeros((1, 527)))
    kernels = [path for path in traverse_util.flatten_dict(shapes["params"]) if path[-1] == "kernel"]
    assert len([path for path in kernels if not {"film", "shortcut"} & set(path)]) == count


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 5, 4, 3)])
def test_film_scales_and_shifts_each_channel_of_each_row(shape):
    """And at first it only shifts."""
    x = noise(*shape)
    module = NormFilm(0.9, None, jnp.float32, film_scale=True, activation=nn.relu)
    at_first = jit(module.init, static_argnums=3)(jax.random.key(0), x, CONDITIONS, False)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(at_first["params"]["film_scale"]))
    variables = drawn(at_first)
    params = variables["params"]
    scale, shift = (CONDITIONS @ params[name]["kernel"] + params[name]["bias"] for name in ("film_scale", "film"))
    normalised = x / np.sqrt(1 + 1e-5) * params["bn"]["scale"] + params["bn"]["bias"]
    expected = [np.maximum(row * (1 + a) + b, 0.0) for row, a, b in zip(normalised, scale, shift, strict=True)]
    found = jit(module.apply, static_argnums=3)(variables, x, CONDITIONS, False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 4, 40])
def test_depthwise_is_a_grouped_convolution(dilation):
    x = noise(2, 30, 5)
    module = Depthwise(dilation)
    variables = initialised(module, x)
    expected = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"][:, None, :],
        window_strides=(1,),
        padding=[(dilation, dilation)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=5,
    )
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


def test_a_kernel_that_has_no_half_is_refused():
    with pytest.raises(ValueError, match="a kernel of 15 samples: expected an even number"):
        named("conv_tasnet", kernel=15).init(jax.random.key(0), MIXTURES, CONDITIONS)


def test_open_unmix_looks_at_its_band_alone():
    """12 of 16 kHz, of bins 125 Hz apart; its mask is real, not negative, and goes all the way up."""
    module = named("open_unmix", normalise_level=False)
    magnitude = np.abs(noise(1, 20, 129))
    above = magnitude.copy()
    above[..., 97:] = 0.0
    masks, same = (
        np.asarray(compiled(module, "masks")(variables_of("open_unmix"), x, CONDITIONS[:1])) for x in (magnitude, above)
    )
    np.testing.assert_array_equal(masks, same)
    assert masks.shape == magnitude.shape
    assert not masks.imag.any()
    assert masks.real.min() >= 0.0
    assert masks[..., 97:].any()


# Models


def small_model(separator: dict[str, Any]) -> Model:
    """Of random weights."""
    config = SMALL | {"separator": separator}
    networks = model_dir.build_networks(config, {})
    shapes = model_dir.variable_shapes(networks)
    return Model(model_dir.build_networks(config, drawn(shapes)))


@pytest.mark.parametrize("kind", SEPARATORS)
def test_a_model_of_each_kind_is_kept_and_separates(kind, tmp_path):
    model = small_model({"kind": kind, **FIELDS[kind], "film_scale": True})
    model_dir.save(tmp_path / "model", model.networks, "")
    loaded = Model.load(tmp_path / "model")
    assert loaded.networks.separator == model.networks.separator
    jax.tree.map(np.testing.assert_array_equal, loaded.networks.variables, model.networks.variables)

    mixture = 0.1 * noise(160_000)
    wish = {"a": np.full(527, 0.5, np.float32), "b": np.linspace(0, 1, 527, dtype=np.float32)}
    result = loaded.separate(mixture, 32_000, embedding=wish)
    stems = [stem.audio for stem in result.stems.values()]
    assert [stem.shape for stem in stems] == [mixture.shape] * 2
    assert all(np.abs(stem).max() > 1e-3 for stem in stems)
    assert relative_error(*stems) > 1e-3
    np.testing.assert_allclose(sum(stems) + result.residual, mixture, atol=1e-6)


def test_a_recording_in_blocks_is_the_recording_as_a_whole_on_waveforms_too(monkeypatch):
    """But for its level, which is a block's own."""
    model = small_model({"kind": "conv_tasnet", **FIELDS["conv_tasnet"], "normalise_level": False})
    samples, wish = noise(50_000), np.full(527, 0.5, np.float32)
    in_blocks = model.separate(samples, 32_000, embedding=wish).stems["query"].audio
    grid = model._grid()
    whole_grid = dataclasses.replace(grid, core=grid.core * 8)
    assert whole_grid.core * grid.hop > len(samples)
    monkeypatch.setattr(Model, "_grid", lambda _: whole_grid)
    monkeypatch.setattr("uss_jax.listening.margin_s", lambda _: 3)
    whole = model.separate(samples, 32_000, embedding=wish).stems["query"].audio
    assert relative_error(in_blocks, whole) < 1e-4


@pytest.mark.parametrize(
    ("part", "fields", "problem"),
    [
        *(
            ("separator", {"kind": kind}, f"the reference has only ResUNet, this is a {SEPARATORS[kind].__name__}")
            for kind in SEPARATORS
            if kind != "resunet"
        ),
        ("separator", {"kind": "resunet", "blocks_per_level": 2}, "blocks_per_level is 2; the reference has only 1"),
        ("separator", {"kind": "resunet", "film_scale": True}, "film_scale is True; the reference has only False"),
        ("query", {"kind": "hard"}, "the reference has only soft and latent, this is hard"),
    ],
)
def test_the_reference_has_none_but_resunet30_with_its_queries(part, fields, problem, tmp_path):
    config = SMALL | {"tagger": {"kind": "cnn14"}, "separator": {"kind": "resunet"}, part: fields}
    with pytest.raises(ValueError, match=f"^{part}: {problem}$"):
        convert.export(model_dir.build_networks(config, {}), tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Learning

LEARNING_U = {
    "window": 1024,
    "hop": 256,
    "magnitude_power": 0.5,
    "patch": (2, 4),
    "widths": (16,),
    "strides": ((2, 2),),
}
LEARNING: dict[str, dict[str, Any]] = {
    "resunet": LEARNING_U,
    "unet": LEARNING_U,
    "conv_tasnet": {"filters": 64, "kernel": 32, "bottleneck": 24, "hidden": 48, "blocks": 4, "repeats": 1},
    "open_unmix": {"window": 1024, "hop": 256, "hidden": 64, "layers": 1},
}
STEPS = 200


def two_sounds() -> np.ndarray:
    """A chord's worth of harmonics below 2 kHz, and noise above 3 kHz: (2, 32 000).

    They overlap so little that a mask need not change the mixture's phase, which Open-Unmix cannot.
    """
    time = np.arange(32_000) / 32_000
    tone = sum(np.sin(2 * np.pi * 220 * k * time + k**2) / k for k in range(1, 9))
    tone = tone * (0.06 + 0.04 * np.cos(2 * np.pi * 3 * time))
    return np.stack([tone, 0.15 * band_noise(np.random.default_rng(0), 32_000, 32_000, 3000, 9000)]).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEPARATORS)
def test_each_learns_to_take_a_mixture_apart(kind):
    """By two conditions, one for either sound; as it separates, with the running statistics that it came to."""
    sources, conditions = two_sounds(), np.eye(2, dtype=np.float32)
    mixtures = np.repeat(sources.sum(axis=0, keepdims=True), 2, axis=0)
    module = SEPARATORS[kind](momentum=0.5, **LEARNING[kind])
    variables = jit(module.init)(jax.random.key(0), mixtures, conditions)
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))

    @jax.jit
    def step(params: Any, statistics: Any, opt_state: Any) -> Any:
        def loss(params: Any) -> Any:
            both = {"params": params, "batch_stats": statistics}
            estimate, updated = module.apply(both, mixtures, conditions, train=True, mutable=["batch_stats"])
            return negative_sdr(estimate, sources), updated["batch_stats"]

        gradient, statistics_after = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradient, opt_state)
        return optax.apply_updates(params, updates), statistics_after, opt_state

    params, statistics, opt_state = variables["params"], variables["batch_stats"], optimiser.init(variables["params"])
    for _ in range(STEPS):
        params, statistics, opt_state = step(params, statistics, opt_state)
    estimate = jax.jit(module.apply)({"params": params, "batch_stats": statistics}, mixtures, conditions)
    sdr = 10 * np.log10(np.sum(sources**2, axis=1) / np.sum((estimate - sources) ** 2, axis=1))
    assert sdr.min() > 20.0
