"""Laws of separation, on a network with random weights: they hold whatever was learned."""

import dataclasses

import jax
import numpy as np
import pytest
from test_training import SMALL

from uss_jax import audioset, model_dir
from uss_jax.separation import THRESHOLD, Model

SPEECH, DOG = 0, 74


@pytest.fixture(scope="module")
def model() -> Model:
    config = SMALL | {"tagger": SMALL["tagger"] | {"prior": 0.15}, "classes": [SPEECH, DOG]}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    return Model(model_dir.build_networks(config, variables))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_stems_of_the_finest_level_and_residual_add_up_to_the_input(model, noise):
    result = model.separate(noise, 32_000, levels=(1, 2, 3))
    finest = [stem.audio for stem in result.stems.values() if stem.level == 3]
    assert {stem.level for stem in result.stems.values()} == {1, 2, 3}
    assert sum(np.abs(stem).max() for stem in finest) > 0.01
    assert relative_error(sum(finest) + result.residual, noise) < 1e-6


def test_nodes_that_are_never_active_have_no_stem_but_classes_asked_for_do(model, noise):
    probabilities = model.inference.probabilities(model._split(noise, 0))
    quiet = int(probabilities.max(axis=0).argmin())
    assert probabilities[:, quiet].max() < THRESHOLD
    name = audioset.classes()[quiet].name
    result = model.separate(noise, 32_000, classes=[quiet], paper=True)
    assert np.abs(result.stems[name].audio).max() == 0.0
    np.testing.assert_array_equal(result.residual, noise)


def test_an_active_node_that_comes_out_silent_has_a_stem_but_in_paper_mode(model):
    silence = np.zeros(40_000, np.float32)
    stems = model.separate(silence, 32_000, levels=[1]).stems
    assert stems
    assert all(np.abs(stem.audio).max() < 1e-6 for stem in stems.values())
    result = model.separate(silence, 32_000, levels=[1], paper=True)
    assert result.stems == {}
    assert result.timeline == []
    assert list(model.separate(silence, 32_000, classes=["Dog"], paper=True).stems) == ["Dog"]


@pytest.mark.parametrize(
    ("shape", "rate"),
    [
        ((1,), 32_000),
        ((1,), 192_000),
        ((700,), 8_000),
        ((30_000,), 44_100),
        ((30_000, 2), 48_000),
        ((9_000, 3), 22_050),
    ],
)
def test_stems_have_the_inputs_shape_whatever_its_rate_and_length(model, shape, rate):
    samples = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    result = model.separate(samples, rate, classes=["Speech", "Dog"])
    assert list(result.stems) == ["Speech", "Dog"]
    assert all(stem.audio.shape == shape and stem.audio.dtype == np.float32 for stem in result.stems.values())
    assert result.residual.shape == shape
    assert result.sample_rate_hz == rate


def test_a_channel_is_separated_from_that_channel(model, noise):
    stereo = np.stack([noise, np.zeros_like(noise)], axis=1)
    condition = np.full(527, 0.5, np.float32)
    stem = model.separate(stereo, 32_000, embedding=condition).stems["query"].audio
    assert np.abs(stem[:, 0]).max() > 0.01
    assert np.abs(stem[:, 1]).max() < 1e-4


def test_the_same_input_gives_the_same_output_whatever_else_is_asked_for(model, noise):
    loudest = audioset.classes()[int(model.inference.probabilities(model._split(noise, 0)).max(axis=0).argmax())].name
    alone = model.separate(noise, 32_000, classes=[loudest]).stems[loudest].audio
    among_others = model.separate(noise, 32_000, classes=["Dog", "Speech", loudest, "Rain"]).stems[loudest].audio
    assert np.abs(alone).max() > 0.01
    np.testing.assert_allclose(alone, among_others, atol=1e-6)


