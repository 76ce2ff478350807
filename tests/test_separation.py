"""Laws of separation, on a network with random weights: they hold whatever was learned."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_training import SMALL

from uss_jax import audioset, blocks, listening, model_dir
from uss_jax.evaluation.benchmark import Sound
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.systems import ModelSystem
from uss_jax.separation import Model
from uss_jax.stretches import Samples
from uss_jax.targets import EXPECTED, FAINT, THRESHOLD, Wish

SPEECH, DOG = 0, 74
CONDITION = np.full(527, 0.5, np.float32)
PEAKS = (0.5, 0.009, 0.02, 0.012)  # greatest probabilities of four mixtures


def of_prior(prior: float) -> Model:
    """A model whose tagger hears every class with a probability near this one."""
    config = SMALL | {"tagger": SMALL["tagger"] | {"prior": prior}, "classes": [SPEECH, DOG]}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    return Model(model_dir.build_networks(config, variables))


@pytest.fixture(scope="module")
def model() -> Model:
    return of_prior(0.2)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)


def assert_sum(stems: list[np.ndarray], residual: np.ndarray, samples: np.ndarray) -> None:
    """To float tolerance, of the largest sample: a network that learned nothing lets through more than it was given."""
    largest = max(np.abs(x).max() for x in (*stems, residual))
    np.testing.assert_allclose(sum(stems, residual.astype(np.float64)), samples, rtol=0, atol=1e-6 * largest)


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_stems_of_the_finest_level_and_residual_add_up_to_the_input(model, noise):
    result = model.separate(noise, 32_000, levels=(1, 2, 3))
    finest = [stem.audio for stem in result.stems.values() if stem.level == 3]
    assert {stem.level for stem in result.stems.values()} == {1, 2, 3}
    assert sum(np.abs(stem).max() for stem in finest) > 0.01
    assert_sum(finest, result.residual, noise)


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
    loudest = audioset.classes()[
        int(model.inference.probabilities(blocks.split(noise, 64_000)).max(axis=0).argmax())
    ].name
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
        ({"levels": (9,)}, "levels run from 1 to 6"),
        ({"classes": ["Dogg"]}, "did you mean 'Dog'"),
        ({"classes": [527]}, "0 to 526"),
        ({"embedding": np.zeros(3)}, "expected \\(527,\\)"),
        ({"embedding": np.full(527, np.nan)}, "finite"),
        ({"query": [np.zeros(9000, np.float32)]}, "silent"),
        ({"classes": ["Dog"], "exclude": ["Dog", "Rain"]}, "Dog: asked for and excluded"),
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


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def keen() -> Model:
    """Hears everything everywhere."""
    config = SMALL | {"tagger": SMALL["tagger"] | {"prior": 0.6}, "classes": [SPEECH, DOG]}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    return Model(model_dir.build_networks(config, variables))


@pytest.mark.parametrize("shape", [(90_000, 2), (9_000, 3)])
@pytest.mark.parametrize("rate", [22_050, 44_100, 96_000])
@pytest.mark.parametrize("channels", ["shared", "each"])
def test_stems_and_residual_add_up_at_any_rate(keen, shape, rate, channels):
    result = keen.separate(random(*shape), rate, levels=(1, 2), channels=channels)
    finest = [stem.audio for stem in result.stems.values() if stem.level == 2]
    assert max(np.abs(stem).max() for stem in finest) > 1e-3
    assert_sum(finest, result.residual, random(*shape))


@pytest.mark.parametrize(("prior", "is_heard"), [(0.007, False), (0.024, True)])
def test_nodes_that_are_never_active_have_no_stem_but_classes_asked_for_do(noise, prior, is_heard):
    """One that the tagger is sure of nowhere sounds where it is likeliest, unless it is all but excluded."""
    model = of_prior(prior)
    probabilities = model.inference.probabilities(blocks.split(noise, 64_000))
    quiet = int(probabilities.max(axis=0).argmin())
    assert (FAINT <= probabilities[:, quiet].max() < EXPECTED) == is_heard
    name = audioset.classes()[quiet].name
    assert not model.separate(noise, 32_000, levels=(1, 2, 3)).stems
    result = model.separate(noise, 32_000, classes=[quiet])
    assert result.stems[name].audio.any() == is_heard
    assert {event.name for event in result.timeline} == ({name} if is_heard else set())
    assert_sum([result.stems[name].audio], result.residual, noise)
    kept_out = model.separate(noise, 32_000, embedding=CONDITION, exclude=[quiet])
    free = model.separate(noise, 32_000, embedding=CONDITION)
    np.testing.assert_array_equal(kept_out.stems["query"].audio, free.stems["query"].audio)


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("prior", "least", "most"), [(0.1, EXPECTED, THRESHOLD), (0.024, FAINT, EXPECTED)])
def test_by_name_a_sound_is_heard_that_the_reference_takes_for_inactive(noise, prior, least, most, paper, whole):
    """By the command line's way and by the protocol `label`, of segments and of whole recordings."""
    model = of_prior(prior)
    segment = noise[:8000]
    assert least <= model.inference.probabilities(segment[None])[0, DOG] < most
    stem = model.separate(segment, 32_000, classes=[DOG], paper=paper).stems["Dog"].audio
    benchmark = SimpleNamespace(paper=paper, whole=whole, classes=lambda item: (DOG,))
    sound = Sound(segment, segment, 32_000)
    system = ModelSystem(model, benchmark, "label", {})
    (estimate,) = system.separate([Item("dog", 0, "dog.wav")], [sound])
    assert [bool(x.any()) for x in (stem, estimate)] == [not paper] * 2


