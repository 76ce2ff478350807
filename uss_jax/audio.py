"""Audio files to arrays and back. Arrays are float32, (time,) for one channel and (time, channels) for more."""

import os
from pathlib import Path

import librosa
import numpy as np
import soundfile

from uss_jax import files

SAMPLE_RATE_HZ = 32_000  # of all models and datasets
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus", ".w64", ".caf", ".au")


def read(path: str | Path, start_s: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Reads an audio file, or a part of it.

    Args:
      path: of the file.
      start_s: where to begin, in seconds.
      seconds: how much to read at most; all that follows unless given.

    Returns:
      Samples, (time,) or (time, channels), float32, and the sample rate in Hz.

    Raises:
      ValueError: the file is missing, not audio, empty, or holds values that are not finite; the message names it.
    """
    path = Path(path)
    if not files.is_file(path):
        folder = os.path.isdir(path)  # unlike Path.is_dir, it takes any name
        raise ValueError(f"{path}: " + ("a folder, where an audio file was expected" if folder else "no such file"))
    try:
        # Opened here, for soundfile refuses names that are no UTF-8.
        with path.open("rb") as file, soundfile.SoundFile(file) as sound:
            sample_rate_hz = sound.samplerate
            if start_s:
                sound.seek(min(round(start_s * sample_rate_hz), sound.frames))
            count = -1 if seconds is None else round(seconds * sample_rate_hz)
            samples = sound.read(count, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        reason = str(error).rsplit(":", 1)[-1].strip().rstrip(".")
        raise ValueError(f"{path}: not readable as audio ({reason})") from error
    if samples.size == 0:
        raise ValueError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: holds samples that are NaN or infinite")
    return samples, sample_rate_hz


def write(path: str | Path, samples: np.ndarray, sample_rate_hz: int, subtype: str = "FLOAT") -> None:
    """Writes a WAV file through a temporary name, so that no half-written file carries the final one.

    Args:
      path: where to.
      samples: (time,) or (time, channels).
      sample_rate_hz: its rate.
      subtype: of libsndfile: FLOAT, PCM_16, PCM_24 …
    """
    with files.new_file(Path(path)) as temporary:
        soundfile.write(temporary, samples, sample_rate_hz, subtype=subtype, format="WAV")


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resamples along time (soxr, high quality, as the reference): (time, …) → (⌈time·to/from⌉, …), float32."""
    if from_hz == to_hz:
        return samples
    return librosa.resample(samples, orig_sr=from_hz, target_sr=to_hz, res_type="soxr_hq", axis=0)


def to_mono(samples: np.ndarray) -> np.ndarray:
    """Mean of the channels: (time,) or (time, channels) → (time,)."""
    return samples if samples.ndim == 1 else samples.mean(axis=1)


def read_mono(path: str | Path, sample_rate_hz: int) -> np.ndarray:
    """Reads a file as one channel at a sample rate: (time,). Raises as `read` does."""
    samples, rate_hz = read(path)
    return resample(to_mono(samples), rate_hz, sample_rate_hz)


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Cuts, or pads with zeros at the end: (time, …) → (length, …)."""
    samples = samples[:length]
    return np.pad(samples, [(0, length - len(samples))] + [(0, 0)] * (samples.ndim - 1))


def loudest_start(samples: np.ndarray, length: int, step: int) -> int:
    """First sample of the stretch of `length` samples with the most energy, on a grid of `step`; of (time,).

    Of several equal ones (an event in digital silence), the middle one.
    """
    if len(samples) <= length:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    starts = np.arange(0, len(samples) - length + 1, step)
    of_stretch = energy[starts + length] - energy[starts]
    best = np.flatnonzero(of_stretch >= of_stretch.max() * (1 - 1e-9))
    return int(starts[best[len(best) // 2]])


def remove_silence(
    samples: np.ndarray, sample_rate_hz: int, frame_seconds: float = 0.1, peak: float = 0.02
) -> np.ndarray:
    """Drops frames whose peak amplitude is at most `peak`, and a last part frame: (time,) → (shorter time,)."""
    frame = int(sample_rate_hz * frame_seconds)
    framed = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return framed[np.abs(framed).max(axis=1, initial=0.0) > peak].reshape(-1)


def segments(samples: np.ndarray, length: int) -> np.ndarray:
    """Cuts into whole segments: (time,) → (segments, length); the last is repeated until it is full."""
    if len(samples) == 0:
        return np.zeros((0, length), np.float32)
    pieces = [samples[start : start + length] for start in range(0, len(samples), length)]
    return np.stack([np.resize(piece, length) for piece in pieces])


def find_files(path: str | Path) -> list[Path]:
    """The audio file itself, or the audio files below a folder, sorted.

    Raises:
      ValueError: there is nothing of that name, or no audio file below it.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder")
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not found:
        raise ValueError(f"{path}: no audio files in this folder")
    return found
