"""Mixtures and sources as WAV files, in the layout that USS and AudioSep share (`audioset.Pairs` reads it).

    class_id=74/class_id=74,index=000,mixture.wav      (or label=Bark/label=Bark,index=000,…)
    class_id=74/class_id=74,index=000,source.wav

Estimates, too, are kept in this layout, each as `…,estimate.wav`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uss_jax import audio
from uss_jax.evaluation.benchmark import Benchmark, Sound
from uss_jax.evaluation.items import Item

LENGTH_TOLERANCE_SECONDS = 0.1  # an estimate may be so much shorter or longer than its mixture


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
