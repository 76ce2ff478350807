"""Every tagger of the registry: what it gives, and that it learns; the smaller ones of PANNs against PyTorch."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_models import initialised, noise, parameter_count

from uss_jax import signal
from uss_jax.models.cnn14 import Cnn6, Cnn10, Cnn14, Cnn14DecisionLevelMax
from uss_jax.models.registry import TAGGERS
from uss_jax.models.transformer import Transformer, sinusoids

pytestmark = pytest.mark.usefixtures("on_cpu")

RATE_HZ = 32_000
SAMPLES = 9600  # 0.3 s
CLASSES = 4
COMMON = {"mel_bands": 32, "embedding_size": 16, "class_count": CLASSES, "head_dropout": 0.1}
CNN_SMALL = {"widths": (8, 16), "block_dropout": 0.1}
SMALL = {  # fields of each kind, besides the common ones; of one that is new to the registry, none
    **dict.fromkeys(("cnn6", "cnn10", "cnn14", "cnn14_decision_level_max"), CNN_SMALL),
    "transformer": {"patch": (8, 8), "dimension": 24, "depth": 1, "heads": 2},
}
APART = [kind for kind in TAGGERS if kind not in ("cnn10", "cnn14")]  # those are cnn6's code with other fields
KEYS = {"augment": jax.random.key(1), "dropout": jax.random.key(2)}
QUICKLY = {"xla_backend_optimization_level": 0}  # most of the time would go into compiling


def small(kind: str, **fields: Any) -> Any:
    return TAGGERS[kind](**(COMMON | SMALL.get(kind, {}) | fields))


def compiled(function: Any) -> Any:
    return jax.jit(function, compiler_options=QUICKLY)


@functools.cache
def variables_of(kind: str) -> Any:
    return initialised(small(kind), TONES)


@functools.cache
def forward(kind: str) -> Any:
    """Of variables and audio: tags."""
    return compiled(small(kind).apply)


def labels_and_tones() -> tuple[np.ndarray, np.ndarray]:
    """Eight clips, two of each class, which is a pitch: labels (8, classes), audio (8, samples)."""
    label = np.arange(8) % CLASSES
    time = np.arange(SAMPLES) / RATE_HZ
    pitch_hz = 200.0 * 3.0 ** label[:, None] * (1.0 + 0.02 * np.arange(8)[:, None])
    audio = 0.3 * np.sin(2 * np.pi * pitch_hz * time) + 0.01 * noise(8, SAMPLES)
    return np.eye(CLASSES, dtype=np.float32)[label], audio.astype(np.float32)


LABELS, TONES = labels_and_tones()


@functools.cache
def training(kind: str, **fields: Any) -> Any:
    """Of parameters, statistics, eight clips and keys: (loss, (tags, new statistics)), and the loss's gradient."""
    tagger = small(kind, **fields)

    def loss(params: Any, statistics: Any, audio: Any, keys: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        tags, updated = tagger.apply(variables, audio, train=True, rngs=keys, mutable=["batch_stats"])
        return jnp.mean(optax.sigmoid_binary_cross_entropy(tags.logits, LABELS)), (tags, updated["batch_stats"])

    return compiled(jax.value_and_grad(loss, has_aux=True))


def trained(kind: str, audio: Any = TONES, keys: Any = KEYS, **fields: Any) -> Any:
    """The same of the first parameters and statistics."""
    variables = variables_of(kind)
    return training(kind, **fields)(variables["params"], variables["batch_stats"], audio, keys)


@pytest.fixture(params=TAGGERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each tagger's name."""
    return request.param


def assert_finite(tree: Any) -> None:
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


# Sizes


def conv_parameters(side: int, channels: tuple[int, ...]) -> int:
    """Of convolutions of these channels, one after the other, without bias, each before a BatchNorm."""
    return sum(side**2 * a * b + 2 * b for a, b in itertools.pairwise(channels))


def test_cnn10_has_the_size_of_panns() -> None:
    """5 219 279 in the paper's table."""
    head = 512 * 512 + 512 + 512 * 527 + 527
    channels = (1, 64, 64, 128, 128, 256, 256, 512, 512)
    assert parameter_count(Cnn10(), (1, 64_000)) == 2 * 64 + conv_parameters(3, channels) + head == 5_219_279


def test_cnn6_has_the_size_of_panns() -> None:
    """4 837 455 in the paper's table."""
    convolutions = conv_parameters(5, (1, 64, 128, 256, 512))
    head = 512 * 512 + 512 + 512 * 527 + 527
    assert parameter_count(Cnn6(), (1, 64_000)) == 2 * 64 + convolutions + head == 4_837_455


def test_transformer_has_the_size_that_its_fields_say() -> None:
    width, depth = 192, 6
    patches = 256 * width + width + 4 * width  # with their places
    attention, mlp, norm = 4 * (width**2 + width), 8 * width**2 + 5 * width, 2 * width
    head = width * 512 + 512 + 512 * 527 + 527
    expected = 2 * 64 + patches + depth * (attention + mlp + 2 * norm) + norm + head
    assert parameter_count(Transformer(), (1, 64_000)) == expected == 3_088_975


@pytest.mark.parametrize(
    ("tagger", "frames"), [(Cnn6(), 16), (Cnn10(), 16), (Cnn14(), 32), (Cnn14DecisionLevelMax(), 32)]
)
def test_frames_behind_an_output_of_the_trunk(tagger: Any, frames: int) -> None:
    assert tagger.frames_per_segment == frames
    assert tagger.clone(patch=(4, 4)).frames_per_segment == 4 * frames


@pytest.mark.parametrize("pool_last", [False, True])
def test_held_probabilities_are_as_long_as_what_they_are_of(pool_last: bool) -> None:
    tagger = Cnn14DecisionLevelMax(**COMMON, **CNN_SMALL, pool_last=pool_last)
    framewise = compiled(tagger.apply)(variables_of("cnn14_decision_level_max"), noise(1, SAMPLES)).framewise[0, :, 0]
    changes = np.flatnonzero(np.diff(np.asarray(framewise))) + 1
    assert np.array_equal(changes, np.arange(1, len(changes) + 1) * tagger.frames_per_segment)
    assert len(framewise) // tagger.frames_per_segment == len(changes) + 1


# What they tell


@pytest.mark.parametrize("seconds", [0.3, 2.0, 10.0])
def test_tags_of_clips_of_any_length(kind: str, seconds: float) -> None:
    samples = round(seconds * RATE_HZ)
    tags = forward(kind)(variables_of(kind), noise(8, samples))
    assert tags.logits.shape == tags.clipwise.shape == (8, CLASSES)
    assert np.all((tags.clipwise >= 0.0) & (tags.clipwise <= 1.0))
    np.testing.assert_allclose(jax.nn.sigmoid(tags.logits), tags.clipwise, atol=1e-6)
    assert tags.embedding is None or tags.embedding.shape == (8, 16)
    assert tags.framewise is None or tags.framewise.shape == (8, signal.frame_count(samples, 320), CLASSES)
    assert (tags.embedding is None) != (tags.framewise is None)
    assert_finite(tags)


def test_a_clip_is_tagged_whatever_else_is_in_the_batch(kind: str) -> None:
    clips = noise(8, SAMPLES) * np.array([1, 0.1, 10, 0, 1, 1, 1, 1], np.float32)[:, None]
    logits = forward(kind)(variables_of(kind), clips).logits
    others = forward(kind)(variables_of(kind), np.concatenate([clips[:1], 3.0 * clips[:0:-1]])).logits
    np.testing.assert_allclose(others[0], logits[0], atol=1e-5)
    again = forward(kind)(variables_of(kind), clips[::-1]).logits
    np.testing.assert_allclose(again[::-1], logits, atol=1e-5)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_audio_that_is_no_batch_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"expected audio \(batch, time\)"):
        small(kind).apply(variables_of(kind), noise(SAMPLES))


# Training


@pytest.mark.parametrize("kind", APART, indirect=True)
def test_gradients_in_silence_are_finite(kind: str) -> None:
    _, gradient = trained(kind, np.zeros_like(TONES))
    assert_finite(gradient)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) > 1e-3


