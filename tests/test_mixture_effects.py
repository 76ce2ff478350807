"""Effects on sources and mixtures, and mixtures of a random number of sources."""

import pickle

import numpy as np
import pytest
from mixed import SEGMENT, VARIED, Recordings, assert_same_items, clip_source, item, mixture_source, noise

from uss_jax import mixing, mixtures
from uss_jax.anchors import Anchors
from uss_jax.effects import Effects

EVERYTHING = {"most_sources": 4, "effects": Effects(equaliser_range_db=9.0, reverb_share=0.5, noise_share=0.5)}


def recordings(count):
    return Recordings(*(0.1 * noise(3 * SEGMENT, seed) for seed in range(count)))


def make_mixtures(clips, **fields):
    count = len(clips.recordings)
    anchors = Anchors(np.arange(count), np.arange(count), np.full(count, SEGMENT), np.ones(count))
    return mixture_source(clips, anchors, **(VARIED | fields))


def make_clips(clips, **fields):
    return clip_source(clips, **({"gain_range_db": 6.0, "speed_range": 1.2, "level_range_db": 6.0} | fields))


MAKERS = [make_mixtures, make_clips]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_off_changes_no_bit(make):
    plain, same = make(recordings(8)), make(recordings(8), most_sources=0, effects=Effects())
    for index in range(10):
        assert_same_items(item(same, index), item(plain, index))


@pytest.mark.parametrize("make", MAKERS)
def test_a_random_number_of_sources_moves_no_other_draw(make):
    plain, varied = make(recordings(8)), make(recordings(8), most_sources=3)
    alike = [index for index in range(20) if varied.clips_of(index) == plain.clips_of(index)]
    assert 0 < len(alike) < 20
    for index in alike:
        assert_same_items(item(varied, index), item(plain, index))


@pytest.mark.parametrize("make", MAKERS)
def test_items_with_everything_are_the_same_whatever_batch_they_are_in(make):
    source = make(recordings(8), **EVERYTHING)
    together = source.items(range(12))
    pickled = pickle.loads(pickle.dumps(make(recordings(8), **EVERYTHING)))
    for index in reversed(range(12)):
        assert_same_items(item(pickled, index), together[index])
    (batch,) = mixtures.batches(make(recordings(8), length=12, **EVERYTHING), 12)
    for index in range(12):
        assert_same_items({name: values[index] for name, values in batch.items()}, together[index])


@pytest.mark.parametrize(("make", "read"), [(make_mixtures, range(12, 30)), (make_clips, range(12, 13))])
def test_a_batch_reads_and_filters_a_clip_once_for_all_its_items(make, read, monkeypatch):
    filtered = []
    on_source = Effects.on_source
    monkeypatch.setattr(Effects, "on_source", lambda *args: filtered.append(1) or on_source(*args))
    source = make(recordings(12), source_count=3, effects=EVERYTHING["effects"])
    source.items(range(10))
    assert len(filtered) in read  # 30, were each item made by itself


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("least", "most"), [(2, 4), (3, 5)])
def test_each_number_of_sources_is_as_likely(make, least, most):
    source = make(recordings(12), source_count=least, most_sources=most)
    counts = np.array([len(source.clips_of(index)) for index in range(600)])
    assert sorted(set(counts)) == list(range(least, most + 1))
    assert np.bincount(counts)[least:].min() > 200 * 0.8


def test_as_many_sources_as_can_be_found_are_mixed():
    source = make_mixtures(recordings(3), most_sources=5)
    assert {len(source.clips_of(index)) for index in range(40)} == {2, 3}
    with pytest.raises(ValueError, match="not 4 clips without a common label"):
        item(make_mixtures(recordings(3), source_count=4, most_sources=5), 0)


def test_mixtures_of_random_numbers_of_sources_have_the_targets_that_are_asked_for():
    source = make_mixtures(recordings(12), source_count=3, target_count=2, most_sources=5)
    for index in range(20):
        assert np.flatnonzero(item(source, index)["labels"]).tolist() == sorted(source.clips_of(index)[:2])


