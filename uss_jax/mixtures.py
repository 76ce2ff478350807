"""Mixtures made on the fly from anchors of different classes (paper, section III-C), read through Grain."""

import signal
from collections.abc import Sequence
from typing import SupportsIndex

import grain
import numpy as np

from uss_jax import audio, audioset, mixing, processes
from uss_jax.anchors import Anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.effects import Effects
from uss_jax.sampling import BalancedSampler, choose_places

ANCHORS_FROM = ("mined", "out_of_clip", "in_clip")

# Numbers of the streams of random draws, after 0 and 1 below and those of `BalancedSampler`, one for each class.
FILTERS, NOISE, COUNTS, LEVELS = range(audioset.CLASS_COUNT + 1, audioset.CLASS_COUNT + 5)


def change_speed(samples: np.ndarray, length: int) -> np.ndarray:
    """Plays faster or slower, and so higher or lower, by linear interpolation: (time,) → (length,)."""
    if len(samples) == length:
        return samples
    return np.interp(np.linspace(0, len(samples) - 1, length), np.arange(len(samples)), samples).astype(np.float32)


def check_counts(source_count: int, most_sources: int) -> None:
    """Raises ValueError where an item cannot have from `source_count` to `most_sources` sources; 0 is for no more."""
    if source_count < 1 or (most_sources and most_sources < source_count):
        raise ValueError(
            f"data.source_count {source_count}, data.most_sources {most_sources}: expected 1 or more, and as many or 0"
        )


def draw_count(seed: int, index: int, source_count: int, most_sources: int) -> int:
    """How many sources item `index` has, from `source_count` to `most_sources`, each as likely; 0 is for no more."""
    if most_sources <= source_count:
        return source_count
    return int(np.random.default_rng((seed, COUNTS, index)).integers(source_count, most_sources + 1))