@pytest.mark.parametrize("kind", APART, indirect=True)
def test_training_updates_statistics_and_learns_all_parameters(kind: str) -> None:
    (_, (_, after)), gradient = trained(kind)
    before = variables_of(kind)["batch_stats"]
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    assert not any(np.array_equal(a, b) for a, b in pairs)
    leaves = jax.tree.leaves_with_path(gradient)
    still = [jax.tree_util.keystr(path) for path, leaf in leaves if np.abs(leaf).max() < 1e-7]
    assert all(name.endswith("['attention']['key']['bias']") for name in still)  # shifts a softmax as a whole


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("kind", APART, indirect=True)
def test_training_draws_from_each_key(kind: str, name: str) -> None:
    logits, again, other = (
        trained(kind, keys=KEYS | {name: key})[0][1][0].logits for key in (KEYS[name], KEYS[name], jax.random.key(9))
    )
    np.testing.assert_array_equal(again, logits)
    assert np.abs(other - logits).max() > 1e-3


@pytest.mark.parametrize("kind", APART, indirect=True)
def test_bfloat16_tells_nearly_the_same_in_float32(kind: str) -> None:
    half = small(kind, dtype=jnp.bfloat16)
    shapes = [jax.eval_shape(tagger.init, jax.random.key(0), TONES) for tagger in (half, small(kind))]
    assert shapes[0] == shapes[1]
    tags, exact = compiled(half.apply)(variables_of(kind), TONES), forward(kind)(variables_of(kind), TONES)
    for found, expected in zip(jax.tree.leaves(tags), jax.tree.leaves(exact), strict=True):
        assert found.dtype == jnp.float32
        assert 0 < np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", APART, indirect=True)