def test_of_each_mixture_a_label_is_heard_by_its_own_probability(noise, monkeypatch):
    model = of_prior(0.024)
    heard = np.zeros((model.inference.batch_size, 527), np.float32)
    heard[: len(PEAKS), DOG] = PEAKS
    monkeypatch.setattr(type(model.inference), "probabilities", lambda self, segments: heard)
    benchmark = SimpleNamespace(paper=False, whole=False, classes=lambda item: (DOG,))
    items = [Item("dog", number, "dog.wav") for number in range(len(PEAKS))]
    sounds = [Sound(noise[:8000], noise[:8000], 32_000)] * len(PEAKS)
    estimates = ModelSystem(model, benchmark, "label", {}).separate(items, sounds)
    assert [bool(estimate.any()) for estimate in estimates] == [peak > FAINT for peak in PEAKS]


def test_silence_in_gives_silence_out(keen):
    silence = np.zeros(50_000, np.float32)
    result = keen.separate(silence, 44_100, classes=["Dog"], embedding=CONDITION)
    assert [np.abs(stem.audio).max() for stem in result.stems.values()] == [0.0, 0.0]
    assert result.timeline == []
    assert keen.separate(silence, 32_000, levels=[1]).stems == {}


def test_in_paper_mode_a_node_that_comes_out_silent_has_no_stem(keen):
    result = keen.separate(np.zeros(40_000, np.float32), 32_000, levels=[1], paper=True)
    assert result.stems == {}
    assert result.timeline == []
    assert list(keen.separate(np.zeros(40_000, np.float32), 32_000, classes=["Dog"], paper=True).stems) == ["Dog"]


@pytest.mark.parametrize("gain", [0.125, 0.01, 30.0])
def test_a_gain_on_the_input_is_the_same_gain_on_the_output(model, gain):
    usual, other = (model.separate(x * random(80_000), 44_100, levels=(1, 2)) for x in (1.0, gain))
    assert usual.stems
    assert list(usual.stems) == list(other.stems)
    for name, stem in usual.stems.items():
        np.testing.assert_allclose(other.stems[name].audio / gain, stem.audio, atol=2e-6)


def test_channels_that_cancel_out_are_heard_all_the_same(keen):
    samples = random(50_000)
    opposite = np.stack([samples, -samples], axis=1)
    stem = keen.separate(opposite, 32_000, classes=["Dog"]).stems["Dog"].audio
    alone = keen.separate(samples, 32_000, classes=["Dog"]).stems["Dog"].audio
    np.testing.assert_allclose(stem, np.stack([alone, -alone], axis=1), atol=1e-5)


def test_consistent_stems_leave_nothing_where_one_is_active(keen):
    result = keen.separate(random(80_000), 48_000, levels=(1,), consistent=True)
    np.testing.assert_allclose(result.residual, 0.0, atol=1e-5)
    assert np.abs(keen.separate(random(80_000), 48_000, levels=(1,)).residual).max() > 0.01


def test_what_is_excluded_gives_way(keen):
    samples = random(80_000)
    free = keen.separate(samples, 32_000, classes=["Dog"]).stems["Dog"].audio
    kept_out = keen.separate(samples, 32_000, classes=["Dog"], exclude=["Speech", "Rain"])
    assert list(kept_out.stems) == ["Dog"]
    assert np.sum(kept_out.stems["Dog"].audio ** 2) < 0.9 * np.sum(free**2)