class MixtureSource:
    """Source of training mixtures: item i is a pure function of (seed, i).

    The target is the i-th anchor of the balanced order; its partners are the next anchors in that order whose clips
    share no label with it or with one another. How an anchor is moved, sped up and filtered belongs to its place in
    the order, so that this is done once for all the mixtures of a batch that it is part of.

    The paper compares three choices of anchors (section V): `mined`, as above; `out_of_clip`, which takes any part of
    these clips; and `in_clip`, which takes any part of the target's clip, and any others of the same clip as partners.
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
        label_query_share: float,
        target_count: int = 1,
        match_energy: bool = True,
        anchors_from: str = "mined",
        most_sources: int = 0,
        effects: Effects = Effects(),  # noqa: B008, it is frozen
    ) -> None:
        """Says what to mix. The last five default to what the paper settled on.

        Args:
          clips: where the audio is.
          anchors: what to read of it.
          seed: of every random choice.
          length: how many items there are.
          segment_samples: samples of an item.
          source_count: sources in a mixture, at least 2.
          class_power: see `BalancedSampler`.
          shift_seconds: an anchor is moved by up to this much; 0 in the reference.
          level_range_db: partners are this much louder or softer than they else would be, at most.
          gain_range_db: the mixture is this much louder or softer at most.
          speed_range: sources are played up to this factor faster or slower; 1 in the reference.
          label_query_share: share of items whose query keeps only the classes that the source is labelled with, as
            queries of separation by class do; 0 in the reference.
          target_count: how many of the sources are to be separated, together; fewer than are mixed.
          match_energy: partners get the energy of the first source.
          anchors_from: one of `ANCHORS_FROM`.
          most_sources: a mixture has from `source_count` to this many, or to as many as can be mixed; 0 for no more.
          effects: what is done to sources, targets too, and to mixtures.

        Raises:
          ValueError: there is no such choice of anchors, nothing would be left to be taken away, or `most_sources` is
            less than `source_count`.
        """
        if anchors_from not in ANCHORS_FROM:
            raise ValueError(f"data.anchors_from {anchors_from!r}: expected one of {', '.join(ANCHORS_FROM)}")
        if not 1 <= target_count < source_count:
            raise ValueError(f"{target_count} targets of {source_count} sources: expected 1 or more, and fewer")
        check_counts(source_count, most_sources)
        self._target_count, self._match_energy, self._anchors_from = target_count, match_energy, anchors_from
        self._most_sources, self._effects = most_sources, effects
        self._clips = clips
        self._clip, self._start = anchors.clip, anchors.start  # and no more, for every reading process holds them
        self._label_query_share = label_query_share
        self._sampler = BalancedSampler(anchors.label, seed, class_power)
        self._seed, self._length = seed, length
        self._segment_samples, self._source_count = segment_samples, source_count
        self._shift = int(shift_seconds * SAMPLE_RATE_HZ)
        self._level_range_db, self._gain_range_db, self._speed_range = level_range_db, gain_range_db, speed_range

    def __len__(self) -> int:
        return self._length

    def choose(self, index: int) -> list[int]:
        """The anchors mixed in item `index`, targets first."""
        return [self._sampler[place] for place, _ in self._parts(index)]

    def clips_of(self, index: int) -> list[int]:
        """The clips that are mixed in item `index`, targets first."""
        return [int(self._clip[anchor]) for anchor in self.choose(index)]

    def items(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Items of training.

        `mixture` and `source`, what is to be separated, filtered as it is mixed: (time,); `labels` of that:
        (classes,), 1 or 0; and `query_classes`: (classes,), 1 where the query keeps a class.
        """
        segments: dict[tuple[int, int], np.ndarray] = {}
        return [self._item(index, segments) for index in indices]

    def _item(self, index: int, segments: dict[tuple[int, int], np.ndarray]) -> dict[str, np.ndarray]:
        parts = self._parts(index)
        for part in parts:
            if part not in segments:
                segments[part] = self._segment(*part)
        random = np.random.default_rng((self._seed, 0, index))
        gain = np.float32(10 ** (random.uniform(-self._gain_range_db, self._gain_range_db) / 20))
        levels = [random.uniform(-self._level_range_db, self._level_range_db) for _ in parts[1:]]
        targets = parts[: self._target_count]
        labels = audioset.multi_hot(np.concatenate([self._labels(self._sampler[place]) for place, _ in targets]))
        only_labels = random.uniform() < self._label_query_share
        sources = mixing.scaled([segments[part] for part in parts], levels, self._match_energy)
        noise = np.random.default_rng((self._seed, NOISE, index))
        return {
            "mixture": self._effects.on_mixture(mixing.add(sources), noise) * gain,
            "source": mixing.add(sources[: self._target_count]) * gain,
            "labels": labels,
            "query_classes": labels if only_labels else np.ones_like(labels),
        }

    def _parts(self, index: int) -> list[tuple[int, int]]:
        """What is mixed in item `index`: places of the order, and the number of the part of the clip there."""
        count = draw_count(self._seed, index, self._source_count, self._most_sources)
        if self._anchors_from == "in_clip":
            return [(index, part) for part in range(count)]
        places = choose_places(self._sampler, index, count, self._labels)
        if len(places) < self._source_count:
            raise ValueError(f"{self._clips.folder}: not {self._source_count} clips without a common label to be mixed")
        return [(place, 0) for place in places]

    def _labels(self, anchor: int) -> np.ndarray:
        return self._clips.labels(int(self._clip[anchor]))

    def _segment(self, place: int, part: int) -> np.ndarray:
        """A part of the clip at a place of the order, its anchor or any, filtered: (time,)."""
        anchor = self._sampler[place]
        clip = int(self._clip[anchor])
        random = np.random.default_rng((self._seed, 1, place, part) if part else (self._seed, 1, place))
        length = int(self._segment_samples * self._speed_range ** random.uniform(-1, 1))
        room = max(0, int(self._clips.samples[clip]) - length)
        if self._anchors_from == "mined":
            start = int(self._start[anchor]) + int(random.integers(-self._shift, self._shift + 1))
        else:
            start = int(random.integers(room + 1))
        piece = audio.fit_length(self._clips.audio(clip, max(0, min(start, room)), length), length)
        filters = np.random.default_rng((self._seed, FILTERS, place, part))
        return self._effects.on_source(change_speed(piece, self._segment_samples), filters)


