"""The benchmark on Slakh2100: two seconds of an instrument in its track, by the name of its synthesiser patch."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from uss_jax import audio, files, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation import labels
from uss_jax.evaluation.benchmark import SEGMENT_SECONDS, Benchmark, Plan, Sound, read_segment, reason
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.workers import Workers

ACTIVE_PEAK = 0.1  # a stem sounds in a segment where its peak is greater (reference)
MOST_IGNORED = 10  # labels with no more active segments are left out (reference)


class Stem(NamedTuple):
    """A stem of a track: files in the data folder, its patch and the family of its instrument."""

    source: str
    mixture: str
    plugin_name: str
    inst_class: str


class Slakh2100(Benchmark):
    """Labels are `plugin_name`s as in the paper, grouped by `inst_class`; the mixture is the track's own."""

    name = "slakh2100"
    group_name = "inst_class"

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`. With the reference's seed and number per class, these are the reference's items."""
        stems, left_out = list_stems(self.data, split)
        found = workers.stream(active_starts, ((stem,) for stem in stems))
        candidates: dict[str, list[Item]] = {}
        for stem, starts in zip(stems, progress.track(found, "looking for active stems", len(stems)), strict=True):
            of_label = candidates.setdefault(stem.plugin_name, [])
            if isinstance(starts, str):
                left_out[stem.source] = starts
                continue
            of_label += [
                Item(stem.plugin_name, 0, stem.source, start_s, mixture=stem.mixture, group=stem.inst_class)
                for start_s in starts
            ]
        random = np.random.RandomState(seed)  # the reference's generator
        chosen: list[Item] = []
        for label, items in candidates.items():
            if len(items) <= MOST_IGNORED:
                left_out[f"{label} ({split})"] = (
                    f"{len(items)} active segments, of which more than {MOST_IGNORED} are needed"
                )
            elif len(items) < per_class:
                chosen += items
            else:
                chosen += [items[i] for i in random.choice(np.arange(len(items)), size=per_class, replace=False)]
        if not chosen:
            raise ValueError(f"{self.data / split}: no patch sounds in more than {MOST_IGNORED} segments")
        return Plan(numbered(chosen), left_out)

    def read(self, item: Item) -> Sound:
        """Stem and mix."""
        mixture = read_segment(files.inside(self.data, item.mixture), item.start_s)
        return Sound(mixture, self.query_source(item), SAMPLE_RATE_HZ)

    def query_source(self, item: Item) -> np.ndarray:
        """See `Benchmark.query_source`."""
        return read_segment(files.inside(self.data, item.source), item.start_s)

    def classes(self, item: Item) -> tuple[int, ...]:
        """By the family of the instrument."""
        return labels.classes_of(self.name, item.group)

    def training_files(self) -> Iterable[Path]:
        """See `Benchmark.training_files`."""
        return [*(self.data / "train").glob("*/*"), *(self.data / "train").glob("*/stems/*")]


def list_stems(data: Path, split: str) -> tuple[list[Stem], dict[str, str]]:
    """The rendered stems of all tracks in order, and the tracks and stems that are not as they should be.

    Raises:
      ValueError: there is no track.
    """
    stems: list[Stem] = []
    left_out: dict[str, str] = {}
    tracks = sorted(path for path in (data / split).glob("*") if path.is_dir())
    if not tracks:
        raise ValueError(
            f"{data / split}: no tracks of Slakh2100 here (folders with metadata.yaml, mix.flac and stems)"
        )
    for track in tracks:
        name = f"{split}/{track.name}"
        try:
            listed = list(_listed(track / "metadata.yaml"))
        except ValueError as error:
            left_out[name] = reason(error, data)
            continue
        for key, description in listed:
            stem = Stem(f"{name}/stems/{key}.flac", f"{name}/mix.flac", *description)
            if not files.is_file(track / "stems" / f"{key}.flac"):
                left_out[stem.source] = "no such file"
            elif not files.is_file(track / "mix.flac"):
                left_out[stem.mixture] = "no such file"
            else:
                stems.append(stem)
    return stems, left_out


def _listed(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """The stems that a metadata.yaml says were rendered: key, plugin_name and inst_class."""
    if not files.is_file(path):
        raise ValueError(f"{path}: no such file")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not content["stems"]:
            raise TypeError("it lists no stems")
        for key, stem in content["stems"].items():
            if stem.get("audio_rendered", True):
                names = (stem["plugin_name"], stem["inst_class"])
                if "/" in key or not all(isinstance(name, str) and name for name in names):
                    raise TypeError(f"the stem {key!r} is not described by names")
                yield key, names
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not the metadata of a track ({' '.join(str(error).split())})") from error


def active_starts(benchmark: Slakh2100, stem: Stem) -> list[float] | str:
    """Where a stem sounds: beginnings of whole segments, side by side, in seconds; or why it cannot be read."""
    try:
        samples, rate_hz = audio.read(benchmark.data / stem.source)
    except ValueError as error:
        return reason(error, benchmark.data)
    length = int(rate_hz * SEGMENT_SECONDS)
    whole = np.abs(audio.to_mono(samples))[: len(samples) // length * length].reshape(-1, length)
    return [float(i * SEGMENT_SECONDS) for i in np.flatnonzero(whole.max(axis=1, initial=0.0) > ACTIVE_PEAK)]
