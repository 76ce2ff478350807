"""Mixtures of the clips of a dataset made by `uss-jax prepare`, and the benchmark `folder` on its held-back clips."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from uss_jax import audio, audioset, dataset, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.evaluation.benchmark import SEGMENT_SAMPLES, MadeMixtures, Plan
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.workers import Workers

LOUDEST_STEP_SECONDS = 0.1  # grid on which the loudest segment of a clip is looked for
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
        found, untrained = categories(train, validation)
        if split == "train":
            items = [
                Item(category.name, 0, f"train/{train.clip_ids[clip]}")
                for category in found
                for clip in clips_with(train, category)[:per_class]
            ]
            return Plan(numbered(self._at_loudest(items, workers)), {})
        pairs, alone = choose_pairs(found, validation, per_class, seed)
        name = [f"validation/{clip_id}" for clip_id in validation.clip_ids]
        items = [Item(category.name, 0, name[clip], partner=name[partner]) for category, clip, partner in pairs]
        left_out = dict.fromkeys(untrained, "no training clip")
        left_out |= {name[clip]: "no clip without a common label" for clip in alone}
        return Plan(self.with_gains(numbered(self._at_loudest(items, workers)), workers), left_out)

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


def categories(train: Clips, validation: Clips) -> tuple[list[Category], list[str]]:
    """The classes with clips in both splits, those that always stand together as one; and those only in validation."""
    clips_of: dict[int, tuple[frozenset[int], ...]] = {}
    for label in np.unique(validation.label_pairs()[1]):
        clips_of[int(label)] = tuple(
            frozenset(map(int, pairs[labels == label]))
            for pairs, labels in (s.label_pairs() for s in (train, validation))
        )
    groups: dict[tuple[frozenset[int], ...], list[int]] = {}
    for label, members in clips_of.items():
        if all(members):
            groups.setdefault(members, []).append(label)
    found = [Category(" / ".join(audioset.class_names(labels)), tuple(labels)) for labels in groups.values()]
    return found, audioset.class_names(label for label, members in clips_of.items() if not all(members))


def clips_with(clips: Clips, category: Category) -> np.ndarray:
    """Numbers of the clips of a category: (clips,)."""
    pairs, labels = clips.label_pairs()
    return pairs[labels == category.labels[0]]


def choose_pairs(
    found: list[Category], validation: Clips, per_class: int, seed: int
) -> tuple[list[tuple[Category, int, int]], list[int]]:
    """Which clips are mixed: a function of the dataset, the number per class and the seed alone.

    Each clip of a class comes up equally often.

    Returns:
      Category, clip and partner of each mixture; and the clips that have no partner.

    Raises:
      ValueError: no two clips can be mixed.
    """
    pairs: list[tuple[Category, int, int]] = []
    alone: list[int] = []
    for category in found:
        random = np.random.default_rng((seed, category.labels[0]))
        members = clips_with(validation, category)
        rounds = [random.permutation(members) for _ in range(-(-per_class // len(members)))]
        for clip in map(int, np.concatenate(rounds)[:per_class]):
            tries = (int(random.integers(len(validation))) for _ in range(PARTNER_TRIES))
            labels = validation.labels(clip)
            partner = next((x for x in tries if audioset.disjoint(labels, validation.labels(x))), None)
            if partner is None:
                alone.append(clip)
            else:
                pairs.append((category, clip, partner))
    if not pairs:
        raise ValueError(f"{validation.folder}: no two validation clips without a common label to be mixed")
    return pairs, alone


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
