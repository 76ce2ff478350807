"""What all benchmarks of separation have in common: items to be separated, their sounds, and scores."""

import abc
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from uss_jax import audio, files, metrics, mixing, progress, results
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.workers import Workers

SEGMENT_SECONDS = 2.0  # of the items of all benchmarks that do not separate whole recordings
SEGMENT_SAMPLES = int(SEGMENT_SECONDS * SAMPLE_RATE_HZ)
PER_CLASS = 100  # items of each class, at most (paper)
REFERENCE_SEED = 1234  # with it, a benchmark has the items that the reference's scripts choose


class Sound(NamedTuple):
    """An item's audio.

    Attributes:
      mixture: (time,) or (time, channels).
      source: the same shape.
      sample_rate_hz: of both.
      heard: (seconds,), where all sources of the mixture sound, for scores that leave out the rest; None elsewhere.
    """

    mixture: np.ndarray
    source: np.ndarray
    sample_rate_hz: int
    heard: np.ndarray | None = None


class Plan(NamedTuple):
    """The items of a benchmark, and what had to be left out: its name, and why."""

    items: list[Item]
    left_out: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Benchmark(abc.ABC):
    """A data set as its authors distribute it, and how separation is measured on it.

    Instances are sent to worker processes; neither they nor their methods need JAX.

    Attributes:
      data: folder of the data set.
      paper: mixtures are read as the reference reads them where that differs, mono at 32 kHz.
    """

    data: Path
    paper: bool = False

    name: ClassVar[str]
    headline: ClassVar[str] = "sdri"  # how the name of the metric begins that is plotted
    whole: ClassVar[bool] = False  # items are whole recordings, and not segments of two seconds
    seed: ClassVar[int] = REFERENCE_SEED
    group_name: ClassVar[str] = ""  # what the items' coarser labels are
    export_key: ClassVar[str] = "label"  # of exported files, `label=X`

    @abc.abstractmethod
    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """The items of a split, `train` or `test`: a function of the data, the number per class and the seed.

        Those of `train` are never separated; their sources make the average queries, as in the reference.

        Raises:
          ValueError: the data are not laid out as expected.
        """

    @abc.abstractmethod
    def read(self, item: Item) -> Sound:
        """An item's audio. Raises ValueError where a file is missing or not readable."""

    @abc.abstractmethod
    def query_source(self, item: Item) -> np.ndarray:
        """An item's source alone, mono at 32 kHz: (time,). Raises ValueError as `read` does."""

    @abc.abstractmethod
    def classes(self, item: Item) -> tuple[int, ...]:
        """The AudioSet classes that an item's label maps to. Raises ValueError where there are none."""

    @abc.abstractmethod
    def training_files(self) -> Iterable[Path]:
        """The files that average queries depend on, so that it shows when they change."""

    def training_state(self) -> str:
        """What average queries depend on beside these files."""
        return ""

    def has_training(self) -> bool:
        """Whether the data hold training sources beside those that are separated."""
        return True

    def score(self, sounds: Sequence[Sound], estimates: Sequence[np.ndarray]) -> list[dict[str, float] | str]:
        """The scores of items of one mixture, or of any segments; a string says why there are none."""
        return [segment_scores(sound, estimate) for sound, estimate in zip(sounds, estimates, strict=True)]

    def export_name(self, item: Item) -> str:
        """What an item's files are called in the layout of the reference: `label=X/label=X,index=000`."""
        folder = results.file_name(f"{self.export_key}={self.export_label(item.label)}")
        return f"{folder}/{folder},index={item.index:03d}"

    def export_label(self, label: str) -> str:
        """A label as it stands in exported names."""
        return label


class WholeFiles(Benchmark):
    """A benchmark whose mixtures and sources are whole files, read in mono at 32 kHz."""

    def read(self, item: Item) -> Sound:
        """Both files."""
        mixture = audio.read_mono(files.inside(self.data, item.mixture), SAMPLE_RATE_HZ)
        source = self.query_source(item)
        if mixture.shape != source.shape:
            raise ValueError(f"{item.source}: {len(source)} samples, but its mixture has {len(mixture)}")
        return Sound(mixture, source, SAMPLE_RATE_HZ)

    def query_source(self, item: Item) -> np.ndarray:
        """See `Benchmark.query_source`."""
        return audio.read_mono(files.inside(self.data, item.source), SAMPLE_RATE_HZ)


