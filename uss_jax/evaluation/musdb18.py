"""The benchmark on MUSDB18: whole songs, from the WAV files of MUSDB18-HQ or the stems of MUSDB18."""

import contextlib
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

    SDR is that of museval's BSS Eval v4: the median over the seconds of a track in which all stems sound. In mono, as
    in the paper, over those in which the stem does.
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
        mixture, rate_hz = _read(self.data, item.mixture)
        source, source_rate_hz = _read(self.data, item.source)
        if (mixture.shape, rate_hz) != (source.shape, source_rate_hz):
            raise ValueError(f"{item.source}: of another length, rate or number of channels than the mixture")
        if self.paper:
            return Sound(to_paper(mixture, rate_hz), to_paper(source, rate_hz), SAMPLE_RATE_HZ)
        return Sound(mixture, source, rate_hz, _heard(self.data, item.mixture))

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
        """Scores of stems, each alone."""
        return [stem_scores(sound, estimate) for sound, estimate in zip(sounds, estimates, strict=True)]


def stem_scores(sound: Sound, estimate: np.ndarray) -> dict[str, float] | str:
    """The scores of a stem, see `Musdb18`; those at the full rate need the seconds in which all stems sound."""
    if is_silent(sound.source):
        return "silent source"
    scores: dict[str, float] = {}
    signals = (sound.source, estimate, sound.mixture)
    if sound.heard is not None:
        source, own, mixture = signals
        scores["sdr"] = frame_median(source, own, sound.sample_rate_hz, sound.heard)
        scores["sdri"] = scores["sdr"] - frame_median(source, mixture, sound.sample_rate_hz, sound.heard)
        source, own, mixture = (x.reshape(-1) for x in signals)
        scores["utterance_sdr"] = float(metrics.sdr(source, own))
        scores["utterance_sdri"] = float(metrics.sdr_improvement(source, own, mixture))
    source, own, mixture = (to_paper(x, sound.sample_rate_hz) for x in signals)
    scores["sdr_mono_32k"] = frame_median(source, own, SAMPLE_RATE_HZ)
    scores["sdri_mono_32k"] = scores["sdr_mono_32k"] - frame_median(source, mixture, SAMPLE_RATE_HZ)
    return scores if np.isfinite(list(scores.values())).all() else "no second in which it and the other stems sound"


def frame_median(source: np.ndarray, estimate: np.ndarray, rate_hz: int, heard: np.ndarray | None = None) -> float:
    """The median SDR over frames of one second in which the source sounds.

    Args:
      source, estimate: (time,) or (time, channels).
      rate_hz: of both.
      heard: (frames,), further frames to leave out where False.
    """
    (of_frames,) = metrics.bss_eval_sdr(np.atleast_3d(source[None]), np.atleast_3d(estimate[None]), rate_hz)
    kept = ~np.isnan(of_frames) if heard is None else ~np.isnan(of_frames) & heard
    return float(np.median(of_frames[kept])) if kept.any() else float("nan")


def to_paper(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mono at 32 kHz: (time,) or (time, channels) → (time,)."""
    return audio.resample(audio.to_mono(samples), rate_hz, SAMPLE_RATE_HZ)


@functools.lru_cache(maxsize=1)
def _heard(data: Path, mixture: str) -> np.ndarray:
    """The seconds in which all stems of a track sound that can be read: (seconds,), bool."""
    whole, rate_hz = _read(data, mixture)
    stems = []
    for target in TARGETS:
        with contextlib.suppress(ValueError):
            samples, of_stem_hz = _read(data, f"{mixture.rpartition('/')[0]}/{target}")
            stems += [samples] if (samples.shape, of_stem_hz) == (whole.shape, rate_hz) else []
    return seconds_heard(stems, rate_hz)


def seconds_heard(stems: Sequence[np.ndarray], rate_hz: int) -> np.ndarray:
    """The seconds in which all stems sound: each (time,) or (time, channels) → (seconds,), bool.

    museval takes no others, whichever stems are looked at. A stem that is silent altogether does not count.
    """
    frame = min(rate_hz, len(stems[0]))
    framed = [stem[: len(stem) // frame * frame].reshape(len(stem) // frame, -1) for stem in stems if stem.any()]
    return np.all([np.any(frames, axis=1) for frames in framed], axis=0)


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


@functools.lru_cache(maxsize=len(STREAMS))  # the parts of the track at hand
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
