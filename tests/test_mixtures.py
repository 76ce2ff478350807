"""Training mixtures and clips: what is in them, and that each is a function of seed and index alone."""

import itertools
import pickle

import numpy as np
import pytest
from mixed import (
    SEGMENT,
    VARIED,
    Recordings,
    anchors_anywhere,
    assert_same_items,
    clip_source,
    item,
    mixture_source,
    noise,
    place,
)

from uss_jax import audioset, mixing, mixtures
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips


@pytest.fixture(scope="module")
def clips(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def anchors(clips):
    return anchors_anywhere(clips)


# Mixing


def sines(*amplitudes):
    return [np.float32(a) * np.sin(np.arange(1000) * (0.1 + 0.05 * i)) for i, a in enumerate(amplitudes)]


@pytest.mark.parametrize(
    ("other", "ratio"), [(0.5, 1.0), (0.25, 2.0), (5.0, 0.1), (1e-3, 50.0), (1e3, 0.02), (0.0, 50.0)]
)
def test_the_energy_ratio_is_kept_in_bounds(other, ratio):
    ones = np.ones(100, np.float32)
    assert mixing.energy_ratio(0.5 * ones, other * ones) == pytest.approx(ratio)


def test_silence_asks_for_silence():
    ones = np.ones(100, np.float32)
    assert mixing.energy_ratio(0 * ones, ones) == pytest.approx(0.02)
    assert not mixing.add(mixing.scaled([0 * ones, 0 * ones])).any()


def test_further_sources_get_the_energy_of_the_first_and_their_level():
    first, second, third = sines(0.5, 0.1, 2.0)
    mixed = mixing.add(mixing.scaled([first, second, third], levels_db=[0.0, 20.0]))
    np.testing.assert_allclose(mixed, first + 5 * second + 2.5 * third, atol=0.01)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixing.add(mixing.scaled([first, second])), first + 5 * second, atol=0.01)


def test_speed_changes_pitch_and_length_together():
    time = np.arange(2000)
    faster = mixtures.change_speed(np.sin(0.01 * time).astype(np.float32), 1000)
    assert faster.shape == (1000,)
    assert faster.dtype == np.float32
    np.testing.assert_allclose(faster, np.sin(0.01 * np.linspace(0, 1999, 1000)), atol=1e-4)
    np.testing.assert_array_equal(mixtures.change_speed(faster, 1000), faster)


# Mixtures of anchors


def test_a_mixture_is_the_source_and_its_partner_with_equal_energy(clips, anchors):
    source = mixture_source(clips, anchors)
    for index in range(10):
        mixed = item(source, index)
        target, partner = (
            clips.audio(int(anchors.clip[i]))[anchors.start[i] : anchors.start[i] + SEGMENT]
            for i in source.choose(index)
        )
        np.testing.assert_array_equal(mixed["source"], target)
        rest = mixed["mixture"] - mixed["source"]
        ratio = mixing.energy_ratio(target, partner)
        np.testing.assert_allclose(rest, ratio * partner, atol=1e-6)
        assert 0.02 < ratio < 50
        assert np.mean(rest**2) == pytest.approx(np.mean(target**2), rel=1e-4)


def test_three_sources_add_up(clips, anchors):
    source = mixture_source(clips, anchors, source_count=3)
    mixed, chosen = item(source, 4), source.choose(4)
    first, *others = (clips.audio(int(anchors.clip[i]))[anchors.start[i] : anchors.start[i] + SEGMENT] for i in chosen)
    assert len(others) == 2
    expected = first + sum(other * mixing.energy_ratio(first, other) for other in others)
    np.testing.assert_allclose(mixed["mixture"], expected, atol=1e-6)