def test_rematerialisation_changes_no_gradient(kind: str) -> None:
    kept, again = trained(kind), trained(kind, rematerialise=True)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(kept[1]))
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("kind", APART, indirect=True)
def test_eight_clips_are_learned_by_heart(kind: str) -> None:
    optimiser = optax.adam(1e-2)
    start = {"scale": jnp.ones_like, "bias": jnp.zeros_like}  # as `init`, which takes seconds to compile, makes them
    params, statistics = variables_of(kind)["params"], variables_of(kind)["batch_stats"]
    params = jax.tree.map_with_path(lambda path, leaf: start.get(path[-1].key, jnp.asarray)(leaf), params)
    state = optimiser.init(params)

    @compiled
    def update(gradient: Any, state: Any, params: Any) -> Any:
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state

    losses = []
    for step in range(400):
        keys = {name: jax.random.fold_in(key, step) for name, key in KEYS.items()}
        (_, (_, statistics)), gradient = training(kind)(params, statistics, TONES, keys)
        params, state = update(gradient, state, params)
        if step % 25 == 24:
            logits = forward(kind)({"params": params, "batch_stats": statistics}, TONES).logits
            losses.append(float(jnp.mean(optax.sigmoid_binary_cross_entropy(logits, LABELS))))
            if losses[-1] < 0.05:
                return
    pytest.fail(f"losses of {kind}: {losses}")


# The transformer


def test_positions_of_time_are_all_unlike() -> None:
    places = sinusoids(300, 192)
    assert places.shape == (300, 192)
    assert places.dtype == np.float32
    np.testing.assert_allclose(np.sum(places**2, axis=1), 96.0, rtol=1e-5)
    products = places @ places.T - 1e3 * np.eye(300)
    assert products.max() < 95.0
    assert sinusoids(5, 3).shape == (5, 3)


def test_the_transformer_fills_up_the_end_with_zeros() -> None:
    """17 frames are three patches of 8, as 24 are, and 25 are four. 0 is the mean spectrum, as bn0 makes it."""
    tagger, variables = small("transformer"), variables_of("transformer")

    def inside(audio: Any) -> Any:
        """The normalised spectrogram, and the patches after their linear layer."""
        found = tagger.apply(variables, audio, capture_intermediates=lambda m, _: m.name in ("bn0", "patches"))[1]
        return [found["intermediates"][name]["__call__"][0] for name in ("bn0", "patches")]

    shapes = [jax.eval_shape(inside, jnp.zeros((1, 320 * (frames - 1))))[1].shape for frames in (17, 24, 25)]
    assert shapes == [(1, 3, 4, 24), (1, 3, 4, 24), (1, 4, 4, 24)]
    spectrogram, patches = map(np.asarray, compiled(inside)(noise(1, 320 * 16)))
    layer = variables["params"]["patches"]
    alone = spectrogram[0, 16].reshape(4, 8) @ layer["kernel"].reshape(8, 8, 24)[0] + layer["bias"]
    np.testing.assert_allclose(patches[0, 2], alone, rtol=1e-4, atol=1e-4)


