"""Mixtures of the clips of a dataset made by `uss-jax prepare`: the benchmarks `folder` and `audioset`."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from uss_jax import audio, audioset, dataset, progress
from uss_jax.anchors import Anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.evaluation.benchmark import SEGMENT_SAMPLES, MadeMixtures, Plan
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.workers import Workers
from uss_jax.sampling import BalancedSampler, choose_sources

LOUDEST_STEP_SECONDS = 0.1  # grid on which the loudest segment of a clip is looked for
QUERY_CLIPS = 100  # training clips behind an average query, at most (paper)
PARTNER_TRIES = 1000


@dataclasses.dataclass(frozen=True)
class Category:
    """Classes that label exactly the same clips, such as Dog and Bark in ESC-10: one sound, evaluated once."""

    name: str
    labels: tuple[int, ...]


class ClipMixtures(MadeMixtures):
    """Items name clips as `split/id`. The split `test` of a benchmark is the dataset's `validation`."""

    def piece(self, name: str, start_s: float) -> np.ndarray:
        """Two seconds of a clip, padded with zeros where it is shorter."""
        samples = clip_audio(self.data, name)
        return audio.fit_length(samples[round(start_s * SAMPLE_RATE_HZ) :], SEGMENT_SAMPLES)

    def training_files(self) -> Iterable[Path]:
        """See `Benchmark.training_files`."""
        return dataset.find_folder(self.data).glob("*train*")


class Folder(ClipMixtures):
    """The loudest two seconds of a held-back clip, which depend on no model, and of one without a common label."""

    name = "folder"
    seed = 0

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`."""
        train, validation = Clips(self.data, "train"), Clips(self.data, "validation")
        found = categories(train, validation)
        if split == "train":
            items = [
                Item(category.name, 0, f"train/{train.clip_ids[clip]}")
                for category in found
                for clip in clips_with(train, category)[:QUERY_CLIPS]
            ]
            return Plan(numbered(self._at_loudest(items, workers)), {})
        items = [
            Item(
                category.name,
                0,
                f"validation/{validation.clip_ids[clip]}",
                partner=f"validation/{validation.clip_ids[partner]}",
            )
            for category, clip, partner in choose_pairs(found, validation, per_class, seed)
        ]
        return self.with_gains(numbered(self._at_loudest(items, workers)), workers)

    def classes(self, item: Item) -> tuple[int, ...]:
        """Those of the category."""
        return tuple(audioset.find_class(name).index for name in item.label.split(" / "))

    def _at_loudest(self, items: list[Item], workers: Workers) -> list[Item]:
        names = list(dict.fromkeys(name for item in items for name in (item.source, item.partner) if name))
        found = workers.stream(loudest_start_s, ((name,) for name in names))
        start_s = dict(zip(names, progress.track(found, "looking for loud parts", len(names)), strict=True))
        return [
            dataclasses.replace(
                item, start_s=start_s[item.source], partner_start_s=start_s[item.partner] if item.partner else 0.0
            )
            for item in items
        ]


@dataclasses.dataclass(frozen=True)
class AnchorMixtures(ClipMixtures):
    """AudioSet by anchors: every class equally often, with the next anchor of the balanced order as its partner.

    Unlike in the reference, partners never share a class. A dataset that has no split `validation` is evaluated on the
    clips that it has, and its average queries come from elsewhere.

    Attributes:
      anchors: of each of the dataset's splits, by name.
    """

    anchors: dict[str, Anchors] = dataclasses.field(default_factory=dict)

    name = "audioset"
    export_key = "class_id"

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`."""
        stored = "validation" if split == "test" and self.has_training() else "train"
        if stored not in self.anchors:
            raise ValueError(
                f"{self.data}: needs the anchors of its clips (--anchors), or a list of items (--mixtures)"
            )
        clips, anchors = Clips(self.data, stored), self.anchors[stored]
        sampler = BalancedSampler(anchors.label, seed)

        def labels(anchor: int) -> np.ndarray:
            return clips.labels(int(anchors.clip[anchor]))

        items = []
        for place in range(per_class * len(np.unique(anchors.label))):  # in each round every class comes up once
            chosen = choose_sources(sampler, place, 2, labels)
            if len(chosen) < 2:
                raise ValueError(f"{clips.folder}: no two clips of {stored!r} without a common label to be mixed")
            names = [f"{stored}/{clips.clip_ids[anchors.clip[i]]}" for i in chosen]
            starts_s = [float(anchors.start[i]) / SAMPLE_RATE_HZ for i in chosen]
            label = audioset.classes()[anchors.label[chosen[0]]].name
            items.append(Item(label, 0, names[0], starts_s[0], partner=names[1], partner_start_s=starts_s[1]))
        items = numbered(items)
        return self.with_gains(items, workers) if split == "test" else Plan(items, {})

    def training_state(self) -> str:
        """The anchors, as a digest."""
        arrays = [array for split in sorted(self.anchors) for array in dataclasses.astuple(self.anchors[split])]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def has_training(self) -> bool:
        """Whether the dataset has a split for tests, too."""
        return "validation" in dataset.splits(self.data)

    def classes(self, item: Item) -> tuple[int, ...]:
        """The class of that name."""
        return (audioset.find_class(item.label).index,)

    def export_label(self, label: str) -> str:
        """The class's index."""
        return str(audioset.find_class(label).index)


