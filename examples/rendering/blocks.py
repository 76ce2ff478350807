"""What rendered sounds are built of. Sounds are (samples,) of floats at 32 kHz, times are in seconds, pitches in Hz."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from make_yard import RATE_HZ, Points, Rng, clicks, line, noise, samples
from scipy import signal

HIGHEST_HZ = 15000  # of a partial: none may alias
TABLE = 8192  # points of a stored period

Sound = np.ndarray


class Instrument(NamedTuple):
    """One instrument: a draw of its timbre.

    Attributes:
      note: (generator, pitch in Hz, seconds, loudness 0 to 1) → sound, which may go on after those seconds.
      low, high: its range, in MIDI pitches.
      styles: what it plays, of `music.STYLES`.
      finish: what becomes of all notes together, as in a body or an amplifier.
      legato: how much of the time up to the next note a note of a melody lasts, from and to.
    """

    note: Callable[[Rng, float, float, float], Sound]
    low: int
    high: int
    styles: tuple[str, ...]
    finish: Callable[[Sound], Sound]
    legato: tuple[float, float] = (0.5, 1.0)


def between(rng: Rng, low: float, high: float) -> float:
    """A number that is as likely in each octave."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def fading(seconds: float, attack_s: float, release_s: float) -> Sound:
    """1, but for a rise and a fall, neither with a corner."""
    whole = [(0, 0), (min(attack_s, seconds / 2), 1), (max(seconds - release_s, seconds / 2), 1), (seconds, 0)]
    return np.sin(np.pi / 2 * line(seconds, whole)) ** 2


def damped(x: Sound, held_s: float, decay_s: float) -> Sound:
    """x as a damper falls after `held_s`: from there on it falls by a factor e in each `decay_s`."""
    late_s = np.maximum(np.arange(len(x)) / RATE_HZ - held_s, 0.0)
    return x * np.exp(-late_s / decay_s)


def modes(
    seconds: float, hz: np.ndarray, decay_s: np.ndarray, gain: np.ndarray, phase: np.ndarray | float = 0.0
) -> Sound:
    """Sum of sines that each fall by a factor e in their `decay_s`; arguments are (modes,).

    As exp(z·(step·i + j)) is exp(z·step·i)·exp(z·j), the sum over all modes is one product of matrices.
    """
    kept = hz < HIGHEST_HZ
    z = 2j * np.pi * hz[kept] / RATE_HZ - 1.0 / (np.broadcast_to(decay_s, hz.shape)[kept] * RATE_HZ)
    start = gain * np.exp(1j * np.broadcast_to(phase, hz.shape))
    size = samples(seconds)
    step = int(np.ceil(np.sqrt(size)))
    coarse = np.exp(np.outer(np.arange(step) * step, z)) * start[kept]
    fine = np.exp(np.outer(z, np.arange(step)))
    return (coarse.real @ fine.imag + coarse.imag @ fine.real).ravel()[:size]


def tone(hz: np.ndarray, soft: np.ndarray, loud: np.ndarray, level: np.ndarray, phase: np.ndarray) -> Sound:
    """A periodic sound whose spectrum moves.

    Args:
      hz: pitch, (samples,).
      soft: amplitudes of the harmonics where the level is 0, (harmonics,).
      loud: and where it is 1.
      level: (samples,).
      phase: of the harmonics, (harmonics,).
    """
    turns = np.cumsum(hz) / RATE_HZ % 1.0 * TABLE
    at = turns.astype(np.int64)
    share = turns - at
    quiet = len(soft) - np.count_nonzero(np.arange(1, len(soft) + 1) * hz.max() > HIGHEST_HZ)
    wave = np.exp(1j * phase[:quiet]) * TABLE / 2

    def played(gains: np.ndarray) -> Sound:
        period = np.fft.irfft(np.concatenate([[0.0], gains[:quiet] * wave]), TABLE)
        period = np.append(period, period[0])
        return period[at] * (1 - share) + period[at + 1] * share

    base = played(soft)
    return base + level * (played(loud) - base)


def bent(x: Sound, cents: np.ndarray) -> Sound:
    """x played faster or slower: its pitch follows `cents`, (samples,)."""
    at = np.cumsum(2 ** (cents / 1200)) - 1.0
    return np.interp(at, np.arange(len(x)), x, right=0.0)


