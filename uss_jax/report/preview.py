"""The beginning of a sound as a small file in memory, written while the sound streams by.

FLAC of rounded samples: every browser decodes it, it has no delay, so that tracks stay together to the sample, and it
takes a tenth of the time that MP3 and Vorbis take, which would be longer than a small model separates.
"""

import base64
import io
import weakref

import numpy as np
import soundfile
import soxr

MOST_SECONDS = 180.0
MOST_TRACK_SECONDS = 2400.0  # of all the previews of a page together, so that it stays a page that opens
MOST_RATE_HZ = 24_000
LEAST_RATE_HZ = 8_000  # that browsers must play
BLOCK = 4096  # samples that are rounded alike; FLAC's blocks
STEPS = 32  # in the RMS of a block; rounding noise lies over 40 dB below the sound


def seconds(tracks: int) -> float:
    """How much of a recording is heard on a page of this many tracks, at most."""
    return min(MOST_SECONDS, MOST_TRACK_SECONDS / tracks)


def rate_hz(sample_rate_hz: int) -> int:
    """The rate of the previews of sounds of this rate."""
    return max(LEAST_RATE_HZ, min(sample_rate_hz, MOST_RATE_HZ))


class Preview:
    """The beginning of one sound.

    Attributes:
      frames: samples of the preview, at `rate_hz`; the same for all sounds of a recording.
      rate_hz: of the preview.
    """

    def __init__(self, sample_rate_hz: int, channels: int, frames: int) -> None:
        """For a sound of this rate and number of channels, to be cut after `frames` samples."""
        self.rate_hz = rate_hz(sample_rate_hz)
        self.frames = max(1, round(frames * self.rate_hz / sample_rate_hz))
        self._left, self._to_write = frames, self.frames
        self._channels = channels if channels <= 2 else 1
        self._resampler = soxr.ResampleStream(sample_rate_hz, self.rate_hz, self._channels, dtype="float32")
        self._held = np.zeros((0, self._channels), np.float32)  # less than a block
        self._memory = io.BytesIO()
        self._file = soundfile.SoundFile(self._memory, "w", self.rate_hz, self._channels, "PCM_16", format="FLAC")
        weakref.finalize(self, self._file.close)  # before its memory goes, where a separation ends early

    def add(self, samples: np.ndarray) -> None:
        """Takes the next samples, (time, channels); more than two channels are heard as their mean."""
        samples = samples[: self._left]
        self._left -= len(samples)
        if len(samples):
            heard = samples if samples.shape[1] == self._channels else samples.mean(axis=1, keepdims=True)
            self._write(self._resampler.resample_chunk(heard.astype(np.float32)))

    def encoded(self) -> str:
        """Ends the preview, and gives its file in base 64."""
        self._write(self._resampler.resample_chunk(np.zeros((0, self._channels), np.float32), last=True))
        missing = self._to_write - len(self._held)
        self._write(np.zeros((missing + -self._to_write % BLOCK, self._channels), np.float32))
        self._file.close()
        return base64.b64encode(self._memory.getvalue()).decode("ascii")

    def _write(self, samples: np.ndarray) -> None:
        held = np.concatenate([self._held, samples])
        whole = len(held) // BLOCK * BLOCK
        self._held = held[whole:].copy()
        rounded = coarse(held[:whole].reshape(-1, BLOCK, self._channels)).reshape(-1, self._channels)
        self._file.write(rounded[: self._to_write])
        self._to_write = max(0, self._to_write - whole)


def coarse(blocks: np.ndarray) -> np.ndarray:
    """Rounds each block to a power of two that suits its level, for FLAC leaves out bits that are 0 throughout.

    Args:
      blocks: (blocks, time, channels), −1 to 1; what is louder is clipped.

    Returns:
      int16, the same shape.
    """
    scaled = np.clip(blocks, -1, 1) * np.float32(32768)
    rms = np.sqrt(np.mean(np.square(scaled), axis=1, keepdims=True))
    step = np.exp2(np.floor(np.log2(np.maximum(rms / STEPS, 1))))
    return np.clip(np.round(scaled / step) * step, -32768, 32767).astype(np.int16)