@pytest.mark.parametrize("source_count", [2, 3, 4])
def test_sources_share_no_label(clips, anchors, source_count):
    source = mixture_source(clips, anchors, source_count=source_count)
    for index in range(50):
        chosen = source.choose(index)
        assert len(chosen) == source_count
        for one, other in itertools.combinations(chosen, 2):
            assert audioset.disjoint(clips.labels(int(anchors.clip[one])), clips.labels(int(anchors.clip[other])))


def test_targets_are_balanced_and_labelled_with_all_their_clips_labels(clips, anchors):
    source = mixture_source(clips, anchors, label_query_share=1.0)
    targets = [source.choose(index)[0] for index in range(50)]
    labels = np.unique(anchors.label)
    assert [np.count_nonzero(anchors.label[targets] == label) for label in labels] == [10] * 5
    for index in range(10):
        present = np.flatnonzero(item(source, index)["query_classes"])
        assert present.tolist() == clips.labels(int(anchors.clip[targets[index]])).tolist()


def test_a_share_of_the_queries_keeps_only_the_sources_classes(clips, anchors):
    kept = [item(mixture_source(clips, anchors, label_query_share=0.3), index)["query_classes"] for index in range(60)]
    whole = [bool(classes.all()) for classes in kept]
    assert 0.55 < np.mean(whole) < 0.85
    assert {int(classes.sum()) for classes in kept} == {1, 2, 527}


