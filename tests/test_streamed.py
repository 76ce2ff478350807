"""Laws of separation in a stream, on a network with random weights: they hold whatever was learned."""

import jax
import numpy as np
import pytest
from test_training import SMALL

from uss_jax import model_dir
from uss_jax.grid import Grid
from uss_jax.streamed import StreamingModel
from uss_jax.targets import Wish

CONDITION = np.full(527, 0.5, np.float32)


@pytest.fixture(scope="module")
def model() -> StreamingModel:
    config = SMALL | {"tagger": SMALL["tagger"] | {"prior": 0.6}, "classes": [0, 74]}  # hears everything everywhere
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    return StreamingModel(model_dir.build_networks(config, variables))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "rate"), [((1,), 32_000), ((700,), 8_000), ((90_000, 2), 44_100), ((9_000, 3), 96_000)]
)
def test_stems_of_the_finest_level_and_residual_add_up_to_the_input(model, shape, rate):
    result = model.separate(noise(*shape), rate, levels=(1, 2))
    finest = [stem.audio for stem in result.stems.values() if stem.level == 2]
    assert all(stem.audio.shape == shape for stem in result.stems.values())
    np.testing.assert_allclose(sum(finest) + result.residual, noise(*shape), atol=1e-6)


def test_silence_in_gives_silence_out(model):
    result = model.separate(np.zeros(50_000, np.float32), 32_000, classes=["Dog"], embedding=CONDITION)
    assert [np.abs(stem.audio).max() for stem in result.stems.values()] == [0.0, 0.0]
    assert result.timeline == []


def test_a_gain_on_the_input_is_the_same_gain_on_the_output(model):
    loud, soft = (model.separate(gain * noise(80_000), 44_100, levels=(1,)) for gain in (1.0, 0.125))
    assert list(loud.stems) == list(soft.stems)
    for name, stem in loud.stems.items():
        np.testing.assert_allclose(soft.stems[name].audio, 0.125 * stem.audio, atol=1e-6)


def test_consistent_stems_leave_nothing_where_one_is_active(model):
    samples = noise(80_000)
    result = model.separate(samples, 48_000, levels=(1,), consistent=True)
    everywhere = [event for event in result.timeline if event.offset_s - event.onset_s > 80_000 / 48_000 - 1e-3]
    assert everywhere
    np.testing.assert_allclose(result.residual, 0.0, atol=1e-5)


def test_blocks_add_up_to_the_whole_and_gates_open_in_a_straight_line():
    cut = Grid(hop=4, window=8, core=8, context=4, fade=2, level_frames=0)
    total = np.zeros(8 * 3 + 8)
    for block in range(3):
        total[block * 8 : block * 8 + cut.frames] += cut.block_weights(block, 3)
    np.testing.assert_allclose(total[4:-4], 1.0)
    np.testing.assert_allclose(cut.gate(np.array([False, True, True]), 0)[4:12], [0, 0, 0, 0, 0, 0.5, 1, 1])


def test_a_stream_gives_chunk_by_chunk_what_separate_gives(model):
    samples = noise(60_000, 2)
    whole = model.separate(samples, 22_050, embedding=CONDITION)
    stream = model.stream(_source(samples), Wish(embeddings={"query": CONDITION}))
    joined = np.concatenate([chunk.stem("query") for chunk in stream])
    np.testing.assert_array_equal(joined, whole.stems["query"].audio)


def _source(samples):
    from uss_jax.stretches import Samples

    return Samples(samples, 22_050)
