"""The benchmark on MUSDB18: whole songs, from the WAV files of MUSDB18-HQ or the stems of MUSDB18."""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from uss_jax import audio, files, metrics
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation import labels
from uss_jax.evaluation.benchmark import Benchmark, Plan, Sound, is_silent
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.workers import Workers

STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # of a .stem.mp4, in this order
TARGETS = ("vocals", "bass", "drums", "other")
STEM_SUFFIX = ".stem.mp4"


class Musdb18(Benchmark):
    """Four stems of every track. As the reference reads them (`paper`), they are scored in mono at 32 kHz alone.

    SDR is that of museval's BSS Eval v4, all stems of a track together: the median over frames of one second. In mono,
    as in the paper, each stem is scored alone.
    """

    name = "musdb18"
    whole = True

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`; all tracks are taken."""
        folder = self.data / split
        found = {path.name for path in folder.glob("[!.]*") if path.is_dir()}
        tracks = sorted(found | {path.name.removesuffix(STEM_SUFFIX) for path in folder.glob(f"[!.]*{STEM_SUFFIX}")})
        if not tracks:
            raise ValueError(f"{folder}: no tracks of MUSDB18 here (folders of WAV files, or {STEM_SUFFIX} files)")
        return Plan(
            [
                Item(target, i, f"{split}/{track}/{target}", mixture=f"{split}/{track}/mixture")
                for target in TARGETS
                for i, track in enumerate(tracks)
            ],
            {},
        )

    def read(self, item: Item) -> Sound:
        """Stereo at the rate of the files, or mono at 32 kHz (`paper`)."""
        mixture, rate_hz = _mixture(self.data, item.mixture)
        source, source_rate_hz = _read(self.data, item.source)
        if (mixture.shape, rate_hz) != (source.shape, source_rate_hz):
            raise ValueError(f"{item.source}: of another length, rate or number of channels than the mixture")
        if self.paper:
            return Sound(to_paper(mixture, rate_hz), to_paper(source, rate_hz), SAMPLE_RATE_HZ)
        return Sound(mixture, source, rate_hz)

    def query_source(self, item: Item) -> np.ndarray:
        """See `Benchmark.query_source`."""
        return to_paper(*_read(self.data, item.source))

    def classes(self, item: Item) -> tuple[int, ...]:
        """By name, from the package's table."""
        return labels.classes_of(self.name, item.label)

    def training_files(self) -> Iterable[Path]:
        """See `Benchmark.training_files`."""
        return [*(self.data / "train").glob(f"*{STEM_SUFFIX}"), *(self.data / "train").glob("*/*.wav")]

    def score(self, sounds: Sequence[Sound], estimates: Sequence[np.ndarray]) -> list[dict[str, float] | str]:
        """Scores of the stems of one track."""
        heard = [i for i, sound in enumerate(sounds) if not is_silent(sound.source)]
        found: list[dict[str, float] | str] = ["silent source"] * len(sounds)
        if heard:
            rate_hz = sounds[heard[0]].sample_rate_hz
            sources, mixtures = (np.stack([sounds[i][part] for i in heard]) for part in (1, 0))
            rows = track_scores(sources, np.stack([estimates[i] for i in heard]), mixtures, rate_hz, self.paper)
            for i, row in zip(heard, rows, strict=True):
                found[i] = (
                    row if np.isfinite(list(row.values())).all() else "no second in which it and the others sound"
                )
        return found


def track_scores(
    sources: np.ndarray, estimates: np.ndarray, mixtures: np.ndarray, rate_hz: int, paper: bool = False
) -> list[dict[str, float]]:
    """The scores of every stem of a track; see `Musdb18`.

    Args:
      sources, estimates, mixtures: (stems, time) or (stems, time, channels).
      rate_hz: of all of them.
      paper: only the scores in mono at 32 kHz.
    """
    columns: dict[str, np.ndarray] = {}
    if not paper:
        full, full_estimates, full_mixtures = (np.atleast_3d(x) for x in (sources, estimates, mixtures))
        columns["sdr"] = frame_median(full, full_estimates, rate_hz)
        columns["sdri"] = columns["sdr"] - frame_median(full, full_mixtures, rate_hz)
        flat, flat_estimates, flat_mixtures = (x.reshape(len(x), -1) for x in (sources, estimates, mixtures))
        columns["utterance_sdr"] = metrics.sdr(flat, flat_estimates)
        columns["utterance_sdri"] = metrics.sdr_improvement(flat, flat_estimates, flat_mixtures)
    alone: list[tuple[float, float]] = []
    for signals in zip(sources, estimates, mixtures, strict=True):
        source, estimate, mixture = (to_paper(x, rate_hz)[None, :, None] for x in signals)
        value = float(frame_median(source, estimate, SAMPLE_RATE_HZ)[0])
        alone.append((value, value - float(frame_median(source, mixture, SAMPLE_RATE_HZ)[0])))
    columns["sdr_mono_32k"], columns["sdri_mono_32k"] = np.array(alone).T
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


def frame_median(sources: np.ndarray, estimates: np.ndarray, rate_hz: int) -> np.ndarray:
    """The median SDR over frames of one second in which all sources sound: (sources, time, channels) → (sources,)."""
    of_frames = metrics.bss_eval_sdr(sources, estimates, rate_hz)
    heard = of_frames[:, ~np.isnan(of_frames).any(axis=0)]
    return np.median(heard, axis=1) if heard.size else np.full(len(sources), np.nan)


def to_paper(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mono at 32 kHz: (time,) or (time, channels) → (time,)."""
    return audio.resample(audio.to_mono(samples), rate_hz, SAMPLE_RATE_HZ)


@functools.lru_cache(maxsize=1)  # of the track at hand, whose items all have the same mixture
def _mixture(data: Path, name: str) -> tuple[np.ndarray, int]:
    return _read(data, name)


@functools.lru_cache(maxsize=1)
def _streams(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """The five streams of a .stem.mp4, and their rate; raises ImportError where nothing is installed to read them."""
    try:
        import stempeg
    except (ImportError, RuntimeError) as error:
        raise ImportError("the stems of MUSDB18 need ffmpeg, ffprobe and pip install 'uss-jax[eval]'") from error
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        streams, rate_hz = stempeg.read_stems(str(path))
    except Exception as error:  # of many kinds: what ffmpeg says, and what the library makes of broken files
        raise ValueError(f"{path}: not readable as stems ({type(error).__name__})") from error
    if np.ndim(streams) != 3 or len(streams) != len(STREAMS) or not np.isfinite(streams).all():
        raise ValueError(f"{path}: expected the {len(STREAMS)} streams {', '.join(STREAMS)}")
    return dict(zip(STREAMS, streams.astype(np.float32), strict=True)), int(rate_hz)


def _read(data: Path, name: str) -> tuple[np.ndarray, int]:
    """A part of a track, such as `test/Artist - Title/vocals`: samples and rate."""
    track, _, part = name.rpartition("/")
    stems = files.inside(data, track + STEM_SUFFIX)
    if os.path.isdir(files.inside(data, track)) or not files.is_file(stems):
        return audio.read(files.inside(data, f"{name}.wav"))
    streams, rate_hz = _streams(stems)
    if part not in streams:
        raise ValueError(f"{stems}: has no stream {part!r}")
    return streams[part], rate_hz