def test_a_filter_belongs_to_a_place_and_filtered_sources_add_up():
    """The sources of a mixture are those of the mixtures of which they are the target."""
    on = {"effects": Effects(equaliser_range_db=9.0, reverb_share=1.0)}
    source, plain = (
        make_mixtures(recordings(8), most_sources=4, level_range_db=0.0, gain_range_db=0.0, **fields)
        for fields in (on, {})
    )
    order = [source.clips_of(index)[0] for index in range(30)]
    for index in range(8):
        made, (clip, *partners) = item(source, index), source.clips_of(index)
        assert plain.clips_of(index) == [clip, *partners]
        before = item(plain, index)["source"]
        assert np.max(np.abs(made["source"] - before)) > 0.1 * np.max(np.abs(before))
        places = [order.index(partner, index) for partner in partners]  # the next in the order
        segments = [made["source"], *(item(source, place)["source"] for place in places)]
        np.testing.assert_allclose(made["mixture"], mixing.add(mixing.scaled(segments)), atol=1e-6)


def test_each_place_and_each_part_of_a_clip_has_a_filter_of_its_own():
    time = np.arange(3 * SEGMENT)
    clips = Recordings(*(np.sin(pitch * time).astype(np.float32) for pitch in (0.1, 0.2)))
    fields = {"anchors_from": "in_clip", "match_energy": False}
    fields |= {"level_range_db": 0.0, "gain_range_db": 0.0, "speed_range": 1.0}
    source = make_mixtures(clips, effects=Effects(equaliser_range_db=12.0), **fields)
    levels = []
    for index in range(20):
        made = item(source, index)
        energies = np.mean(np.square([made["source"], made["mixture"] - made["source"]]), axis=1)
        levels.append(10 * np.log10(energies))  # a pure tone's level is the equaliser's gain
    target, partner = np.transpose(levels)
    assert np.ptp(target) > 6
    assert np.ptp(partner - target) > 6


@pytest.mark.parametrize("make", MAKERS)
def test_noise_is_added_to_the_mixture_and_not_to_what_is_separated(make):
    clean, noisy = make(recordings(8)), make(recordings(8), effects=Effects(noise_share=1.0))
    name, levels = "mixture" if make is make_mixtures else "audio", []
    for index in range(10):
        before, after = item(clean, index), item(noisy, index)
        added = after[name] - before[name]
        levels.append(10 * np.log10(np.mean(added**2) / np.mean(before[name] ** 2)))
        assert_same_items(after | {name: before[name]}, before)
    assert -40.1 < min(levels) < max(levels) < -9.9
    assert np.ptp(levels) > 10


def test_a_taggers_mixture_is_its_clip_and_the_next_with_all_their_labels():
    clips = recordings(8)
    plain = clip_source(clips, gain_range_db=6.0)
    mixed = clip_source(clips, gain_range_db=6.0, source_count=3, level_range_db=3.0)
    levels = []
    for index in range(20):
        made, singles = item(mixed, index), plain.items(range(index, index + 3))
        assert mixed.clips_of(index) == [plain.clips_of(place)[0] for place in range(index, index + 3)]
        np.testing.assert_array_equal(made["labels"], np.max([single["labels"] for single in singles], axis=0))
        parts = np.stack([single["audio"] for single in singles])
        factors, misfit, *_ = np.linalg.lstsq(parts.T.astype(np.float64), made["audio"], rcond=None)
        assert misfit[0] < 1e-8 * np.sum(made["audio"] ** 2)  # their sum, and nothing else
        assert factors[0] == pytest.approx(1.0, abs=1e-4)
        energies = factors**2 * np.mean(parts**2, axis=1)
        levels += (10 * np.log10(energies[1:] / energies[0])).tolist()
    assert np.abs(levels).max() < 3.01
    assert np.ptp(levels) > 4.5


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("counts", [(3, 2), (2, -1), (0, 0)])
def test_impossible_numbers_of_sources_are_refused(make, counts):
    with pytest.raises(ValueError, match="expected"):
        make(recordings(4), source_count=counts[0], most_sources=counts[1])
