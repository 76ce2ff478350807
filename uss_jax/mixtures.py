"""Mixtures made on the fly from anchors of different classes (paper, section III-C), read through Grain."""

from typing import Any, SupportsIndex

import grain
import numpy as np

from uss_jax import audio, audioset
from uss_jax.anchors import Anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.mixing import mix
from uss_jax.sampling import BalancedSampler, choose_sources


def change_speed(samples: np.ndarray, length: int) -> np.ndarray:
    """Plays faster or slower, and so higher or lower, by linear interpolation: (time,) → (length,)."""
    if len(samples) == length:
        return samples
    return np.interp(np.linspace(0, len(samples) - 1, length), np.arange(len(samples)), samples).astype(np.float32)


class MixtureSource:
    """Grain source of training mixtures: item i is a pure function of (seed, i).

    The target is the i-th anchor of the balanced order; its partners are the next anchors in that order whose clips
    share no label with it or with one another.
    """

    def __init__(
        self,
        clips: Clips,
        anchors: Anchors,
        *,
        seed: int,
        length: int,
        segment_samples: int,
        source_count: int,
        class_power: float,
        shift_seconds: float,
        level_range_db: float,
        gain_range_db: float,
        speed_range: float,
    ) -> None:
        """Says what to mix.

        Args:
          clips: where the audio is.
          anchors: what to read of it.
          seed: of every random choice.
          length: how many items there are.
          segment_samples: samples of an item.
          source_count: sources in a mixture, at least 2.
          class_power: see `BalancedSampler`.
          shift_seconds: an anchor is moved by up to this much; 0 in the reference.
          level_range_db: partners are this much louder or softer than the target at most; 0 is energy matching.
          gain_range_db: the mixture is this much louder or softer at most.
          speed_range: sources are played up to this factor faster or slower; 1 in the reference.
        """
        self._clips, self._anchors = clips, anchors
        self._sampler = BalancedSampler(anchors.label, seed, class_power)
        self._seed, self._length = seed, length
        self._segment_samples, self._source_count = segment_samples, source_count
        self._shift = int(shift_seconds * SAMPLE_RATE_HZ)
        self._level_range_db, self._gain_range_db, self._speed_range = level_range_db, gain_range_db, speed_range

    def __len__(self) -> int:
        return self._length

    def choose(self, index: int) -> list[int]:
        """The anchors mixed in item `index`, target first."""
        chosen = choose_sources(self._sampler, index, self._source_count, self._labels)
        if len(chosen) < self._source_count:
            raise ValueError(f"{self._clips.folder}: not {self._source_count} clips without a common label to be mixed")
        return chosen

    def __getitem__(self, record_key: SupportsIndex) -> dict[str, np.ndarray]:
        """An item: `mixture` and `source` (time,), and `labels` of the source's clip (classes,)."""
        index = int(record_key)
        random = np.random.default_rng((self._seed, 0, index))
        chosen = self.choose(index)
        segments = [self._segment(anchor, random) for anchor in chosen]
        gain = 10 ** (random.uniform(-self._gain_range_db, self._gain_range_db) / 20)
        levels = [random.uniform(-self._level_range_db, self._level_range_db) for _ in segments[1:]]
        labels = np.zeros(audioset.CLASS_COUNT, np.float32)
        labels[self._labels(chosen[0])] = 1.0
        return {
            "mixture": mix(segments, levels) * np.float32(gain),
            "source": segments[0] * np.float32(gain),
            "labels": labels,
        }

    def _labels(self, anchor: int) -> np.ndarray:
        return self._clips.labels(int(self._anchors.clip[anchor]))

    def _segment(self, anchor: int, random: np.random.Generator) -> np.ndarray:
        samples = self._clips.audio(int(self._anchors.clip[anchor]))
        length = int(self._segment_samples * self._speed_range ** random.uniform(-1, 1))
        start = int(self._anchors.start[anchor]) + int(random.integers(-self._shift, self._shift + 1))
        start = max(0, min(start, len(samples) - length))
        piece = audio.fit_length(samples[start:], length)
        return change_speed(piece, self._segment_samples)


class ClipSource:
    """Grain source of labelled clips for the tagger, class-balanced: item i is a pure function of (seed, i)."""

    def __init__(
        self,
        clips: Clips,
        *,
        seed: int,
        length: int,
        clip_samples: int,
        class_power: float,
        loudest: bool,
        gain_range_db: float,
        speed_range: float,
    ) -> None:
        """Says what to read.

        Args:
          clips: where the audio is.
          seed: of every random choice.
          length: how many items there are.
          clip_samples: samples of an item; longer clips are cut, shorter ones padded with zeros.
          class_power: see `BalancedSampler`.
          loudest: cut around the loudest part, where a weak label most likely holds, and not anywhere.
          gain_range_db: an item is this much louder or softer at most.
          speed_range: it is played up to this factor faster or slower.
        """
        self._clips, self._seed, self._length, self._clip_samples = clips, seed, length, clip_samples
        self._loudest, self._gain_range_db, self._speed_range = loudest, gain_range_db, speed_range
        self._pair_clips, labels = clips.label_pairs()
        self._sampler = BalancedSampler(labels, seed, class_power)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, record_key: SupportsIndex) -> dict[str, np.ndarray]:
        """An item: `audio` (time,) and `labels` (classes,)."""
        index = int(record_key)
        random = np.random.default_rng((self._seed, 0, index))
        clip = int(self._pair_clips[self._sampler[index]])
        samples = self._clips.audio(clip)
        length = int(self._clip_samples * self._speed_range ** random.uniform(-1, 1))
        room = max(0, len(samples) - length)
        if self._loudest:
            start = audio.loudest_start(samples, length, step=SAMPLE_RATE_HZ // 10)
            start += int(random.integers(-length // 4, length // 4 + 1))
        else:
            start = int(random.integers(0, room + 1))
        piece = audio.fit_length(samples[min(max(start, 0), room) :], length)
        gain = np.float32(10 ** (random.uniform(-self._gain_range_db, self._gain_range_db) / 20))
        labels = np.zeros(audioset.CLASS_COUNT, np.float32)
        labels[self._clips.labels(clip)] = 1.0
        return {"audio": change_speed(piece, self._clip_samples) * gain, "labels": labels}


def batches(
    source: Any, batch_size: int, workers: int = 0, process: int = 0, process_count: int = 1
) -> grain.DatasetIterator:
    """A checkpointable iterator over this process's batches.

    Args:
      source: a Grain random-access source.
      batch_size: items of a batch in this process.
      workers: reading processes; 0 reads in threads of this one.
      process, process_count: of the hosts that share the source; each reads every `process_count`-th item.
    """
    items = grain.MapDataset.source(source).slice(slice(process, None, process_count))
    threads = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4 * batch_size)
    dataset = items.to_iter_dataset(threads).batch(batch_size, drop_remainder=True)
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(dataset)
