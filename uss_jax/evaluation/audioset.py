"""The benchmark on AudioSet: two-second mixtures of anchors, from a dataset, or made elsewhere."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from uss_jax import audioset, dataset
from uss_jax.anchors import Anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.evaluation.benchmark import Benchmark, Plan, WholeFiles
from uss_jax.evaluation.clips import ClipMixtures
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.workers import Workers
from uss_jax.sampling import BalancedSampler, choose_places

FOLDER = re.compile(r"class_id=(\d+)")
SOURCE = re.compile(r"class_id=(\d+),index=(\d+),source\.wav")


class AudioSetLabels(Benchmark):
    """What the two forms of the benchmark have in common: labels are names of classes."""

    name = "audioset"
    export_key = "class_id"

    def classes(self, item: Item) -> tuple[int, ...]:
        """The class of that name."""
        return (audioset.find_class(item.label).index,)

    def export_label(self, label: str) -> str:
        """The class's index."""
        return str(audioset.find_class(label).index)


@dataclasses.dataclass(frozen=True)
class AnchorMixtures(AudioSetLabels, ClipMixtures):
    """AudioSet by anchors: every class equally often, with the next anchor of the balanced order as its partner.

    Unlike in the reference, partners never share a class. A dataset that has no split `validation` is evaluated on the
    clips that it has, and its average queries come from elsewhere.

    Attributes:
      anchors: of each of the dataset's splits, by name.
    """

    anchors: dict[str, Anchors] = dataclasses.field(default_factory=dict)

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`."""
        stored = self.stored(split)
        if stored not in self.anchors:
            raise ValueError(
                f"{self.data}: needs the anchors of its clips (--anchors), or a list of items (--mixtures)"
            )
        clips, anchors = Clips(self.data, stored), self.anchors[stored]
        sampler = BalancedSampler(anchors.label, seed)

        def labels(anchor: int) -> np.ndarray:
            return clips.labels(int(anchors.clip[anchor]))

        items: list[Item] = []
        left_out: dict[str, str] = {}
        for place in range(per_class * len(np.unique(anchors.label))):  # in each round every class comes up once
            chosen = [sampler[chosen] for chosen in choose_places(sampler, place, 2, labels)]
            names = [f"{stored}/{clips.clip_ids[anchors.clip[i]]}" for i in chosen]
            starts_s = [float(anchors.start[i]) / SAMPLE_RATE_HZ for i in chosen]
            label = audioset.classes()[anchors.label[chosen[0]]].name
            item = Item(label, 0, names[0], starts_s[0])
            if split == "train":
                items.append(item)
            elif len(chosen) == 1:
                left_out[names[0]] = "no clip without a common label"
            else:
                items.append(dataclasses.replace(item, partner=names[1], partner_start_s=starts_s[1]))
        items = numbered(items)
        return Plan(self.with_gains(items, workers) if split == "test" else items, left_out)

    def stored(self, split: str) -> str:
        """What the dataset calls a split of the benchmark."""
        return "validation" if split == "test" and self.has_training() else "train"

    def training_state(self) -> str:
        """The anchors, as a digest."""
        arrays = [array for split in sorted(self.anchors) for array in dataclasses.astuple(self.anchors[split])]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def has_training(self) -> bool:
        """Whether the dataset has a split for tests, too."""
        return "validation" in dataset.splits(self.data)


def is_pairs(data: Path) -> bool:
    """Whether a folder has this layout for AudioSet's classes."""
    return any(FOLDER.fullmatch(path.name) for path in data.glob("class_id=*"))


class Pairs(AudioSetLabels, WholeFiles):
    """The benchmark `audioset` on mixtures that were made elsewhere."""

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """The first `per_class` pairs of every class in the folder, whatever the split; an item keeps its index."""
        items: list[Item] = []
        left_out = {}
        found = [(FOLDER.fullmatch(path.name), path) for path in self.data.glob("class_id=*")]
        for class_index, folder in sorted((int(match[1]), path) for match, path in found if match):
            label = audioset.find_class(class_index).name
            of_class = []
            for path in folder.glob("*,source.wav"):
                match = SOURCE.fullmatch(path.name)
                if match and int(match[1]) == class_index:
                    name = f"{folder.name}/{path.name}"
                    of_class.append(
                        Item(label, int(match[2]), name, mixture=name.removesuffix("source.wav") + "mixture.wav")
                    )
                else:
                    left_out[f"{folder.name}/{path.name}"] = f"not named {folder.name},index=N,source.wav"
            items += sorted(of_class, key=lambda item: item.index)[:per_class]
        if not items:
            raise ValueError(f"{self.data}: no class_id=N/class_id=N,index=…,source.wav here")
        return Plan(items, left_out)

    def has_training(self) -> bool:
        """The layout holds one split."""
        return False

    def training_files(self) -> Iterable[Path]:
        """All sources, for they are of the training split where this folder is used for queries."""
        return self.data.glob("class_id=*/*,source.wav")