def categories(train: Clips, validation: Clips) -> list[Category]:
    """The classes with clips in both splits; classes that always stand together are one category."""
    clips_of: dict[int, tuple[frozenset[int], ...]] = {}
    for label in np.unique(validation.label_pairs()[1]):
        members = tuple(
            frozenset(map(int, pairs[labels == label]))
            for pairs, labels in (s.label_pairs() for s in (train, validation))
        )
        if all(members):
            clips_of[int(label)] = members
    groups: dict[tuple[frozenset[int], ...], list[int]] = {}
    for label, members in clips_of.items():
        groups.setdefault(members, []).append(label)
    return [Category(" / ".join(audioset.class_names(labels)), tuple(labels)) for labels in groups.values()]


def clips_with(clips: Clips, category: Category) -> np.ndarray:
    """Numbers of the clips of a category: (clips,)."""
    pairs, labels = clips.label_pairs()
    return pairs[labels == category.labels[0]]


def choose_pairs(
    found: list[Category], validation: Clips, per_class: int, seed: int
) -> list[tuple[Category, int, int]]:
    """Category, clip and partner of each mixture: a function of the dataset, the number per class and the seed alone.

    Each clip of a class comes up equally often.

    Raises:
      ValueError: no two clips can be mixed.
    """
    pairs = []
    for category in found:
        random = np.random.default_rng((seed, category.labels[0]))
        members = clips_with(validation, category)
        rounds = [random.permutation(members) for _ in range(-(-per_class // len(members)))]
        for clip in np.concatenate(rounds)[:per_class]:
            for _ in range(PARTNER_TRIES):
                partner = int(random.integers(len(validation)))
                if audioset.disjoint(validation.labels(int(clip)), validation.labels(partner)):
                    pairs.append((category, int(clip), partner))
                    break
    if not pairs:
        raise ValueError(f"{validation.folder}: no two validation clips without a common label to be mixed")
    return pairs


@functools.lru_cache(maxsize=4)
def _numbered_clips(data: Path, split: str) -> tuple[Clips, dict[str, int]]:
    clips = Clips(data, split)
    return clips, {str(clip_id): number for number, clip_id in enumerate(clips.clip_ids)}


def clip_audio(data: Path, name: str) -> np.ndarray:
    """The samples of the clip `split/id`: (time,). Raises ValueError where there is none."""
    split, _, clip_id = name.partition("/")
    clips, numbers = _numbered_clips(data, split)
    if clip_id not in numbers:
        raise ValueError(f"{name}: no such clip in {clips.folder}")
    return clips.audio(numbers[clip_id])


def loudest_start_s(benchmark: ClipMixtures, name: str) -> float:
    """Where the loudest two seconds of a clip begin, in seconds."""
    samples = clip_audio(benchmark.data, name)
    step = int(LOUDEST_STEP_SECONDS * SAMPLE_RATE_HZ)
    return audio.loudest_start(samples, SEGMENT_SAMPLES, step) / SAMPLE_RATE_HZ