class MadeMixtures(Benchmark):
    """A benchmark whose mixtures are made of two recordings of equal energy."""

    @abc.abstractmethod
    def piece(self, name: str, start_s: float) -> np.ndarray:
        """Two seconds of a file or clip, mono at 32 kHz: (time,). Raises ValueError as `read` does."""

    def read(self, item: Item) -> Sound:
        """Source and partner, added."""
        source = self.piece(item.source, item.start_s)
        partner = self.piece(item.partner, item.partner_start_s)
        if is_silent(partner):
            raise ValueError(f"{item.partner}: silent partner")
        if not item.partner_gain and not is_silent(source):
            raise ValueError(f"{item.partner}: its level could not be measured when the list was made; begin anew")
        return Sound(source + np.float32(item.partner_gain) * partner, source, SAMPLE_RATE_HZ)

    def query_source(self, item: Item) -> np.ndarray:
        """See `Benchmark.query_source`."""
        return self.piece(item.source, item.start_s)

    def with_gains(self, items: Sequence[Item], workers: Workers) -> list[Item]:
        """Gives each partner its source's energy; 0 where that cannot be measured, which will show in the run."""
        contents = list(dict.fromkeys(item.content for item in items))
        measured = workers.stream(measure_gain, ((item,) for item in contents))
        gains = dict(zip(contents, progress.track(measured, "measuring levels", len(contents)), strict=True))
        return [dataclasses.replace(item, partner_gain=gains[item.content]) for item in items]


def measure_gain(benchmark: MadeMixtures, item: Item) -> float:
    """The factor that gives the partner the energy of the source; 0 where one of them is silent or cannot be read."""
    try:
        source = benchmark.piece(item.source, item.start_s)
        partner = benchmark.piece(item.partner, item.partner_start_s)
    except ValueError:
        return 0.0
    return 0.0 if is_silent(source) or is_silent(partner) else mixing.energy_ratio(source, partner)


def is_silent(samples: np.ndarray) -> bool:
    """Whether the mean energy is too small for an SDR, as the reference limits it."""
    return float(np.mean(np.square(samples, dtype=np.float64))) <= metrics.EPS


def reason(error: Exception, *folders: Path) -> str:
    """What went wrong, without the folder in which the data happen to lie, so that results do not depend on it."""
    text = str(error)
    for folder in folders:
        text = text.removeprefix(f"{folder}/")
    return text


def segment_scores(sound: Sound, estimate: np.ndarray) -> dict[str, float] | str:
    """SDR and SI-SDR of a segment and their improvements over the mixture, in dB."""
    if is_silent(sound.source):
        return "silent source"
    reference, mixture = sound.source, sound.mixture
    return {
        "sdr": float(metrics.sdr(reference, estimate)),
        "sdri": float(metrics.sdr_improvement(reference, estimate, mixture)),
        "si_sdr": float(metrics.si_sdr(reference, estimate)),
        "si_sdri": float(metrics.si_sdr(reference, estimate) - metrics.si_sdr(reference, mixture)),
    }


def read_segment(path: Path, start_s: float = 0.0) -> np.ndarray:
    """Two seconds of a file, mono at 32 kHz, resampled after they were cut out, as in the reference: (time,)."""
    samples, rate_hz = audio.read(path, start_s, SEGMENT_SECONDS)
    return audio.fit_length(audio.resample(audio.to_mono(samples), rate_hz, SAMPLE_RATE_HZ), SEGMENT_SAMPLES)


def signature(paths: Iterable[Path], root: Path, settings: Mapping[str, object]) -> str:
    """SHA-256 of files' names, sizes and times, and of settings: what is kept under it is stale when one changes."""
    lines = [f"{key}={value}" for key, value in settings.items()]
    for path in sorted(paths):
        if path.is_file():
            status = path.stat()
            lines.append(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="replace")).hexdigest()
