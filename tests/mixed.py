"""What tests of mixtures share: sources of them, and recordings of noise to be mixed."""

import numpy as np

from uss_jax import mixtures
from uss_jax.anchors import Anchors

SEGMENT = 16_000
PLAIN = {
    "shift_seconds": 0.0,
    "level_range_db": 0.0,
    "gain_range_db": 0.0,
    "speed_range": 1.0,
    "label_query_share": 0.0,
}
VARIED = PLAIN | {"shift_seconds": 0.5, "level_range_db": 6.0, "gain_range_db": 6.0, "speed_range": 1.2}
WHOLE_CLIPS = {"loudest": False, "gain_range_db": 0.0, "speed_range": 1.0}


def anchors_anywhere(clips):
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