def test_what_is_excluded_is_expected_as_what_is_asked_for():
    assert [x.least for x in Wish(excluded=("Speech",)).excluded_targets()] == [EXPECTED]


def test_weights_lead_from_one_class_to_the_other(noise):
    config = SMALL | {"tagger": SMALL["tagger"] | {"prior": 0.6}, "classes": [SPEECH, DOG]}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    conditions = np.stack([np.full(527, 0.1, np.float32), np.full(527, 0.9, np.float32)])
    known = Model(dataclasses.replace(model_dir.build_networks(config, variables), class_conditions=conditions))
    dog = known.separate(noise, 32_000, classes=[DOG]).stems["Dog"].audio
    errors = []
    for weight in (1.0, 10.0, 1000.0):
        wish = {"Speech": 1.0, "Dog": weight}
        (stem,) = known.separate(noise, 32_000, classes=wish, together=True).stems.values()
        errors.append(relative_error(stem.audio, dog))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2


def test_a_span_is_an_example_of_its_own(keen):
    samples = random(120_000)
    by_span = keen.separate(samples, 32_000, spans=[(1.0, 3.0)])
    source = Samples(samples[:, None], 32_000)
    example = listening.span_samples(source, listening.measure(source), 1.0, 3.0)
    by_example = keen.separate(samples, 32_000, embedding=keen.embed([example], 32_000))
    np.testing.assert_array_equal(by_span.stems["span"].audio, by_example.stems["query"].audio)
    for span in ((3.0, 1.0), (9.0, 10.0), (-1.0, 1.0)):
        with pytest.raises(ValueError, match=r"span .*: not a time in the recording, which lasts 3\.75 s"):
            keen.separate(samples, 32_000, spans=[span])


def test_all_queries_of_one_call_give_what_each_gives_alone(keen, noise):
    both = keen.separate(noise, 32_000, levels=[1], classes=["Dog"], query={"a": [noise]}, embedding={"b": CONDITION})
    assert list(both.stems)[-3:] == ["Dog", "a", "b"]
    for name, wish in {"Dog": {"classes": ["Dog"]}, "b": {"embedding": {"b": CONDITION}}}.items():
        np.testing.assert_array_equal(keen.separate(noise, 32_000, **wish).stems[name].audio, both.stems[name].audio)


def test_a_stream_gives_chunk_by_chunk_what_separate_gives(keen):
    samples = random(60_000, 2)
    whole = keen.separate(samples, 22_050, embedding=CONDITION)
    chunks = list(keen.stream(Samples(samples, 22_050), Wish(embeddings={"query": CONDITION})))
    joined = np.concatenate([chunk.stem("query") for chunk in chunks])
    np.testing.assert_array_equal(joined, whole.stems["query"].audio)
    np.testing.assert_array_equal(np.concatenate([chunk.mixture for chunk in chunks]), samples)


@pytest.mark.parametrize("seconds", [2, 3, 16])
def test_the_length_of_chunks_does_not_matter(keen, seconds, monkeypatch):
    samples = random(11 * 22_050 + 17, 1)
    whole = keen.separate(samples, 22_050, levels=[1, 2])
    monkeypatch.setattr("uss_jax.streaming.chunk_seconds", lambda *_: seconds)
    parts = keen.separate(samples, 22_050, levels=[1, 2])
    for name, stem in whole.stems.items():
        np.testing.assert_allclose(parts.stems[name].audio, stem.audio, atol=1e-5)