def test_the_transformer_heeds_the_order_of_what_sounds() -> None:
    tone, hiss = np.sin(2 * np.pi * 300 / RATE_HZ * np.arange(SAMPLES // 2)), 0.3 * noise(SAMPLES // 2)
    clips = [np.concatenate(pair) for pair in ((tone, hiss), (hiss, tone))] * 4
    there, back = forward("transformer")(variables_of("transformer"), np.float32(clips)).logits[:2]
    assert np.abs(there - back).max() > 1e-2


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"mel_bands": 20}, "20 mel bands: expected a multiple of the patch's 8"), ({"heads": 5}, "of the 5 heads")],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(small("transformer", **fields).init, jax.random.key(0), noise(1, SAMPLES))


# Against PyTorch


def torch_outputs(tagger: Any, variables: Any, audio: np.ndarray) -> dict[str, np.ndarray]:
    """What PANNs makes of a log-mel spectrogram, restated with PyTorch's own operations: clipwise and embedding."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    params = jax.tree.map(lambda x: torch.from_numpy(np.array(x)), variables["params"])
    stats = jax.tree.map(lambda x: torch.from_numpy(np.array(x)), variables["batch_stats"])

    def normalise(x: Any, params: Any, stats: Any) -> Any:
        return functional.batch_norm(x, stats["mean"], stats["var"], params["scale"], params["bias"])

    def linear(x: Any, layer: Any) -> Any:
        return functional.linear(x, layer["kernel"].T, layer["bias"])

    front = {"window": tagger.window, "hop": tagger.hop, "bands": tagger.mel_bands}
    spectrum = signal.log_mel(audio, sample_rate_hz=RATE_HZ, low_hz=tagger.low_hz, high_hz=tagger.high_hz, **front)
    x = torch.from_numpy(np.array(spectrum))[:, None]
    x = normalise(x.transpose(1, 3), params["bn0"], stats["bn0"]).transpose(1, 3)
    for i in range(4):
        block = params[f"block{i}"]
        for j in range(1, 1 + sum(name.startswith("conv") for name in block)):
            kernel = block[f"conv{j}"]["kernel"].permute(3, 2, 0, 1)
            x = functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
            x = functional.relu(normalise(x, block[f"bn{j}"], stats[f"block{i}"][f"bn{j}"]))
        x = functional.avg_pool2d(x, 2)
    x = x.mean(dim=3)
    x = x.max(dim=2).values + x.mean(dim=2)
    embedding = functional.relu(linear(x, params["fc1"]))
    return {"clipwise": torch.sigmoid(linear(embedding, params["fc_audioset"])), "embedding": embedding}


@pytest.mark.parametrize("kind", ["cnn6", "cnn10"])
def test_the_smaller_ones_are_those_of_panns(kind: str) -> None:
    """With fewer channels, and random statistics; 101 frames leave a remainder in three of the four poolings."""
    tagger = TAGGERS[kind](widths=(4, 6, 8, 10), embedding_size=12, class_count=7)
    audio = 0.3 * noise(2, 32_000)
    variables = initialised(tagger, audio)
    random = np.random.default_rng(3)
    statistics = jax.tree.map(lambda x: random.uniform(0.5, 1.5, x.shape).astype(np.float32), variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": statistics}
    tags = compiled(tagger.apply)(variables, audio)
    for name, expected in torch_outputs(tagger, variables, audio).items():
        found = np.asarray(getattr(tags, name), np.float64)
        assert np.std(found) > 1e-2
        assert np.linalg.norm(found - expected.numpy()) < 1e-4 * np.linalg.norm(found)
