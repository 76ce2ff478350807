"""Insects, birds and singers.

Each recipe takes a generator and seconds, draws a source anew, and returns its sound.
"""

from typing import NamedTuple

import numpy as np
from make_yard import RATE_HZ, Rng, band, line, noise, samples, slow

from rendering.blocks import Sound, add, between, fading, overdriven, tilted, tone, turning

VOWELS_HZ = np.array([[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]])
SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12])  # semitones


def cricket(rng: Rng, seconds: float) -> Sound:
    """One or several crickets, with chirps of a few pulses or a trill without end, or cicadas."""
    x = np.zeros(samples(seconds))
    for _ in range(rng.integers(1, 5)):
        hz = between(rng, 2300, 7500)
        pulses = between(rng, 18, 90)
        turns = turning(pulses * (1 + 0.03 * slow(rng, seconds, 3)), rng.random())
        pulsed = np.clip(np.sin(2 * np.pi * turns), 0, None) ** rng.uniform(0.5, 2)
        if rng.random() < 0.6:
            chirps = turning(between(rng, 0.8, 5) * (1 + 0.08 * slow(rng, seconds, 1)), rng.random()) % 1.0
            pulsed *= np.clip(20 * (rng.uniform(0.25, 0.7) - chirps), 0, 1)
        sung = np.sin(2 * np.pi * turning(hz * (1 + 0.01 * slow(rng, seconds, 60) + 0.01 * pulsed)))
        if rng.random() < 0.25:
            sung = band(noise(rng, seconds, [(100, 0), (15000, 0)]), 0.8 * hz, min(1.4 * hz, 12000), 2)
        x += between(rng, 0.15, 1.0) * pulsed * (sung + 0.1 * overdriven(sung, 2, 0.2))
    return x


def bee(rng: Rng, seconds: float) -> Sound:
    """A bee, fly or mosquito that comes and goes."""
    hz = between(rng, 110, 600) * (1 + 0.05 * slow(rng, seconds, 3) + 0.01 * slow(rng, seconds, 40))
    k = np.arange(1.0, int(9000 / hz.max()) + 1)
    gains = rng.lognormal(0, 0.6, len(k)) * k ** -rng.uniform(0.5, 1.3)
    near = np.clip(0.6 + 0.5 * slow(rng, seconds, between(rng, 0.5, 2)), 0.05, None)
    return tone(hz, 0.6 * gains, gains, near, rng.uniform(0, 2 * np.pi, len(k))) * near


class Syllable(NamedTuple):
    """A call that a bird repeats: its pitch in octaves over time, the warble in it, and its overtones."""

    length_s: float
    hz: float
    octaves: np.ndarray
    warble: float
    warble_hz: float
    overtones: np.ndarray
    roughness: float
    repeats: int

    @classmethod
    def drawn(cls, rng: Rng, middle_hz: float) -> "Syllable":
        """One around a pitch."""
        return cls(
            length_s=between(rng, 0.03, 0.35),
            hz=middle_hz * 2 ** rng.normal(0, 0.3),
            octaves=rng.uniform(-0.45, 0.45, rng.integers(2, 5)),
            warble=rng.choice([0, 0, 1]) * rng.uniform(0.02, 0.15),
            warble_hz=between(rng, 15, 80),
            overtones=rng.choice([0.1, 0.8]) * rng.random(4),
            roughness=rng.choice([0, 0, 1]) * rng.uniform(0.1, 0.6),
            repeats=rng.integers(1, 8),
        )

    def call(self, rng: Rng) -> Sound:
        """It sounds once."""
        t = np.arange(samples(self.length_s)) / RATE_HZ
        bend = np.interp(t / self.length_s, np.linspace(0, 1, len(self.octaves)), self.octaves)
        bend += self.warble * np.sin(2 * np.pi * self.warble_hz * t)
        hz = np.clip(self.hz * 2**bend, 300, 11000)
        turns = 2 * np.pi * turning(hz)
        x = np.sin(turns)
        for number, gain in enumerate(self.overtones, start=2):
            x += np.where(number * hz < 15000, gain, 0.0) * np.sin(number * turns)
        x *= 1 + self.roughness * slow(rng, self.length_s, 120)
        return x * fading(self.length_s, 0.2 * self.length_s, 0.5 * self.length_s)