def test_energy_shares_are_of_the_stem_in_the_event(keen):
    samples = random(80_000)
    result = keen.separate(samples, 32_000, levels=[1])
    assert result.timeline
    for event in result.timeline:
        place = slice(round(event.onset_s * 32_000), round(event.offset_s * 32_000))
        stem = result.stems[event.name].audio[place]
        assert event.energy_share == pytest.approx(np.sum(stem**2) / np.sum(samples[place] ** 2), rel=1e-4)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_recording_in_blocks_is_the_recording_as_a_whole_at_the_joints_too(normalised, monkeypatch):
    """Random weights see as far as they can: the trained model's masks depend on much less of what is around them."""
    separator = SMALL["separator"] | {"normalise_level": normalised, "magnitude_power": 0.5}
    config = SMALL | {"separator": separator, "classes": []}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    model = Model(model_dir.build_networks(config, variables))
    samples = random(400_000) * np.linspace(1, 0.05, 400_000, dtype=np.float32)
    in_blocks = model.separate(samples, 32_000, embedding=CONDITION).stems["query"].audio
    grid = model._grid()
    whole_grid = dataclasses.replace(grid, core=grid.core * 64)
    assert whole_grid.core * grid.hop > len(samples)
    monkeypatch.setattr(Model, "_grid", lambda _: whole_grid)
    monkeypatch.setattr("uss_jax.listening.margin_s", lambda _: 20)
    whole = model.separate(samples, 32_000, embedding=CONDITION).stems["query"].audio
    block = grid.core * grid.hop
    joint = (
        np.abs((np.arange(len(samples)) + block // 2) % block - block // 2) < 500
    )  # about the middle of a cross-fade
    joint[:block] = joint[-block:] = False
    assert relative_error(in_blocks, whole) < 3e-3
    assert relative_error(in_blocks[joint], whole[joint]) < 3e-3


def test_the_stems_of_a_level_never_take_more_than_there_is(keen):
    """Magnitudes of a level's masks add up to one at most, whatever their phases, which here are random."""
    samples = random(80_000)
    result = keen.separate(samples, 32_000, levels=(1, 2))
    assert len([stem for stem in result.stems.values() if stem.level == 2]) > 20
    assert np.sum(result.residual**2) <= 4.0 * np.sum(samples**2)


def test_every_wish_has_a_stem_under_its_own_name(keen, noise):
    embeddings = {"Dog": CONDITION, "Dog (2)": 0.1 * CONDITION, "residual": CONDITION}
    result = keen.separate(noise, 32_000, classes=["Dog"], embedding=embeddings)
    assert list(result.stems) == ["Dog", "Dog (2)", "Dog (2) (2)", "residual (2)"]
    assert_sum([stem.audio for stem in result.stems.values()], result.residual, noise)
    names = list(keen.separate(noise, 32_000, levels=[1, 2], classes=["Music"]).stems)
    assert len(names) == len(set(names))
    assert names[-1] == "Music"
    assert "Music (2)" in names


def test_a_constant_is_no_sound(model):
    samples = random(80_000)
    plain, shifted = (model.separate(samples + x, 32_000, levels=(1,)) for x in (np.float32(0.0), np.float32(0.05)))
    assert plain.stems
    assert list(plain.stems) == list(shifted.stems)
    assert model.separate(np.full(50_000, 0.5, np.float32), 32_000, levels=(1,)).stems == {}


def test_channels_that_cancel_out_for_a_while_are_heard_there_too(keen):
    samples = random(130_000)
    half = np.where(np.arange(130_000) < 65_000, 1, -1).astype(np.float32)
    stem = keen.separate(np.stack([samples, half * samples], axis=1), 32_000, classes=["Dog"]).stems["Dog"].audio
    alone = keen.separate(samples, 32_000, classes=["Dog"]).stems["Dog"].audio
    np.testing.assert_allclose(stem[:, 0], alone, atol=1e-5)


def test_soft_and_short_examples_are_heard(keen):
    for example in (0.01 * random(64_000), random(2_000)):
        assert np.isfinite(keen.embed([example], 32_000)).all()


def test_a_span_of_a_silent_recording_has_a_silent_stem(keen):
    silence = np.zeros(80_000, np.float32)
    assert not keen.separate(silence, 32_000, spans=[(1.0, 2.0)]).stems["span"].audio.any()
    with pytest.raises(ValueError, match="not a time in the recording"):
        keen.separate(silence, 32_000, spans=[(7.0, 8.0)])


def test_a_latent_model_leaves_out_the_nodes_that_it_cannot_ask_for_and_refuses_classes(noise):
    config = SMALL | {
        "tagger": SMALL["tagger"] | {"prior": 0.6, "kind": "cnn14"},
        "query": {"kind": "latent"},
        "classes": [SPEECH],
    }
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    networks = model_dir.build_networks(config, variables)
    conditions = random(1, networks.condition_size)
    latent = Model(dataclasses.replace(networks, class_conditions=conditions))
    assert list(latent.separate(noise, 32_000, levels=[1]).stems) == ["Human sounds"]
    for wish in ({"classes": ["Dog"]}, {"classes": ["Speech"], "exclude": ["Dog"]}):
        with pytest.raises(ValueError, match="Dog: the query of this model is latent"):
            latent.separate(noise, 32_000, **wish)
