"""Audio files to arrays and back. Arrays are float32, (time,) for one channel and (time, channels) for more."""

import contextlib
import dataclasses
import io
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from uss_jax import files, recording

SAMPLE_RATE_HZ = 32_000  # of all models and datasets
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus", ".w64", ".caf", ".au")  # quick to read


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that sound is written in.

    Attributes:
      suffix: of its files.
      subtypes: of libsndfile, the usual one first.
      max_channels: how many a file may have.
      rates_hz: sample rates that it takes.
    """

    suffix: str
    subtypes: tuple[str, ...]
    max_channels: int
    rates_hz: Container[int]


FORMATS = {
    "wav": Format(".wav", ("FLOAT", "PCM_16", "PCM_24", "PCM_32"), recording.MAX_CHANNELS, recording.RATES_HZ),
    "flac": Format(".flac", ("PCM_24", "PCM_16"), 8, range(1_000, 655_351)),
    "ogg": Format(".ogg", ("VORBIS",), recording.MAX_CHANNELS, range(1_000, 200_001)),
    "mp3": Format(
        ".mp3", ("MPEG_LAYER_III",), 2, (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    ),
}
_WAV_BYTES = (1 << 32) - (1 << 16)  # of samples, with room for a header; RF64 holds more
_VALUES_AT_ONCE = 1 << 16  # libvorbis keeps what it is given on the stack, and crashes given minutes


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
    with contextlib.closing(recording.open_sound(path)) as sound:
        rate_hz = sound.sample_rate_hz
        limit = None if seconds is None else round(seconds * rate_hz)
        chunks = list(recording.read_chunks(sound, path, start=round(start_s * rate_hz), limit=limit))
    samples = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return (samples[:, 0] if samples.shape[1] == 1 else samples), rate_hz


def check_output(format: str, subtype: str | None, sample_rate_hz: int, channels: int) -> None:
    """Raises ValueError where sound of this rate and number of channels cannot be written so.

    Args:
      format: a key of FORMATS.
      subtype: one of the format's, or None for its usual one.
      sample_rate_hz: its rate.
      channels: how many it has.
    """
    if format not in FORMATS:
        raise ValueError(f"{format!r}: not a format for output; known are {', '.join(FORMATS)}")
    kind = FORMATS[format]
    if subtype not in (None, *kind.subtypes):
        raise ValueError(f"{subtype!r}: not a subtype of {format}, which has {', '.join(kind.subtypes)}")
    if not 1 <= channels <= kind.max_channels:
        raise ValueError(f"{channels} channels: {format} files hold 1 to {kind.max_channels}")
    if sample_rate_hz not in kind.rates_hz:
        raise ValueError(f"{sample_rate_hz} Hz: not a sample rate of {format} files")
    try:
        with soundfile.SoundFile(
            io.BytesIO(), "w", sample_rate_hz, channels, subtype or kind.subtypes[0], format=format
        ) as sound:
            sound.write(np.zeros((1, channels), np.float32))
    except (soundfile.SoundFileError, ValueError) as error:
        raise ValueError(
            f"{format} of {channels} channels at {sample_rate_hz} Hz cannot be written here ({error})"
        ) from error


def needs_rf64(frames: int, channels: int, subtype: str) -> bool:
    """Whether so many samples per channel are more than a WAV file can count, so that it must be of the RF64 kind."""
    width = {"PCM_16": 2, "PCM_24": 3}.get(subtype, 4)
    return frames * channels * width > _WAV_BYTES


class Writer:
    """Writes a sound file piece by piece; with a block that ends well, the file takes its name, whole.

    Attributes:
      path: of the file.
      sample_rate_hz: its rate.
      channels: how many it has.
      frames: written so far, per channel.
      clipped: samples so far, of all channels, that were beyond ±1 where the format holds no more.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate_hz: int,
        channels: int,
        *,
        format: str = "wav",
        subtype: str | None = None,
        frames: int | None = None,
    ):
        """Raises ValueError as `check_output` does, whose arguments these are.

        Args:
          path: where to; the suffix does not matter.
          sample_rate_hz: see there.
          channels: see there.
          format: see there.
          subtype: see there.
          frames: samples per channel that will come, or more; WAV files of more than 4 GB need it.
        """
        check_output(format, subtype, sample_rate_hz, channels)
        self.path, self.sample_rate_hz, self.channels = Path(path), sample_rate_hz, channels
        self.frames = self.clipped = 0
        self._subtype = subtype or FORMATS[format].subtypes[0]
        large = format == "wav" and needs_rf64(frames or 0, channels, self._subtype)
        self._container = "RF64" if large else format.upper()
        self._opened = self._open()

    def __enter__(self) -> "Writer":
        self._opened.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.__exit__(*exception)  # type: ignore[arg-type]

    def write(self, chunk: np.ndarray) -> None:
        """Writes the next samples, (time, channels); formats of whole numbers clip them at ±1.

        Raises:
          ValueError: of another shape, or the file cannot be written on; the message names it.
        """
        if chunk.ndim != 2 or chunk.shape[1] != self.channels:
            raise ValueError(f"{self.path}: expected samples of shape (time, {self.channels}), not {chunk.shape}")
        self.frames += len(chunk)
        if self._container == "WAV" and needs_rf64(self.frames, self.channels, self._subtype):
            raise ValueError(f"{self.path}: longer than was said, and too long for a WAV file, which ends at 4 GB")
        step = max(1, _VALUES_AT_ONCE // self.channels)
        if self._subtype != "FLOAT":
            self.clipped += int(np.count_nonzero(np.abs(chunk) > 1.0))
        for start in range(0, len(chunk), step):
            self._sound.write(np.asarray(chunk[start : start + step], np.float32))
            self._check()

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with files.new_file(self.path) as temporary:
            try:
                file = temporary.open("wb", buffering=0)
            except OSError as error:
                raise ValueError(f"{self.path}: cannot be written ({error.strerror})") from error
            with file:
                self._sink = _Sink(file)
                with soundfile.SoundFile(
                    self._sink, "w", self.sample_rate_hz, self.channels, self._subtype, format=self._container
                ) as self._sound:
                    yield
                self._check()

    def _check(self) -> None:
        if self._sink.error:
            raise ValueError(f"{self.path}: cannot be written ({self._sink.error.strerror})") from self._sink.error


class _Sink:
    """A file whose errors are kept: soundfile calls it from C, where they would be lost."""

    def __init__(self, file: io.FileIO):
        self._file = file
        self.error: OSError | None = None
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left and not self.error:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return len(data)


def write(path: str | Path, samples: np.ndarray, sample_rate_hz: int, subtype: str = "FLOAT") -> None:
    """Writes a WAV file through a temporary name, so that no half-written file carries the final one.

    Args:
      path: where to.
      samples: (time,) or (time, channels).
      sample_rate_hz: its rate.
      subtype: of the format "wav", see FORMATS.
    """
    samples = samples[:, None] if samples.ndim == 1 else samples
    length, channels = samples.shape
    with Writer(path, sample_rate_hz, channels, subtype=subtype, frames=length) as writer:
        writer.write(samples)


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resamples along time (soxr, high quality, as the reference): (time, …) → (⌈time·to/from⌉, …), float32."""
    if from_hz == to_hz:
        return samples
    length = int(np.ceil(len(samples) * (to_hz / from_hz)))  # as librosa, which the reference calls
    return fit_length(soxr.resample(samples, from_hz, to_hz, "soxr_hq"), length)


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
    extensions = EXTENSIONS + recording.FFMPEG_EXTENSIONS
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in extensions and file.is_file())
    if not found:
        raise ValueError(f"{path}: no audio files in this folder")
    return found
