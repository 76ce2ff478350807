"""Sound files as streams, through libsndfile and, where it is installed, ffmpeg; memory does not grow with length."""

import contextlib
import os
import selectors
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile

from uss_jax import files

MAX_CHANNELS = 64
RATES_HZ = range(1_000, 768_001)
FFMPEG_EXTENSIONS = (
    *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".dts", ".eac3", ".flv", ".m4a", ".m4b", ".m4v", ".mka"),
    *(".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".oga", ".tta", ".webm", ".wma", ".wmv", ".wv"),
)

_UNKNOWN = 1 << 62  # libsndfile counts up to 2^63 - 1 samples where a header tells no length
_BLOCK = 1 << 22  # values that are decoded in one go
# Containers of sound only. What ffmpeg knows besides may name other files or addresses, or draw sound from text.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,sds,tta,w64,wav,wv"
)
_HEADER = struct.Struct(">4s5I")  # of AU: magic, where the samples begin, their bytes, encoding, rate, channels
_PATIENCE_S = 60.0  # without a byte from ffmpeg
_PIPE_BYTES = 1 << 16


class Recording:
    """A sound file that is read as a stream, as often as wanted. What it is, its content decides, not its name.

    Attributes:
      path: of the file.
      sample_rate_hz: its rate.
      channels: how many it has.
      frames: its samples per channel as the header tells, more than there are where the file is damaged; None where
        the header does not tell, as for all that ffmpeg reads.
    """

    def __init__(self, path: str | Path):
        """Raises ValueError, naming the file: missing, a folder, not audio, of odd rate or channels, or empty."""
        self.path = Path(path)
        with contextlib.closing(open_sound(self.path)) as sound:
            self.sample_rate_hz, self.channels, self.frames = sound.sample_rate_hz, sound.channels, sound.frames

    def chunks(self, count: int, start: int = 0) -> Iterator[np.ndarray]:
        """Reads the file from a sample on. Every call opens it anew; it is closed with the generator.

        Args:
          count: samples of a chunk, at most.
          start: the first sample.

        Yields:
          Float32, (at most `count` and at least 1, channels).

        Raises:
          ValueError: it cannot be read on, holds nothing from `start` on, or values that are not finite.
        """
        with contextlib.closing(open_sound(self.path)) as sound:
            yield from read_chunks(sound, self.path, count, start)


class Sound(Protocol):
    """An open sound file."""

    sample_rate_hz: int
    channels: int
    frames: int | None

    def skip(self, count: int) -> None:
        """Passes over samples, or to the end where there are fewer."""

    def read(self, count: int) -> np.ndarray:
        """The next samples, float32, (at most `count`, channels); none at the end."""

    def close(self) -> None:
        """Ends it."""


def open_sound(path: Path) -> Sound:
    """Opens a sound file. Raises ValueError as `Recording` does."""
    if not files.is_file(path):
        folder = os.path.isdir(path)  # unlike Path.is_dir, it takes any name
        raise ValueError(f"{path}: " + ("a folder, where an audio file was expected" if folder else "no such file"))
    try:
        file = path.open("rb")  # soundfile itself refuses names that are no UTF-8
    except OSError as error:
        raise ValueError(f"{path}: cannot be opened ({error.strerror})") from error
    sound = _decoder(path, file)
    try:
        if sound.frames == 0:
            raise ValueError(f"{path}: holds no samples")
        if not 1 <= sound.channels <= MAX_CHANNELS:
            raise ValueError(f"{path}: has {sound.channels} channels; 1 to {MAX_CHANNELS} can be read")
        if sound.sample_rate_hz not in RATES_HZ:
            raise ValueError(f"{path}: has a sample rate of {sound.sample_rate_hz} Hz; 1 to 768 kHz can be read")
    except ValueError:
        sound.close()
        raise
    return sound


