"""The benchmarks on FSDKaggle2018 (DCASE 2018 Task 2) and FSD50K: two-second mixtures of clips of two labels."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from uss_jax import audio, files
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation import labels
from uss_jax.evaluation.benchmark import SEGMENT_SAMPLES, SEGMENT_SECONDS, MadeMixtures, Plan
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.workers import Workers

MARGIN_SECONDS = 0.5  # read beyond a segment, so that the end of what was read does not change how it is resampled


class Fsd(MadeMixtures):
    """Clips of one label each: the first two seconds of a clip and of the next one in the table, if of another label.

    A clip's partner is the same whenever its turn comes, so that a class of few clips holds each mixture several times,
    as it does in the reference.
    """

    folders: ClassVar[dict[str, str]]
    tables: ClassVar[dict[str, str]]

    def table(self, split: str) -> list[tuple[str, str]]:
        """The clips of a split: file in the data folder, and label."""
        raise NotImplementedError

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`. With the reference's seed and number per class, these are the reference's mixtures."""
        items = numbered(choose(self.table(split), per_class, seed))
        if not items:
            raise ValueError(f"{self.data / self.tables[split]}: no two neighbouring clips of different labels")
        return Plan(self.with_gains(items, workers) if split == "test" else items, {})

    def piece(self, name: str, start_s: float) -> np.ndarray:
        """Two seconds of a clip, repeated where it is shorter."""
        path = files.inside(self.data, name)
        samples, rate_hz = audio.read(path, start_s, SEGMENT_SECONDS + MARGIN_SECONDS)
        return np.resize(audio.resample(audio.to_mono(samples), rate_hz, SAMPLE_RATE_HZ), SEGMENT_SAMPLES)

    def training_files(self) -> Iterable[Path]:
        """See `Benchmark.training_files`."""
        return [self.data / self.tables["train"], *(self.data / self.folders["train"]).glob("*.wav")]


class FsdKaggle2018(Fsd):
    """41 labels; the test split is that of the post-competition release."""

    name = "fsdkaggle2018"
    folders: ClassVar = {"train": "FSDKaggle2018.audio_train", "test": "FSDKaggle2018.audio_test"}
    tables: ClassVar = {
        "train": "FSDKaggle2018.meta/train_post_competition.csv",
        "test": "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv",
    }

    def table(self, split: str) -> list[tuple[str, str]]:
        """See `Fsd.table`."""
        rows = files.read_table(self.data / self.tables[split], ("fname", "label"))
        return [(f"{self.folders[split]}/{row['fname']}", row["label"]) for _, row in rows]

    def classes(self, item: Item) -> tuple[int, ...]:
        """By name, from the package's table."""
        return labels.classes_of(self.name, item.label)


class Fsd50k(Fsd):
    """The first label of a clip, its most specific one, stands for it."""

    name = "fsd50k"
    folders: ClassVar = {"train": "FSD50K.dev_audio", "test": "FSD50K.eval_audio"}
    tables: ClassVar = {"train": "FSD50K.ground_truth/dev.csv", "test": "FSD50K.ground_truth/eval.csv"}

    def table(self, split: str) -> list[tuple[str, str]]:
        """See `Fsd.table`."""
        rows = files.read_table(self.data / self.tables[split], ("fname", "labels"))
        return [(f"{self.folders[split]}/{row['fname']}.wav", row["labels"].split(",")[0]) for _, row in rows]

    def classes(self, item: Item) -> tuple[int, ...]:
        """By the AudioSet machine id that FSD50K itself gives for the label."""
        mids = _mids(self.data / self.tables["test"])
        if item.label not in mids:
            raise ValueError(f"{self.data / self.tables['test']}: gives no machine id of the label {item.label!r}")
        return labels.classes_of_mid(mids[item.label])


@functools.cache
def _mids(table: Path) -> dict[str, str]:
    """The machine id of every label."""
    rows = files.read_table(table, ("labels", "mids"))
    return {
        label: mid
        for _, row in rows
        for label, mid in zip(row["labels"].split(","), row["mids"].split(","), strict=False)
    }


def choose(clips: list[tuple[str, str]], per_class: int, seed: int) -> list[Item]:
    """The reference's mixtures: rounds over all clips in random order, each with the next clip in the table.

    Args:
      clips: file and label of each clip, in the order of the table.
      per_class: mixtures of each label, at most.
      seed: of the order of each round.
    """
    random = np.random.RandomState(seed)  # the reference's generator
    counts = dict.fromkeys((label for _, label in clips), 0)
    chosen: list[Item] = []
    while True:
        before = len(chosen)
        for i in random.permutation(len(clips)):
            (source, label), (partner, other) = clips[i], clips[(i + 1) % len(clips)]
            if label != other and counts[label] < per_class:
                counts[label] += 1
                chosen.append(Item(label, 0, source, partner=partner))
        if len(chosen) == before:  # all labels are complete, or have no clip beside one of another label
            return chosen
