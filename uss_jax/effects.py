"""Cheap variation of training data: equalisers, rooms and noise, drawn at random; all sound is float32."""

import dataclasses
import functools

import numpy as np
import scipy.fft

from uss_jax.audio import SAMPLE_RATE_HZ

NODES_HZ = np.geomspace(60.0, 16_000.0, 9)  # where an equaliser's gains are drawn: about an octave apart
RT60_S = (0.1, 0.8)  # of rooms: how long until the reverberation has faded by 60 dB
DIRECT_DB = (0.0, 15.0)  # energy of the direct sound over that of the reverberation
NOISE_DB = (-40.0, -10.0)  # energy of noise over the mixture's
SLOPE_DB = (-6.0, 0.0)  # an octave, of noise: from brown to white
_LONGEST_RESPONSE = int(RT60_S[1] * SAMPLE_RATE_HZ)
_DARK_SAMPLES = 8  # the mean of so many is what of a room's noise lies below about 2 kHz
_FLAT_BELOW_HZ = 20.0  # or noise that is nearly brown would be nothing but what cannot be heard


@dataclasses.dataclass(frozen=True)
class Effects:
    """What is done to sources and mixtures, each with random settings of its own; nothing by default.

    Attributes:
      equaliser_range_db: a source's frequencies are this much louder or softer at most.
      reverb_share: share of sources that sound in a room.
      noise_share: share of mixtures that noise is added to.

    Raises:
      ValueError: a share is not from 0 to 1, or the range is negative.
    """

    equaliser_range_db: float = 0.0
    reverb_share: float = 0.0
    noise_share: float = 0.0

    def __post_init__(self) -> None:
        if self.equaliser_range_db < 0:
            raise ValueError(f"data.equaliser_range_db {self.equaliser_range_db:g}: expected 0 or more")
        for name in ("reverb_share", "noise_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} {getattr(self, name):g}: expected 0 to 1")

    def on_source(self, samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A source as another microphone in another room would hear it: (time,) → (time,)."""
        gains_db: np.ndarray | None = None
        response: np.ndarray | None = None
        if random.uniform() < self.reverb_share:
            rt60_s = float(np.exp(random.uniform(*np.log(RT60_S))))
            response = room_response(random, rt60_s, random.uniform(*DIRECT_DB))
        if self.equaliser_range_db:
            gains_db = random.uniform(-self.equaliser_range_db, self.equaliser_range_db, len(NODES_HZ))
        return filtered(samples, gains_db, response)

    def on_mixture(self, mixture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A mixture, with noise or without: (time,) → (time,)."""
        if random.uniform() >= self.noise_share:
            return mixture
        level = np.sqrt(np.mean(mixture**2)) * 10 ** (random.uniform(*NOISE_DB) / 20)
        return mixture + np.float32(level) * coloured_noise(random, len(mixture), random.uniform(*SLOPE_DB))


def filtered(samples: np.ndarray, gains_db: np.ndarray | None = None, response: np.ndarray | None = None) -> np.ndarray:
    """Equalises, and sets in a room, in one pass; nothing wraps around, and what rings on after the end is cut off.

    Args:
      samples: (time,).
      gains_db: (nodes,), of the equaliser at `NODES_HZ`. It delays nothing, being of zero phase.
      response: (time,), the room's, of up to 0.8 s.

    Returns:
      (time,), as long as the samples, which themselves are returned where there is nothing to do.
    """
    if gains_db is None and response is None:
        return samples
    size = scipy.fft.next_fast_len(len(samples) + _LONGEST_RESPONSE, real=True)  # one for all, for `_between_nodes`
    spectrum = scipy.fft.rfft(samples, size)
    if gains_db is not None:
        spectrum *= gain_curve(gains_db, size)
    if response is not None:
        spectrum *= scipy.fft.rfft(response, size)
    return scipy.fft.irfft(spectrum, size)[: len(samples)]


def gain_curve(gains_db: np.ndarray, size: int) -> np.ndarray:
    """Factors for the frequencies of a real FFT of `size` samples: (nodes,) → (size // 2 + 1,).

    It runs smoothly over log frequency from gain to gain at `NODES_HZ`, never beyond the two, and is level below 60 Hz.
    """
    node, weight = _between_nodes(size)
    log_gains = (np.asarray(gains_db) * (np.log(10) / 20)).astype(np.float32)
    return np.exp(log_gains[node] + weight * np.diff(log_gains)[node])


@functools.lru_cache(maxsize=4)
def _between_nodes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The node below each frequency of a real FFT, and the weight of the one above: both (size // 2 + 1,)."""
    hertz = np.maximum(scipy.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), NODES_HZ[0])
    position = np.log(hertz / NODES_HZ[0]) / np.log(NODES_HZ[1] / NODES_HZ[0])
    node = np.minimum(position.astype(np.int32), len(NODES_HZ) - 2)
    part = np.minimum(position - node, 1.0)
    return node, (part**2 * (3 - 2 * part)).astype(np.float32)


def room_response(random: np.random.Generator, rt60_s: float, direct_db: float) -> np.ndarray:
    """The direct sound at once, and decaying noise: a room's impulse response, (time,), until it has faded by 60 dB.

    What lies above about 2 kHz fades in half the time, as air and walls make it.

    Args:
      random: draws the noise.
      rt60_s: reverberation time in seconds.
      direct_db: energy of the direct sound over that of the noise.
    """
    count = int(rt60_s * SAMPLE_RATE_HZ)
    noise = random.standard_normal(count - 1, np.float32)
    dark = np.convolve(noise, np.full(_DARK_SAMPLES, 1 / _DARK_SAMPLES, np.float32), "same")
    fading = np.exp(np.linspace(0, -3 * np.log(10), count, dtype=np.float32))[1:]
    reverberation = fading * (dark + fading * (noise - dark))
    reverberation *= np.float32(10 ** (-direct_db / 20) / np.sqrt(np.sum(reverberation**2)))
    return np.concatenate([np.ones(1, np.float32), reverberation])


def coloured_noise(random: np.random.Generator, length: int, slope_db: float) -> np.ndarray:
    """Noise of unit energy (mean square): (length,).

    Args:
      random: draws it.
      length: samples.
      slope_db: change of its power an octave, above 20 Hz: 0 for white, −6 for brown.
    """
    size = scipy.fft.next_fast_len(length, real=True)
    octaves = np.log2(np.maximum(scipy.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ), _FLAT_BELOW_HZ) / _FLAT_BELOW_HZ)
    drawn = random.standard_normal((size // 2 + 1, 2), np.float32).view(np.complex64)[:, 0]
    drawn *= np.exp(octaves * (slope_db * np.log(10) / 20)).astype(np.float32)
    drawn[0] = 0  # no offset
    noise = scipy.fft.irfft(drawn, size)[:length]
    return noise / np.sqrt(np.mean(noise**2))