def read_chunks(
    sound: Sound, path: Path, count: int | None = None, start: int = 0, limit: int | None = None
) -> Iterator[np.ndarray]:
    """Reads an open file on, see `Recording.chunks`.

    Args:
      sound: just opened.
      path: of the file, for messages.
      count: samples of a chunk, at most; as many as are decoded well in one go unless given.
      start: the first sample.
      limit: samples to read at most.
    """
    if start:
        sound.skip(start)
    count = count or max(1, _BLOCK // sound.channels)
    done = 0
    while limit is None or done < limit:
        samples = sound.read(count if limit is None else min(count, limit - done))
        if not len(samples):
            break
        if not np.isfinite(samples).all():
            raise ValueError(f"{path}: holds samples that are NaN or infinite")
        done += len(samples)
        yield samples
    if not done:
        raise ValueError(f"{path}: holds no samples" + (f" after the first {start}" if start else ""))


def _decoder(path: Path, file: BinaryIO) -> Sound:
    try:
        return _Libsndfile(path, file)
    except ValueError:
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None and path.suffix.lower() in FFMPEG_EXTENSIONS:
            raise ValueError(f"{path}: not readable without ffmpeg, which is not installed here") from None
        sound = ffmpeg and _Ffmpeg.open(ffmpeg, path)
        if not sound:
            raise
        return sound


class _Forward(soundfile.SoundFile):
    """Takes the file for one that only goes on: soundfile seeks after every read otherwise, which breaks Opus."""

    def seekable(self) -> bool:
        return False


class _Libsndfile:
    """What libsndfile reads."""

    def __init__(self, path: Path, file: BinaryIO):
        """Closes the file where it raises ValueError."""
        self._path, self._file = path, file
        try:
            self._sound = _Forward(self._file.fileno(), closefd=False)
        except soundfile.SoundFileError as error:
            self._file.close()
            raise _not_readable(path, error) from error
        if self._sound.format == "SDS":  # MIDI sample dumps, of which libsndfile makes other samples by other reads
            self.close()
            raise ValueError(f"{path}: not readable as audio (a MIDI sample dump)")
        self.sample_rate_hz, self.channels = self._sound.samplerate, self._sound.channels
        self.frames = self._sound.frames if 0 <= self._sound.frames < _UNKNOWN else None
        self._left = self._sound.frames

    def skip(self, count: int) -> None:
        """See `Sound`; where the format cannot seek, it reads."""
        if not soundfile.SoundFile.seekable(self._sound):
            return _drop(self, count)
        count = min(count, self._left)
        try:
            self._sound.seek(count, soundfile.SEEK_CUR)
        except soundfile.SoundFileError as error:
            raise _not_readable(self._path, error) from error
        self._left -= count

    def read(self, count: int) -> np.ndarray:
        """See `Sound`."""
        try:
            samples = self._sound.read(min(count, self._left), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise _not_readable(self._path, error) from error
        self._left -= len(samples)
        return samples

    def close(self) -> None:
        """See `Sound`."""
        self._sound.close()
        self._file.close()


def _not_readable(path: Path, error: soundfile.SoundFileError) -> ValueError:
    reason = str(error).rsplit(":", 1)[-1].strip().rstrip(".")
    return ValueError(f"{path}: not readable as audio ({reason})")


def _drop(sound: Sound, count: int) -> None:
    while count and (dropped := len(sound.read(min(count, _BLOCK // sound.channels)))):
        count -= dropped


class _Ffmpeg:
    """What ffmpeg decodes: it writes AU through a pipe, whose header tells the rate and channels that it decodes to."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]):
        self._path, self._process = path, process
        assert process.stdout is not None
        self._pipe = process.stdout
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._pipe, selectors.EVENT_READ)
        self.sample_rate_hz = self.channels = 0
        self.frames: int | None = None

    @classmethod
    def open(cls, ffmpeg: str, path: Path) -> "_Ffmpeg | None":
        """Starts ffmpeg; None where it finds no sound in the file."""
        command: list[str | bytes] = [ffmpeg, "-v", "quiet", "-nostdin", "-max_error_rate", "1"]
        command += ["-threads", "1", "-protocol_whitelist", "file", "-format_whitelist", _DEMUXERS]
        command += ["-i", b"file:" + os.fsencode(os.path.abspath(path))]  # neither an option nor a protocol
        command += ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        nothing = subprocess.DEVNULL
        try:
            # In a session of its own, for Ctrl-C is for this program, which ends ffmpeg itself.
            process = subprocess.Popen(
                command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise ValueError(f"{path}: cannot be read, since ffmpeg does not start ({error.strerror})") from error
        sound = cls(path, process)
        try:
            if sound._read_header():
                return sound
        except BaseException:
            sound.close()
            raise
        sound.close()
        return None

    def _read_header(self) -> bool:
        header = self._bytes(_HEADER.size)
        if len(header) < _HEADER.size:
            return False
        _, begin, _, _, self.sample_rate_hz, self.channels = _HEADER.unpack(header)
        self._bytes(begin - _HEADER.size)
        return True

    def skip(self, count: int) -> None:
        """See `Sound`; what comes before is decoded, too."""
        _drop(self, count)

    def read(self, count: int) -> np.ndarray:
        """See `Sound`."""
        data = self._bytes(count * self.channels * 4)
        if not data and self._process.wait(_PATIENCE_S):
            raise ValueError(f"{self._path}: ffmpeg failed on it (exit code {self._process.returncode})")
        values = np.frombuffer(data, ">f4", len(data) // (4 * self.channels) * self.channels)
        return values.astype(np.float32).reshape(-1, self.channels)

    def close(self) -> None:
        """See `Sound`."""
        self._process.kill()
        self._process.wait()
        self._ready.close()
        self._pipe.close()

    def _bytes(self, count: int) -> bytearray:
        """Reads so many bytes, or fewer at the end."""
        pieces = bytearray()
        while len(pieces) < count:
            if not self._ready.select(_PATIENCE_S):
                raise ValueError(f"{self._path}: ffmpeg gave nothing for {_PATIENCE_S:.0f} s")
            piece = self._pipe.read(min(count - len(pieces), _PIPE_BYTES))
            if not piece:
                break
            pieces += piece
        return pieces