def test_classes_are_asked_for_by_their_mean_condition_but_not_in_paper_mode(noise):
    config = SMALL | {"tagger": SMALL["tagger"] | {"prior": 0.6}, "classes": [DOG]}  # hears everything everywhere
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    networks = model_dir.build_networks(config, variables)
    condition = np.full((1, 527), 0.7, np.float32)
    known, unknown = Model(dataclasses.replace(networks, class_conditions=condition)), Model(networks)

    by_class = known.separate(noise, 32_000, classes=[DOG]).stems["Dog"].audio
    by_condition = known.separate(noise, 32_000, embedding=condition[0]).stems["query"].audio
    assert np.abs(by_class).max() > 0.01
    np.testing.assert_allclose(by_class, by_condition, atol=1e-5)

    in_paper_mode = known.separate(noise, 32_000, classes=[DOG], paper=True).stems["Dog"].audio
    by_the_tagger = unknown.separate(noise, 32_000, classes=[DOG], paper=True).stems["Dog"].audio
    np.testing.assert_array_equal(in_paper_mode, by_the_tagger)
    assert relative_error(in_paper_mode, by_class) > 1e-3


def test_together_makes_one_stem(model, noise):
    result = model.separate(noise, 32_000, classes=["Speech", DOG], together=True)
    assert list(result.stems) == ["Speech + Dog"]


def test_a_query_by_example_is_the_same_as_its_embedding(model, noise):
    embedding = model.embed([noise], 32_000)
    assert embedding.shape == (527,)
    by_example = model.separate(noise, 32_000, query=[noise]).stems["query"].audio
    by_embedding = model.separate(noise, 32_000, embedding=embedding).stems["query"].audio
    np.testing.assert_array_equal(by_example, by_embedding)


def test_examples_are_heard_at_their_own_rate_in_paper_mode_too(model, noise):
    embedding = model.embed([noise], 16_000)
    by_example = model.separate(noise, 16_000, query=[noise], paper=True).stems["query"].audio
    by_embedding = model.separate(noise, 16_000, embedding=embedding, paper=True).stems["query"].audio
    np.testing.assert_array_equal(by_example, by_embedding)


def test_paper_mode_is_mono_at_the_models_rate_in_hard_blocks(model, noise):
    stereo = np.stack([noise, -0.5 * noise], axis=1)
    result = model.separate(stereo, 32_000, embedding=np.full(527, 0.5, np.float32), paper=True)
    stem = result.stems["query"].audio
    assert stem.shape == noise.shape
    block = model.networks.segment_samples
    second = model.inference.separate(0.25 * noise[None, block : 2 * block], np.full((1, 527), 0.5, np.float32))[0]
    np.testing.assert_allclose(stem[block : 2 * block], second, atol=1e-6)


def test_the_timeline_covers_what_is_active_and_lies_within_the_recording(model, noise):
    events = model.separate(noise, 32_000, levels=[1]).timeline
    assert events
    for event in events:
        assert 0.0 <= event.onset_s < event.offset_s <= len(noise) / 32_000
        assert THRESHOLD <= event.mean_probability <= event.peak_probability <= 1.0
    assert {event.name for event in events} <= {node.name for node in audioset.nodes_at(1)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"levels": (1,), "classes": ["Dog"]}, "ask for one of"),
        ({"levels": (9,)}, "levels run from 1 to 6"),
        ({"classes": ["Dogg"]}, "did you mean 'Dog'"),
        ({"classes": [527]}, "0 to 526"),
        ({"embedding": np.zeros(3)}, "expected \\(527,\\)"),
        ({"embedding": np.full(527, np.nan)}, "finite"),
        ({"query": [np.zeros(9000, np.float32)]}, "silent"),
    ],
)
def test_a_wrong_wish_gets_one_clear_sentence(model, noise, arguments, says):
    with pytest.raises(ValueError, match=says):
        model.separate(noise, 32_000, **arguments)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(0), np.zeros((2, 2, 2)), np.array([0.0, np.inf]), np.zeros(9000, np.int16), np.zeros((2, 9000))],
)
def test_wrong_audio_is_refused(model, samples):
    with pytest.raises(ValueError, match="audio"):
        model.separate(samples, 32_000)
