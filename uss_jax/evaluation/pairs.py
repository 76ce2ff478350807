"""Mixtures and sources as WAV files, in the layout that USS and AudioSep share: read as a benchmark, and written.

    class_id=74/class_id=74,index=000,mixture.wav      (or label=Bark/label=Bark,index=000,…)
    class_id=74/class_id=74,index=000,source.wav

Estimates, too, are kept in this layout, each as `…,estimate.wav`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from uss_jax import audio, audioset, files
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation.benchmark import Benchmark, Plan, Sound
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.workers import Workers

FOLDER = re.compile(r"class_id=(\d+)")
SOURCE = re.compile(r"class_id=(\d+),index=(\d+),source\.wav")
LENGTH_TOLERANCE_SECONDS = 0.1  # an estimate may be so much shorter or longer than its mixture


def is_pairs(data: Path) -> bool:
    """Whether a folder has this layout for AudioSet's classes."""
    return any(FOLDER.fullmatch(path.name) for path in data.glob("class_id=*"))


class Pairs(Benchmark):
    """The benchmark `audioset` on mixtures that were made elsewhere."""

    name = "audioset"
    export_key = "class_id"

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

    def read(self, item: Item) -> Sound:
        """Both files, mono at 32 kHz."""
        mixture = audio.read_mono(files.inside(self.data, item.mixture), SAMPLE_RATE_HZ)
        source = self.query_source(item)
        if mixture.shape != source.shape:
            raise ValueError(f"{item.source}: {len(source)} samples, but its mixture has {len(mixture)}")
        return Sound(mixture, source, SAMPLE_RATE_HZ)

    def query_source(self, item: Item) -> np.ndarray:
        """See `Benchmark.query_source`."""
        return audio.read_mono(files.inside(self.data, item.source), SAMPLE_RATE_HZ)

    def classes(self, item: Item) -> tuple[int, ...]:
        """The class of that name."""
        return (audioset.find_class(item.label).index,)

    def export_label(self, label: str) -> str:
        """The class's index."""
        return str(audioset.find_class(label).index)

    def has_training(self) -> bool:
        """The layout holds one split."""
        return False

    def training_files(self) -> Iterable[Path]:
        """All sources, for they are of the training split where this folder is used for queries."""
        return self.data.glob("class_id=*/*,source.wav")


def check_names(benchmark: Benchmark, items: Sequence[Item], folder: Path | None = None) -> None:
    """Checks that items can be told apart by the names of their files, and that the folder holds no others.

    Raises:
      ValueError: two items would have one name, or the folder holds pairs of another list.
    """
    names: dict[str, Item] = {}
    for item in items:
        other = names.setdefault(benchmark.export_name(item), item)
        if other is not item:
            raise ValueError(f"{item.label!r} and {other.label!r} would be exported under one name")
    for path in folder.glob("*/*,source.wav") if folder is not None else ():
        if f"{path.parent.name}/{path.name.removesuffix(',source.wav')}" not in names:
            raise ValueError(f"{folder}: holds {path.name} of another list; export to another folder")


def export(benchmark: Benchmark, item: Item, folder: Path) -> bool:
    """Writes an item's mixture and source, as 32-bit floats. Returns whether they could be read."""
    try:
        sound = benchmark.read(item)
    except ValueError:
        return False
    for part in ("mixture", "source"):
        samples = getattr(sound, part)
        audio.write(folder / f"{benchmark.export_name(item)},{part}.wav", samples, sound.sample_rate_hz)
    return True


def export_estimate(benchmark: Benchmark, item: Item, estimate: np.ndarray, sample_rate_hz: int, folder: Path) -> None:
    """Writes what was separated."""
    audio.write(folder / f"{benchmark.export_name(item)},estimate.wav", estimate, sample_rate_hz)


def read_estimate(benchmark: Benchmark, item: Item, sound: Sound, folder: Path) -> np.ndarray:
    """What another system made of an item, in the shape and rate of its mixture.

    Raises:
      ValueError: the file is missing or not readable, or its length or number of channels is not the mixture's.
    """
    path = folder / f"{benchmark.export_name(item)},estimate.wav"
    samples, rate_hz = audio.read(path)
    samples = audio.resample(samples, rate_hz, sound.sample_rate_hz)
    difference = abs(len(samples) - len(sound.mixture)) / sound.sample_rate_hz
    if samples.shape[1:] != sound.mixture.shape[1:] or difference > LENGTH_TOLERANCE_SECONDS:
        raise ValueError(f"{path}: has shape {samples.shape}, but its mixture has {sound.mixture.shape}")
    return audio.fit_length(samples, len(sound.mixture))
