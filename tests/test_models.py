"""Networks and spectra: sizes, inverses and invariances."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uss_jax import augment, signal
from uss_jax.models.cnn14 import Cnn14, Cnn14DecisionLevelMax
from uss_jax.models.layers import Upsample, average_pool, batch_norm, fold, unfold
from uss_jax.models.query import QueryNet
from uss_jax.models.resunet import ResUNet
from uss_jax.models.unet import complex_mask

WINDOWS_AND_HOPS = [(2048, 320), (1024, 512), (1024, 320)]
SMALL_RESUNET = ResUNet(window=256, hop=64, widths=(4, 6), strides=((2, 2), (1, 2)))
SMALL_TAGGER = {"widths": (4, 6, 8), "embedding_size": 10, "class_count": 5, "mel_bands": 16}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """White noise, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def parameter_count(module: nn.Module, *shapes: tuple[int, ...]) -> int:
    """Of a module on inputs of these shapes, without making the parameters."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def initialised(module: nn.Module, *inputs: Any) -> Any:
    """A module's variables, see `drawn`."""
    return {"batch_stats": {}} | drawn(jax.eval_shape(module.init, jax.random.key(0), *inputs))


def drawn(shapes: Any) -> Any:
    """Variables: all parameters at random, since zero biases would hide what they do; fresh statistics."""
    rng = np.random.default_rng(0)

    def variable(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if any(part.key == "batch_stats" for part in path):
            return np.full(leaf.shape, 1.0 if path[-1].key == "var" else 0.0, np.float32)
        scale = math.prod(leaf.shape[:-1]) ** -0.5 if len(leaf.shape) > 1 else 0.3
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map_with_path(variable, shapes)


def applied(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """`module.apply`, compiled as one: faster here than operation by operation."""
    return jax.jit(lambda *args: module.apply(*args, **options))(*inputs)


# Sizes


@pytest.mark.parametrize(("condition", "count"), [(527, 25_747_781), (2048, 38_305_157)])
def test_resunet_has_the_reference_size(condition: int, count: int) -> None:
    assert parameter_count(ResUNet(), (1, 64_000), (1, condition)) == count


@pytest.mark.parametrize("tagger", [Cnn14(), Cnn14DecisionLevelMax()])
def test_taggers_have_the_reference_size(tagger: nn.Module) -> None:
    assert parameter_count(tagger, (1, 64_000)) == 80_753_615


# Spectra


@pytest.mark.parametrize(("window", "hop"), WINDOWS_AND_HOPS)
def test_frames_are_slices(window: int, hop: int) -> None:
    audio = noise(2, 3 * window + 77)
    framed = np.asarray(signal.frames(audio, window, hop))
    starts = range(0, audio.shape[-1] - window + 1, hop)
    assert np.array_equal(framed, np.stack([audio[:, start : start + window] for start in starts], axis=1))


@pytest.mark.parametrize(("window", "hop"), WINDOWS_AND_HOPS)
def test_overlap_add_is_the_transpose_of_frames(window: int, hop: int) -> None:
    count = 9
    audio, framed = noise(2, (count - 1) * hop + window), noise(2, count, window, seed=1)
    cut = np.asarray(signal.frames(audio, window, hop), np.float64)
    added = np.asarray(signal.overlap_add(framed, hop), np.float64)
    assert added.shape == audio.shape
    scale = np.linalg.norm(cut) * np.linalg.norm(framed)
    assert abs(np.sum(cut * framed) - np.sum(audio * added)) < 1e-6 * scale


@pytest.mark.parametrize(("window", "hop"), WINDOWS_AND_HOPS)
@pytest.mark.parametrize("samples", [1025, 2049, 12_345, 31_999, 64_000])
def test_istft_inverts_stft(window: int, hop: int, samples: int) -> None:
    if samples <= window // 2:
        pytest.skip("too short to be reflected")
    audio = noise(2, samples)
    spectrum = signal.stft(audio, window, hop)
    assert spectrum.shape == (2, signal.frame_count(samples, hop), window // 2 + 1)
    restored = signal.istft(spectrum, window, hop, samples)
    assert restored.shape == audio.shape
    assert np.linalg.norm(restored - audio) < 1e-6 * np.linalg.norm(audio)


def test_stft_of_a_tone_peaks_at_its_bin() -> None:
    """A cosine of amplitude 1 on bin 40: half the window's sum there, a quarter beside it."""
    window = 1024
    tone = np.cos(2 * np.pi * 40 * np.arange(8 * window) / window).astype(np.float32)
    magnitude = np.abs(signal.stft(tone, window, 256))[10]
    assert np.allclose(magnitude[39:42], [window / 8, window / 4, window / 8], rtol=1e-4)


def test_stft_refuses_audio_too_short_to_reflect() -> None:
    with pytest.raises(ValueError, match="at least 513"):
        signal.stft(noise(512), 1024, 320)


def test_magnitude_has_a_finite_gradient_in_silence() -> None:
    grad = jax.grad(lambda x: jnp.sum(signal.magnitude(signal.stft(x, 256, 64))))(jnp.zeros(1000))
    assert np.all(np.isfinite(grad))


# Layers


@pytest.mark.parametrize("patch", [(1, 1), (2, 3), (4, 8)])
def test_unfold_inverts_fold(patch: tuple[int, int]) -> None:
    x = noise(2, 8, 24, 3)
    folded = fold(x, patch)
    assert folded.shape == (2, 8 // patch[0], 24 // patch[1], 3 * patch[0] * patch[1])
    assert np.array_equal(unfold(folded, patch), x)
    assert np.array_equal(fold(unfold(folded, patch), patch), folded)


def test_fold_keeps_a_patch_together() -> None:
    x = noise(1, 8, 24, 3)
    assert np.array_equal(fold(x, (2, 3))[0, 1, 2], x[0, 2:4, 6:9].ravel())


def test_average_pool_drops_the_remainder() -> None:
    x = noise(1, 5, 7, 2)
    expected = x[:, :4, :6].reshape(1, 2, 2, 3, 2, 2).mean(axis=(2, 4))
    assert np.allclose(average_pool(x, (2, 2)), expected, atol=1e-6)


def test_upsample_is_a_transposed_convolution() -> None:
    x = noise(2, 3, 4, 5)
    module = Upsample(6, (2, 3))
    variables = initialised(module, x)
    kernel = variables["params"]["Dense_0"]["kernel"].reshape(5, 2, 3, 6)
    expected = jnp.einsum("btfi,ipqo->btpfqo", x, kernel).reshape(2, 6, 12, 6)
    assert np.allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_batch_norm_momentum_is_the_share_that_stays(momentum: float) -> None:
    x = 3.0 + 2.0 * noise(64, 10, 4)
    module = batch_norm(True, momentum, None, "bn")
    variables = module.init(jax.random.key(0), x)
    normalised, updated = module.apply(variables, x, mutable=["batch_stats"])
    assert np.allclose(np.mean(normalised, axis=(0, 1)), 0.0, atol=1e-4)
    assert np.allclose(np.std(normalised, axis=(0, 1)), 1.0, atol=1e-3)
    stats = updated["batch_stats"]
    assert np.allclose(stats["mean"], (1 - momentum) * x.mean(axis=(0, 1)), rtol=1e-3)
    assert np.allclose(stats["var"], momentum + (1 - momentum) * x.var(axis=(0, 1)), rtol=1e-3)

    evaluated = batch_norm(False, momentum, None, "bn").apply({**variables, **updated}, x)
    assert np.allclose(evaluated, (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), rtol=1e-4, atol=1e-4)


# Separator


@pytest.fixture(scope="module")
def resunet_variables() -> Any:
    """Of SMALL_RESUNET, for conditions of 7 values."""
    return initialised(SMALL_RESUNET, noise(2, 3001), noise(2, 7))


@pytest.mark.parametrize(("patch", "samples"), [((1, 1), 129), ((1, 1), 3001), ((2, 4), 129), ((2, 4), 3001)])
def test_resunet_keeps_the_length(patch: tuple[int, int], samples: int) -> None:
    module = SMALL_RESUNET.clone(patch=patch)
    audio, condition = noise(2, samples), noise(2, 7)
    estimate = applied(module, initialised(module, audio, condition), audio, condition)
    assert estimate.shape == audio.shape
    assert np.all(np.isfinite(estimate))


def test_resunet_heeds_the_condition(resunet_variables: Any) -> None:
    """Of each example, and of no other."""
    audio = np.repeat(noise(1, 3001), 2, axis=0)
    conditions = noise(2, 7)
    first, second = applied(SMALL_RESUNET, resunet_variables, audio, conditions)
    assert np.linalg.norm(first - second) > 1e-2 * np.linalg.norm(first)
    alone = applied(SMALL_RESUNET, resunet_variables, audio[:1], conditions[:1])[0]
    assert np.allclose(alone, first, atol=1e-5)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_normalised_level_carries_a_gain_over(resunet_variables: Any, power: float) -> None:
    audio, condition = noise(2, 3001), noise(2, 7)
    gains = np.array([[7.0], [0.2]], np.float32)

    def error(module: ResUNet) -> float:
        loud, soft = (applied(module, resunet_variables, x, condition) for x in (gains * audio, audio))
        return float(np.linalg.norm(loud - gains * soft) / np.linalg.norm(gains * soft))

    assert error(SMALL_RESUNET.clone(normalise_level=True, magnitude_power=power)) < 1e-4
    assert error(SMALL_RESUNET.clone(magnitude_power=power)) > 1e-2


def test_mask_scales_and_rotates() -> None:
    """Maps (large, tanh⁻¹ 0.3, tanh⁻¹ 0.4) let everything through, turned by the angle of 0.3 + 0.4i."""
    spectrum = signal.stft(noise(2, 2000), 256, 64)
    maps = jnp.broadcast_to(jnp.array([30.0, math.atanh(0.3), math.atanh(0.4)]), (*spectrum.shape, 3))
    masked = spectrum * complex_mask(maps)
    assert np.allclose(masked, spectrum * (0.6 + 0.8j), atol=1e-4)


def test_mask_has_a_finite_gradient_where_maps_are_zero() -> None:
    spectrum = signal.stft(jnp.zeros((1, 1000)), 256, 64)

    def energy(maps: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(spectrum * complex_mask(maps).real))

    assert np.all(np.isfinite(jax.grad(energy)(jnp.zeros((*spectrum.shape, 3)))))


def test_resunet_updates_statistics_only_in_training(resunet_variables: Any) -> None:
    audio, condition = noise(2, 3001), noise(2, 7)
    inputs = (resunet_variables, audio, condition)
    _, unchanged = applied(SMALL_RESUNET, *inputs, mutable=["batch_stats"])
    _, changed = applied(SMALL_RESUNET, *inputs, train=True, mutable=["batch_stats"])
    before, evaluated, trained = (
        jax.tree.leaves(tree["batch_stats"]) for tree in (resunet_variables, unchanged, changed)
    )
    assert all(np.array_equal(a, b) for a, b in zip(before, evaluated, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(before, trained, strict=True))


def test_resunet_names_a_wrong_shape(resunet_variables: Any) -> None:
    with pytest.raises(ValueError, match=r"\(batch, time\)"):
        SMALL_RESUNET.apply(resunet_variables, noise(2, 3001), noise(1, 7))


# Taggers and query nets


@pytest.mark.parametrize("patch", [(1, 1), (2, 4)])
def test_framewise_output_covers_the_clip(patch: tuple[int, int]) -> None:
    """Each segment's probabilities are held, the last to the end; the clip's are the greatest."""
    tagger = Cnn14DecisionLevelMax(**SMALL_TAGGER, patch=patch)
    audio = noise(2, 16_000)
    tags = applied(tagger, initialised(tagger, audio), audio)
    held, frames = tagger.frames_per_segment, signal.frame_count(16_000, tagger.hop)
    assert held == 4 * patch[0]
    assert tags.embedding is None
    assert tags.framewise.shape == (2, frames, 5)
    framewise = np.asarray(tags.framewise)
    whole = frames // held * held
    assert np.array_equal(framewise[:, :whole], np.repeat(framewise[:, :whole:held], held, axis=1))
    assert np.all(framewise[:, whole:] == framewise[:, whole - 1 : whole])
    assert np.allclose(framewise.max(axis=1), tags.clipwise, atol=1e-6)
    assert np.allclose(nn.sigmoid(tags.logits), tags.clipwise)


def test_prior_is_the_initial_probability() -> None:
    tagger = Cnn14(**SMALL_TAGGER, prior=0.02)
    audio = np.zeros((1, 16_000), np.float32)
    variables = jax.jit(tagger.init)(jax.random.key(0), audio)
    kernel = variables["params"]["fc_audioset"]["kernel"]
    silent = jax.tree.map(lambda x: jnp.zeros_like(x) if x is kernel else x, variables)
    assert np.allclose(applied(tagger, silent, audio).clipwise, 0.02, rtol=1e-4)


def test_query_kinds() -> None:
    tagger = Cnn14(**SMALL_TAGGER)
    audio = noise(2, 16_000)
    tags = applied(tagger, initialised(tagger, audio), audio)
    assert np.array_equal(QueryNet("soft").apply({}, tags), tags.clipwise)
    assert np.array_equal(QueryNet("latent").apply({}, tags), tags.embedding)
    adaptor = QueryNet("latent", adaptor_size=3, hidden=4)
    assert adaptor.apply(adaptor.init(jax.random.key(0), tags), tags).shape == (2, 3)
    with pytest.raises(ValueError, match="latent query"):
        QueryNet("latent").apply({}, tags.replace(embedding=None))
    with pytest.raises(ValueError, match="expected one of"):
        QueryNet("loud").apply({}, tags)


# Augmentation


def dropped(frames: int, bands: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which frames, (64, frames), and bands, (64, bands), of a batch `spec_augment` sets to zero."""
    kept = np.asarray(augment.spec_augment(jax.random.key(seed), jnp.ones((64, frames, bands)))) != 0
    return ~kept.any(axis=2), ~kept.any(axis=1)


@pytest.mark.parametrize(("frames", "widest"), [(1001, 63), (201, 11)])
def test_spec_augment_drops_stripes(frames: int, widest: int) -> None:
    """At most two of each kind, at most so wide, at other places in each example; all else stays."""
    times, bands = dropped(frames, 64, seed=0)
    for mask, width in ((times, widest), (bands, 7)):
        count = mask.sum(axis=1)
        assert width < count.max() <= 2 * width
        edges = np.diff(np.pad(mask, [(0, 0), (1, 1)]).astype(int), axis=1)
        assert np.sum(edges == 1, axis=1).max() == 2
        assert len(np.unique(mask, axis=0)) > 50
        assert np.mean(np.any(mask, axis=0)) > 0.9  # nearly every place is dropped somewhere

    x = noise(64, frames, 64)
    changed = np.asarray(augment.spec_augment(jax.random.key(0), x))
    assert np.array_equal(changed, np.where(times[:, :, None] | bands[:, None, :], 0.0, x))


def test_spec_augment_follows_its_key() -> None:
    assert np.array_equal(dropped(201, 64, seed=1)[0], dropped(201, 64, seed=1)[0])
    assert not np.array_equal(dropped(201, 64, seed=1)[0], dropped(201, 64, seed=2)[0])


def test_mixup_weights_audio_and_labels_alike() -> None:
    audio, labels = noise(16, 100), np.eye(16, dtype=np.float32)
    mixed, mixed_labels = augment.mixup(jax.random.key(0), audio, labels, alpha=1.0, share=1.0, union=False)
    weight = np.diag(mixed_labels)[:, None]
    assert np.all((weight > 0) & (weight < 1))
    assert len(np.unique(weight)) == 16
    assert np.allclose(mixed, weight * audio + (1 - weight) * np.roll(audio, -1, axis=0), atol=1e-5)
    assert np.allclose(mixed_labels, weight * labels + (1 - weight) * np.roll(labels, -1, axis=0), atol=1e-6)


def test_mixup_of_a_union_keeps_every_label() -> None:
    audio, labels = noise(4, 100), np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], np.float32)
    same, _ = augment.mixup(jax.random.key(0), audio, labels, alpha=1.0, share=1.0, union=False)
    mixed, mixed_labels = augment.mixup(jax.random.key(0), audio, labels, alpha=1.0, share=1.0, union=True)
    assert np.array_equal(mixed, same)
    assert np.array_equal(mixed_labels, [[1, 1, 0], [0, 1, 1], [0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize("union", [False, True])
def test_mixup_leaves_the_other_examples_alone(union: bool) -> None:
    audio, labels = noise(400, 20), np.eye(400, dtype=np.float32)
    mixed, mixed_labels = augment.mixup(jax.random.key(0), audio, labels, alpha=1.0, share=0.3, union=union)
    alone = np.all(mixed_labels == labels, axis=1)
    assert 0.6 < np.mean(alone) < 0.8
    assert np.array_equal(mixed[alone], audio[alone])
    assert not np.any(np.all(mixed[~alone] == audio[~alone], axis=1))