def bird(rng: Rng, seconds: float) -> Sound:
    """Songs or calls of a few kinds of syllables, each a quick course of the pitch, and pauses; one or two birds."""
    x = np.zeros(samples(seconds))
    for _ in range(rng.integers(1, 3)):
        loud, at_s = between(rng, 0.3, 1.0), rng.uniform(0, 0.8)
        middle_hz = between(rng, 500, 6500)
        kinds = [Syllable.drawn(rng, middle_hz) for _ in range(rng.integers(1, 5))]
        while at_s < seconds:
            kind = kinds[rng.integers(len(kinds))]
            for _ in range(rng.integers(1, kind.repeats + 1)):
                add(x, loud * rng.uniform(0.6, 1) * kind.call(rng), at_s)
                at_s += kind.length_s * rng.uniform(1.05, 1.6)
            at_s += rng.exponential(0.4)
    return x


class Sung(NamedTuple):
    """A note of a singer: when, how long and how high, and the formants of its vowel."""

    start_s: float
    length_s: float
    hz: float
    peaks_hz: np.ndarray


class Singer(NamedTuple):
    """How a voice sings; `slope` is of its harmonics, `open_hz` the width of its lowest formant."""

    size: float
    slope: float
    breath: float
    open_hz: float
    vibrato_hz: float
    vibrato_cents: float
    apart_cents: float

    def note(self, rng: Rng, sung: Sung) -> Sound:
        """It sings one, gliding into it, with vibrato after a while."""
        length = sung.length_s + 0.08
        t = np.arange(samples(length)) / RATE_HZ
        vibrato = self.vibrato_cents * np.clip(t / 0.4, 0, 1) * np.sin(2 * np.pi * self.vibrato_hz * t)
        cents = self.apart_cents + vibrato + 8 * slow(rng, length, 3)
        cents += line(length, [(0, rng.normal(0, 150)), (0.08, 0), (length, 0)])
        k = np.arange(1.0, int(9000 / sung.hz) + 1)
        peaks_hz = [*sung.peaks_hz, 3200 * self.size]
        widths_hz = [self.open_hz, 1.3 * self.open_hz, 2 * self.open_hz, 300]
        throat = sum(
            gain / (1 + ((k * sung.hz - peak) / width) ** 2)
            for peak, width, gain in zip(peaks_hz, widths_hz, [1, 0.6, 0.3, 0.25], strict=True)
        )
        gains = k**-self.slope * (throat + 0.01)
        voice = tone(sung.hz * 2 ** (cents / 1200), gains, gains, np.ones(len(t)), np.zeros(len(k)))
        air = self.breath * tilted(rng, length, 800, 8000, 6)
        return (voice / (voice.std() + 1e-9) + air) * fading(length, between(rng, 0.03, 0.15), 0.1)


def melody(rng: Rng, seconds: float, tonic_hz: float, size: float) -> list[Sung]:
    """Steps up and down a scale, a vowel on each."""
    notes = []
    at_s, degree = rng.uniform(0, 0.5), int(rng.integers(8))
    while at_s < seconds:
        length = between(rng, 0.25, 2.0)
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, 7))
        hz = tonic_hz * 2 ** (SCALE[degree] / 12)
        notes.append(Sung(at_s, length, hz, VOWELS_HZ[rng.integers(5)] * size))
        at_s += length * rng.choice([1.0, 1.0, 1.3])
    return notes


def singing(rng: Rng, seconds: float) -> Sound:
    """A voice that sings a melody; now and then several in unison."""
    x = np.zeros(samples(seconds))
    is_high = rng.random() < 0.5
    size = rng.uniform(1.05, 1.25) if is_high else rng.uniform(0.9, 1.05)
    notes = melody(rng, seconds, between(rng, 200, 450) if is_high else between(rng, 100, 220), size)
    throat = rng.uniform(0.9, 1.6), between(rng, 0.01, 0.15), between(rng, 60, 130)
    for _ in range(rng.choice([1, 1, 1, 4])):
        singer = Singer(size, *throat, rng.uniform(4.5, 6.8), rng.uniform(5, 70), rng.normal(0, 12))
        for sung in notes:
            add(x, singer.note(rng, sung) * rng.uniform(0.5, 1), sung.start_s)
    return x
