"""Training mixtures and clips: what is in them, and that each is a function of seed and index alone."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

from uss_jax import audioset, mixing, mixtures
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips
from uss_jax.effects import Effects

SEGMENT = 16_000
PLAIN = {
    "shift_seconds": 0.0,
    "level_range_db": 0.0,
    "gain_range_db": 0.0,
    "speed_range": 1.0,
    "label_query_share": 0.0,
}
VARIED = PLAIN | {"shift_seconds": 0.5, "level_range_db": 6.0, "gain_range_db": 6.0, "speed_range": 1.2}
EVERYTHING = {"most_sources": 4, "effects": Effects(equaliser_range_db=9.0, reverb_share=0.5, noise_share=0.5)}
WHOLE_CLIPS = {"loudest": False, "gain_range_db": 0.0, "speed_range": 1.0}


@pytest.fixture(scope="module")
def clips(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def anchors(clips):
    """One anchor for each (clip, label), anywhere in the clip."""
    clip, label = clips.label_pairs()
    start = np.random.default_rng(0).integers(0, clips.samples[clip] - SEGMENT)
    return Anchors(clip, label, start, np.ones(len(clip)))


def mixture_source(clips, anchors, seed=0, source_count=2, **fields):
    fields = {"length": 100, "segment_samples": SEGMENT, "class_power": 0.0} | PLAIN | fields
    return mixtures.MixtureSource(clips, anchors, seed=seed, source_count=source_count, **fields)


def clip_source(clips, **fields):
    fields = {"seed": 0, "length": 100, "clip_samples": 2 * SEGMENT, "class_power": 0.0} | WHOLE_CLIPS | fields
    return mixtures.ClipSource(clips, **fields)


def item(source, index):
    return source.items([index])[0]


class Recordings:
    """Stands for a dataset of these recordings, each of the class that its number is."""

    folder = "recordings"

    def __init__(self, *recordings):
        self.recordings = recordings
        self.samples = np.array([len(samples) for samples in recordings])

    def label_pairs(self):
        return np.arange(len(self.recordings)), np.arange(len(self.recordings))

    def labels(self, clip):
        return np.array([clip])

    def audio(self, clip, start=0, count=None):
        return self.recordings[clip][start:][:count]


def noise(count, seed):
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def place(samples, piece):
    """Where a recording holds this piece: its first sample."""
    (start,) = np.flatnonzero(samples == piece[0])
    np.testing.assert_array_equal(samples[start : start + len(piece)], piece)
    return int(start)


def assert_same_items(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


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


# Batches


class Numbers:
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def items(self, indices):
        return [{"number": np.int64(index)} for index in indices]


def numbers(*args, **fields):
    return [batch["number"].tolist() for batch in mixtures.batches(*args, **fields)]


def test_batches_are_whole_and_in_order():
    assert numbers(Numbers(11), 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_batches_go_on_from_any_step(start):
    assert numbers(Numbers(20), 4, start=start) == numbers(Numbers(20), 4)[start:]


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_the_processes_share_each_batch_in_order(process_count):
    parts = [numbers(Numbers(24), 8, process=process, process_count=process_count) for process in range(process_count)]
    for step in range(3):
        joined = list(itertools.chain(*(part[step] for part in parts)))
        assert joined == list(range(8 * step, 8 * (step + 1)))
        assert {len(part[step]) for part in parts} == {8 // process_count}


def test_batches_of_mixtures_are_stacks_of_items(clips, anchors):
    source = mixture_source(clips, anchors, length=4, **VARIED)
    batch = next(mixtures.batches(source, 4))
    for index in range(4):
        assert_same_items({name: values[index] for name, values in batch.items()}, item(source, index))


def test_a_batch_reads_each_anchor_once(clips, anchors):
    class Counted(Clips):
        read = 0

        def audio(self, *args):
            Counted.read += 1
            return super().audio(*args)

    source = mixture_source(Counted(clips.folder, "train"), anchors)
    source.items(range(10))
    assert 10 < Counted.read < 16  # two for each mixture, were they read anew


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_reading_processes_change_nothing(clips, workers, tmp_path):
    """In a program of its own, since Grain's workers import the main module anew."""
    code = f"""
import hashlib
import numpy as np
from absl import app
from uss_jax import mixtures
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips

def main(argv):
    clips = Clips({str(clips.folder)!r}, "train")
    clip, label = clips.label_pairs()
    anchors = Anchors(clip, label, np.zeros(len(clip), int), np.ones(len(clip)))
    source = mixtures.MixtureSource(clips, anchors, seed=0, length=40, segment_samples={SEGMENT}, source_count=2,
        class_power=0.0, shift_seconds=0.5, level_range_db=6.0, gain_range_db=6.0, speed_range=1.2,
        label_query_share=0.5)
    for workers in (0, {workers}):
        total = hashlib.sha256()
        for batch in mixtures.batches(source, 4, start=1, workers=workers):
            total.update(batch["mixture"].tobytes())
        print(total.hexdigest())

if __name__ == "__main__":
    app.run(main)
"""
    (tmp_path / "read.py").write_text(code)
    read = subprocess.run([sys.executable, tmp_path / "read.py"], check=True, capture_output=True, text=True)
    inside, beside = read.stdout.split()
    assert inside == beside


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


# Effects, and a random number of sources


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