def test_without_a_partner_of_another_class_the_dataset_is_named(clips, anchors):
    dogs = np.isin(anchors.label, audioset.parse_labels("Dog, Bark"))
    only = Anchors(anchors.clip[dogs], anchors.label[dogs], anchors.start[dogs], anchors.confidence[dogs])
    with pytest.raises(ValueError, match=r"tones.*not 2 clips without a common label"):
        item(mixture_source(clips, only), 0)
    with pytest.raises(ValueError, match="not 5 clips without a common label"):
        item(mixture_source(clips, anchors, source_count=5), 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_varied_mixtures_keep_within_their_ranges(clips, anchors, seed):
    source, plain = mixture_source(clips, anchors, seed, **VARIED), mixture_source(clips, anchors, seed)
    levels, gains = [], []
    for index in range(20):
        mixed = item(source, index)
        rest = mixed["mixture"] - mixed["source"]
        levels.append(10 * np.log10(np.mean(rest**2) / np.mean(mixed["source"] ** 2)))
        only_gain = item(mixture_source(clips, anchors, seed, gain_range_db=6.0), index)
        gains.append(20 * np.log10(np.abs(only_gain["source"]).max() / np.abs(item(plain, index)["source"]).max()))
    for values in (levels, gains):
        assert np.abs(values).max() <= 6.01
        assert np.ptp(values) > 6


def test_a_shifted_anchor_stays_inside_its_clip():
    clips = Recordings(noise(50_000, 0), noise(30_000, 1))
    length = np.array([50_000, 30_000])
    at_ends = Anchors(np.arange(2), np.arange(2), length - SEGMENT, np.ones(2))
    source = mixture_source(clips, at_ends, shift_seconds=0.25)
    shifts = []
    for index in range(40):
        clip = source.choose(index)[0]
        shifts.append(place(clips.audio(clip), item(source, index)["source"]) - (length[clip] - SEGMENT))
    assert -8000 <= min(shifts) < -6000
    assert shifts.count(0) > 10  # those moved towards the end


@pytest.mark.parametrize("make", [mixture_source, lambda clips, anchors, seed, **_: clip_source(clips, seed=seed)])
def test_items_are_functions_of_seed_and_index_alone(clips, anchors, make):
    source = make(clips, anchors, seed=5, **VARIED)
    items = [item(source, index) for index in range(6)]
    pickled = pickle.loads(pickle.dumps(make(clips, anchors, seed=5, **VARIED)))
    for index in reversed(range(6)):
        assert_same_items(item(pickled, index), items[index])
        assert_same_items(item(source, index), items[index])
    other = make(clips, anchors, seed=6, **VARIED)
    name = next(iter(items[0]))
    assert any((item(other, index)[name] != items[index][name]).any() for index in range(6))


@pytest.mark.parametrize("name", ["source", "audio"])
def test_speeds_keep_within_their_range(name):
    low, high = (np.sin(pitch * np.arange(80_000)).astype(np.float32) for pitch in (0.05, 0.1))
    clips = Recordings(low, high)
    if name == "source":
        anchors = Anchors(np.arange(2), np.arange(2), np.full(2, 30_000), np.ones(2))
        source, labels = mixture_source(clips, anchors, speed_range=1.25, label_query_share=1.0), "query_classes"
    else:
        source, labels = clip_source(clips, clip_samples=SEGMENT, speed_range=1.25), "labels"
    speeds = []
    for index in range(40):
        mixed = item(source, index)
        assert mixed[name].shape == (SEGMENT,)
        pitch = 0.05 * (1 + np.flatnonzero(mixed[labels])[0])
        speeds.append(np.count_nonzero(np.diff(np.sign(mixed[name]))) * np.pi / SEGMENT / pitch)
    assert 0.79 < min(speeds) < 0.85
    assert 1.18 < max(speeds) < 1.27


# Clips for the tagger


def test_a_clip_item_is_any_stretch_of_a_labelled_clip():
    clips = Recordings(noise(50_000, 0), noise(40_000, 1))
    source = clip_source(clips)
    starts = {0: [], 1: []}
    for index in range(40):
        mixed = item(source, index)
        assert mixed["audio"].shape == (2 * SEGMENT,)
        (clip,) = np.flatnonzero(mixed["labels"])
        starts[int(clip)].append(place(clips.audio(clip), mixed["audio"]))
    for clip, room in enumerate((18_000, 8_000)):
        assert len(set(starts[clip])) == len(starts[clip])
        assert 0 <= min(starts[clip]) < 0.3 * room
        assert 0.7 * room < max(starts[clip]) <= room


def test_clip_items_are_balanced(clips):
    source = clip_source(clips)
    seen = sum(item(source, index)["labels"] for index in range(50))
    assert [seen[label] for label in audioset.parse_labels("Rain, Speech, Helicopter")] == [10, 10, 10]
    assert [seen[label] for label in audioset.parse_labels("Dog, Bark")] == [20, 20]  # each comes with the other


def test_a_short_clip_is_padded_with_zeros(clips):
    longest = int(clips.samples.max())
    padded = item(clip_source(clips, clip_samples=longest + 100), 0)["audio"]
    assert padded.shape == (longest + 100,)
    assert not padded[-100:].any()
    assert padded[:3200].any()


@pytest.mark.parametrize("loudest", [False, True])
def test_gains_keep_within_their_range(clips, loudest):
    plain = clip_source(clips, loudest=loudest)
    louder = clip_source(clips, loudest=loudest, gain_range_db=6.0)
    gains = [
        20 * np.log10(np.abs(item(louder, i)["audio"]).max() / np.abs(item(plain, i)["audio"]).max()) for i in range(20)
    ]
    assert np.abs(gains).max() <= 6.01
    assert np.ptp(gains) > 6


def test_the_loudest_part_is_not_missed():
    samples = 0.01 * noise(320_000, 0)
    samples[200_000:232_000] *= 50
    loud = np.sum(samples**2)

    def shares(loudest):
        source = clip_source(Recordings(samples), clip_samples=32_000, loudest=loudest)
        return np.array([np.sum(item(source, index)["audio"] ** 2) / loud for index in range(40)])

    assert shares(True).min() > 0.6  # moved by a quarter of a second and half a grid step at most
    assert shares(True).max() - shares(True).min() > 0.1
    assert np.median(shares(False)) < 0.1


# Strategies of the paper's study


def test_random_anchors_are_any_part_of_the_clip():
    clips = Recordings(*(noise(4 * SEGMENT, seed) for seed in range(3)))
    anchors = Anchors(np.arange(3), np.arange(3), np.full(3, 7), np.ones(3))
    source = mixture_source(clips, anchors, anchors_from="out_of_clip", length=600)
    starts = np.array([place(clips.audio(source.choose(i)[0]), item(source, i)["source"]) for i in range(0, 600, 2)])
    assert starts.min() < 0.1 * SEGMENT
    assert starts.max() > 2.9 * SEGMENT
    assert abs(starts.mean() - 1.5 * SEGMENT) < 0.15 * SEGMENT
    assert_same_items(item(source, 5), item(mixture_source(clips, anchors, anchors_from="out_of_clip"), 5))


def test_partners_in_a_clip_are_other_parts_of_it():
    clips = Recordings(*(noise(4 * SEGMENT, seed) for seed in range(3)))
    anchors = Anchors(np.arange(3), np.arange(3), np.zeros(3, int), np.ones(3))
    source = mixture_source(clips, anchors, anchors_from="in_clip", match_energy=False)
    for index in range(6):
        (first, second), made = source.clips_of(index), item(source, index)
        assert first == second
        recording = clips.audio(first)
        partner = made["mixture"] - made["source"]
        windows = np.lib.stride_tricks.sliding_window_view(recording, SEGMENT)[:, :8]
        found = np.flatnonzero(np.abs(windows - partner[:8]).max(axis=1) < 1e-5)
        assert len(found) == 1
        np.testing.assert_allclose(recording[found[0] : found[0] + SEGMENT], partner, atol=1e-5)
        assert found[0] != place(recording, made["source"])


@pytest.mark.parametrize(("sources", "targets"), [(3, 1), (3, 2), (4, 3)])
def test_several_sources_are_separated_together(sources, targets):
    clips = Recordings(*(noise(2 * SEGMENT, seed) for seed in range(5)))
    anchors = Anchors(np.arange(5), np.arange(5), np.zeros(5, int), np.ones(5))
    source = mixture_source(clips, anchors, source_count=sources, target_count=targets)
    made = item(source, 3)
    chosen = source.clips_of(3)
    segments = mixing.scaled([clips.audio(clip, 0, SEGMENT) for clip in chosen])
    np.testing.assert_allclose(made["source"], np.sum(segments[:targets], axis=0), atol=1e-6)
    np.testing.assert_allclose(made["mixture"], np.sum(segments, axis=0), atol=1e-6)
    assert sorted(np.flatnonzero(made["labels"])) == sorted(chosen[:targets])


@pytest.mark.parametrize(("match", "range_db"), [(True, 0.0), (False, 0.0), (False, 20.0)])
def test_levels_are_matched_kept_or_spread(match, range_db):
    gains = (1.0, 0.1, 0.5)
    clips = Recordings(*(gain * noise(SEGMENT, seed) for seed, gain in enumerate(gains)))
    anchors = Anchors(np.arange(3), np.arange(3), np.zeros(3, int), np.ones(3))
    source = mixture_source(clips, anchors, match_energy=match, level_range_db=range_db, length=300)
    levels = []
    for index in range(0, 300, 3):
        made, (_, second) = item(source, index), source.clips_of(index)
        wanted = made["source"] if match else clips.audio(second)
        levels.append(10 * np.log10(np.mean((made["mixture"] - made["source"]) ** 2) / np.mean(wanted**2)))
    assert np.max(np.abs(levels)) < (1e-3 if range_db == 0.0 else range_db + 1e-3)
    assert np.ptp(levels) > 1.8 * range_db - 1e-3


@pytest.mark.parametrize(
    "fields", [{"target_count": 2}, {"target_count": 0}, {"source_count": 3, "target_count": 3}, {"anchors_from": "x"}]
)
def test_impossible_strategies_are_refused(clips, anchors, fields):
    with pytest.raises(ValueError, match="expected"):
        mixture_source(clips, anchors, **fields)