def burst(rng: Rng, decay_s: float, density: Points) -> Sound:
    """Noise that starts at once and falls by a factor e in `decay_s`; RMS about 1 at its start."""
    seconds = 7 * decay_s + 0.004
    return noise(rng, seconds, density) * np.exp(-np.arange(samples(seconds)) / (decay_s * RATE_HZ))


def add(x: Sound, y: Sound, at_s: float = 0.0) -> Sound:
    """x with y added from `at_s` on; what reaches beyond the end of x is cut."""
    start = samples(at_s)
    y = y[: max(len(x) - start, 0)]
    x[start : start + len(y)] += y
    return x


def resonances(rng: Rng, low_hz: float, high_hz: float, count: int, direct: float, quality: float = 12.0) -> Sound:
    """How a box answers to a knock: some of the sound itself, and modes between two frequencies."""
    hz = np.exp(np.sort(rng.uniform(np.log(low_hz), np.log(high_hz), count)))
    gain = rng.lognormal(0.0, 0.5, count) * rng.choice([-1, 1], count) * (hz / hz.mean()) ** 0.85
    decay_s = quality * rng.lognormal(0.0, 0.4, count) / (np.pi * hz)
    reply = modes(0.12, hz, decay_s, gain, rng.uniform(0, 2 * np.pi, count)) * fading(0.12, 0.0, 0.03)
    reply /= np.sqrt(np.sum(reply**2))
    reply[0] += direct
    return reply


def answered(x: Sound, reply: Sound) -> Sound:
    """x through something that answers to a knock with `reply`; as long as x."""
    return signal.fftconvolve(x, reply)[: len(x)]


def low_pass(x: Sound, hz: float, order: int = 1) -> Sound:
    """x without what is above `hz`."""
    return np.asarray(signal.sosfilt(signal.butter(order, min(hz, 15500), fs=RATE_HZ, output="sos"), x))


def high_pass(x: Sound, hz: float, order: int = 1) -> Sound:
    """x without what is below `hz`."""
    return np.asarray(signal.sosfilt(signal.butter(order, hz, "high", fs=RATE_HZ, output="sos"), x))


def overdriven(x: Sound, gain: float, bias: float) -> Sound:
    """x as an amplifier clips it, softly; four times as many samples meanwhile, so that little aliases."""
    fine = signal.resample_poly(x / (np.abs(x).max() + 1e-9), 4, 1)
    return signal.resample_poly(np.tanh(gain * fine + bias) - np.tanh(bias), 1, 4)[: len(x)]


def as_is(x: Sound) -> Sound:
    """x."""
    return x


def tilted(rng: Rng, seconds: float, low_hz: float, high_hz: float, slope_db: float) -> Sound:
    """Noise from `low_hz` to `high_hz` that falls by about `slope_db` between them; RMS 1."""
    middle_hz = np.sqrt(low_hz * high_hz)
    density: Points = [
        (low_hz / 2, -12),
        (low_hz, 0),
        (middle_hz, -slope_db / 2 + rng.normal(0, 3)),
        (high_hz, -slope_db),
        (min(2 * high_hz, 15900), -slope_db - 18),
    ]
    return noise(rng, seconds, density)


def course(rng: Rng, seconds: float, points: int, low: float, high: float) -> np.ndarray:
    """A level that goes at random between two values, straight from one of `points` to the next: (samples,)."""
    return line(seconds, list(zip(np.linspace(0, seconds, points), rng.uniform(low, high, points), strict=True)))


def turning(hz: np.ndarray, start: float = 0.0) -> np.ndarray:
    """Turns of something that turns `hz` times a second, (samples,)."""
    return start + np.cumsum(hz) / RATE_HZ


def at_random(rng: Rng, seconds: float, per_second: float, decay_s: float, hz: float, spread: float) -> Sound:
    """Many small noises, each falling by a factor e in `decay_s`, around `hz`; RMS about 1."""
    hits = np.abs(clicks(rng, seconds, per_second, spread))
    envelope = signal.lfilter([1.0], [1.0, 1 / (decay_s * RATE_HZ + 1) - 1.0], hits)
    x = envelope * tilted(rng, seconds, hz / 3, min(3 * hz, 12000), 0)
    return x / (x.std() + 1e-9)