class ClipSource:
    """Source of labelled clips for the tagger, class-balanced: item i is a pure function of (seed, i).

    It is the i-th clip of the balanced order, or that and the next ones mixed, with the labels of all of them: a tagger
    has to hear every sound of a separator's mixture. What is done to a clip belongs to its place in the order, so that
    it is read once for all the items of a batch that it is part of.
    """

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
        source_count: int = 1,
        most_sources: int = 0,
        level_range_db: float = 0.0,
        effects: Effects = Effects(),  # noqa: B008, it is frozen
    ) -> None:
        """Says what to read. Unless the last four say otherwise, an item is a clip by itself.

        Args:
          clips: where the audio is.
          seed: of every random choice.
          length: how many items there are.
          clip_samples: samples of an item; longer clips are cut, shorter ones padded with zeros.
          class_power: see `BalancedSampler`.
          loudest: cut around the loudest part, where a weak label most likely holds, and not anywhere.
          gain_range_db: an item is this much louder or softer at most.
          speed_range: clips are played up to this factor faster or slower.
          source_count: clips in an item.
          most_sources: an item has from `source_count` to this many; 0 for no more.
          level_range_db: further clips have the energy of the first, or are this much louder or softer at most.
          effects: what is done to clips and items.

        Raises:
          ValueError: `source_count` is less than 1, or `most_sources` less than that.
        """
        check_counts(source_count, most_sources)
        self._source_count, self._most_sources = source_count, most_sources
        self._level_range_db, self._effects = level_range_db, effects
        self._clips, self._seed, self._length, self.clip_samples = clips, seed, length, clip_samples
        self._loudest, self._gain_range_db, self._speed_range = loudest, gain_range_db, speed_range
        self._pair_clips, labels = clips.label_pairs()
        self._sampler = BalancedSampler(labels, seed, class_power)

    def __len__(self) -> int:
        return self._length

    def clips_of(self, index: int) -> list[int]:
        """The clips of item `index`, its own first."""
        return [self._clip(place) for place in self._places(index)]

    def items(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Items: `audio` (time,) and `labels` (classes,)."""
        pieces: dict[int, np.ndarray] = {}
        return [self._item(index, pieces) for index in indices]

    def _item(self, index: int, pieces: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
        places = self._places(index)
        for place in places:
            if place not in pieces:
                pieces[place] = self._piece(place)
        random = np.random.default_rng((self._seed, LEVELS, index))
        levels = [random.uniform(-self._level_range_db, self._level_range_db) for _ in places[1:]]
        mixture = mixing.add(mixing.scaled([pieces[place] for place in places], levels))
        labels = np.concatenate([self._clips.labels(clip) for clip in self.clips_of(index)])
        noise = np.random.default_rng((self._seed, NOISE, index))
        return {"audio": self._effects.on_mixture(mixture, noise), "labels": audioset.multi_hot(labels)}

    def _places(self, index: int) -> range:
        return range(index, index + draw_count(self._seed, index, self._source_count, self._most_sources))

    def _clip(self, place: int) -> int:
        return int(self._pair_clips[self._sampler[place]])

    def _piece(self, place: int) -> np.ndarray:
        """What is heard of the clip at a place of the order, filtered: (time,)."""
        random = np.random.default_rng((self._seed, 0, place))
        clip = self._clip(place)
        length = int(self.clip_samples * self._speed_range ** random.uniform(-1, 1))
        room = max(0, int(self._clips.samples[clip]) - length)
        if self._loudest:
            samples = self._clips.audio(clip)
            start = audio.loudest_start(samples, length, step=SAMPLE_RATE_HZ // 10)
            start = min(max(start + int(random.integers(-length // 4, length // 4 + 1)), 0), room)
            piece = samples[start:]
        else:
            piece = self._clips.audio(clip, int(random.integers(0, room + 1)), length)
        gain = np.float32(10 ** (random.uniform(-self._gain_range_db, self._gain_range_db) / 20))
        piece = change_speed(audio.fit_length(piece, length), self.clip_samples)
        filters = np.random.default_rng((self._seed, FILTERS, place))
        return self._effects.on_source(piece, filters) * gain


Source = MixtureSource | ClipSource


class Batches:
    """Grain source of one process's batches: batch s is its part of items s·B … (s + 1)·B − 1 of the global order.

    Since whole batches are what Grain deals out, neither the number of reading workers nor that of processes changes
    which items are in a step.
    """

    def __init__(self, source: Source, batch_size: int, process: int = 0, process_count: int = 1) -> None:
        """Args: source; batch_size, of all processes together; process and process_count of the hosts."""
        self._source, self._batch_size = source, batch_size
        self._process, self._share = process, batch_size // process_count

    def __len__(self) -> int:
        return len(self._source) // self._batch_size

    def __getitem__(self, record_key: SupportsIndex) -> dict[str, np.ndarray]:
        """The process's part of a batch: arrays (batch / processes, …)."""
        first = int(record_key) * self._batch_size + self._process * self._share
        items = self._source.items(range(first, first + self._share))
        return {name: np.stack([item[name] for item in items]) for name in items[0]}


def batches(
    source: Source,
    batch_size: int,
    *,
    start: int = 0,
    workers: int = 0,
    process: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """An iterator over this process's batches.

    Args:
      source: of the items.
      batch_size: items of a batch, of all processes together.
      start: the batch to begin with: the steps that a resumed run has taken.
      workers: reading processes; 0 reads in threads of this one.
      process, process_count: of the hosts that share each batch.
    """
    dataset = grain.MapDataset.source(Batches(source, batch_size, process, process_count))[start:]
    threads = 1 if workers else 2
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        stream = stream.mp_prefetch(options, worker_init_fn=_begin_worker)
    return iter(stream)


def _begin_worker(number: int, count: int) -> None:
    """A reading process leaves signals to the main one, which ends it, and ends with that one."""
    del number, count
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    processes.end_with_parent()
