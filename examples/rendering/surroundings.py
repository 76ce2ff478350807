"""Sounds of weather, water, engines, animals and things: each call draws a source anew and lets it sound.

A recipe is a function of (generator, seconds) that returns (samples,) of any loudness.
"""

from typing import NamedTuple

import numpy as np
from make_yard import RATE_HZ, Points, Rng, band, clicks, line, noise, samples, slow
from scipy import signal

from rendering.blocks import (
    Sound,
    add,
    answered,
    between,
    fading,
    high_pass,
    low_pass,
    modes,
    overdriven,
    resonances,
    tone,
)


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


# ------------------------------------------------------------------------------------------------ weather and water


def rain(rng: Rng, seconds: float) -> Sound:
    """A hiss of distant drops, and near ones on something hard or soft."""
    hiss = tilted(rng, seconds, between(rng, 80, 1500), between(rng, 5000, 14000), rng.uniform(-6, 24))
    near = at_random(rng, seconds, between(rng, 20, 1500), between(rng, 5e-4, 6e-3), between(rng, 500, 6000), 0.9)
    if rng.random() < 0.4:  # on a roof or a window
        near = answered(near, resonances(rng, between(rng, 80, 400), 4000, 25, 0.5))
        near /= near.std() + 1e-9
    return hiss * (1 + 0.08 * slow(rng, seconds, 1)) + between(rng, 0.05, 1.5) * near


def waves(rng: Rng, seconds: float) -> Sound:
    """Surf: each wave swells, breaks brightly and runs out, over a steady roar."""
    x = between(rng, 0.1, 0.7) * tilted(rng, seconds, 60, between(rng, 1500, 6000), rng.uniform(12, 30))
    period = between(rng, 2.5, 8.0)
    start = -rng.uniform(0, period)
    while start < seconds:
        length = period * rng.uniform(0.8, 1.6)
        top = rng.uniform(0.25, 0.6) * length
        swell = line(length, [(0, 0), (0.6 * top, 0.25), (top, 1.0), (0.6 * length + 0.4 * top, 0.45), (length, 0)])
        dark = tilted(rng, length, 60, between(rng, 500, 1500), 12)
        bright = tilted(rng, length, 400, between(rng, 5000, 12000), rng.uniform(3, 15))
        broken = rng.uniform(0.5, 1.2) * (swell * dark + between(rng, 0.3, 1.2) * swell**2 * bright)
        add(x, broken[samples(max(-start, 0.0)) :], max(start, 0.0))
        start += period * rng.uniform(0.7, 1.3)
    return x


def stream(rng: Rng, seconds: float) -> Sound:
    """Running water: bubbles, each a short tone that rises a little, over a hiss."""
    x = between(rng, 0.05, 1.0) * tilted(rng, seconds, 200, between(rng, 3000, 10000), rng.uniform(6, 20))
    middle_hz, decay_s = between(rng, 400, 1600), between(rng, 0.004, 0.02)
    for at_s in np.sort(rng.uniform(0, seconds, rng.poisson(seconds * between(rng, 20, 250)))):
        length = 5 * decay_s
        hz = middle_hz * rng.lognormal(0, 0.5) * line(length, [(0, 1), (length, rng.uniform(1.0, 1.5))])
        drop = np.sin(2 * np.pi * turning(hz)) * np.exp(-np.arange(samples(length)) / (decay_s * RATE_HZ))
        add(x, rng.lognormal(-0.5, 0.7) * drop, at_s)
    return x


def wind(rng: Rng, seconds: float) -> Sound:
    """Gusts: a dark noise, and a whistle whose pitch follows the gust."""
    gust = np.clip(1 + 0.5 * slow(rng, seconds, between(rng, 0.3, 1.5)), 0.1, None)
    x = gust * tilted(rng, seconds, between(rng, 30, 150), between(rng, 400, 3000), rng.uniform(10, 30))
    whistle = slow(rng, seconds, between(rng, 20, 80)) * np.sin(2 * np.pi * turning(between(rng, 250, 900) * gust**0.4))
    return x + between(rng, 0.01, 0.6) * gust**2 * whistle


def fire(rng: Rng, seconds: float) -> Sound:
    """The roar of the flames, a hiss, and snaps, a few of them loud."""
    roar = tilted(rng, seconds, 30, between(rng, 150, 800), rng.uniform(6, 25))
    hiss = tilted(rng, seconds, between(rng, 300, 2000), between(rng, 5000, 12000), rng.uniform(-6, 10))
    small = at_random(rng, seconds, between(rng, 10, 150), between(rng, 2e-4, 2e-3), between(rng, 1500, 6000), 1.1)
    loud = at_random(rng, seconds, between(rng, 1, 8), between(rng, 1e-3, 8e-3), between(rng, 500, 3000), 0.8)
    x = between(rng, 0.05, 1.0) * roar * (1 + 0.25 * slow(rng, seconds, 4)) + between(rng, 0.02, 0.3) * hiss
    return x + between(rng, 0.3, 1.2) * small + rng.choice([0, 1]) * between(rng, 0.2, 1.0) * loud


# --------------------------------------------------------------------------------------------------------- engines


def firing(rng: Rng, hz: np.ndarray, cut_hz: float, roughness: float) -> Sound:
    """Explosions in a pipe, `hz` times a second, (samples,): a tone and noise in each of its periods."""
    seconds = len(hz) / RATE_HZ
    hz = hz * (1 + 0.01 * roughness * slow(rng, seconds, 25))
    k = np.arange(1.0, max(int(8000 / hz.min()), 2) + 1)
    gains = rng.lognormal(0, 0.6, len(k)) * k**-0.3 * np.exp(-k * hz.mean() / cut_hz)
    x = tone(hz, gains, gains, np.ones(len(hz)), rng.uniform(0, 2 * np.pi, len(k)))
    pulse = np.exp(-5 * (turning(hz) % 1.0))
    breath = pulse * tilted(rng, seconds, 100, min(4 * cut_hz, 12000), 10)
    x = x / (x.std() + 1e-9) + roughness * breath / breath.std()
    return x * (1 + 0.1 * roughness * slow(rng, seconds, 10))


def engine(rng: Rng, seconds: float) -> Sound:
    """A motor that idles or is revved, through its exhaust and case."""
    revs = course(rng, seconds, rng.integers(2, 6), 1.0, 1.0 + rng.choice([0.1, 1.0]) * rng.random())
    x = firing(rng, between(rng, 12, 70) * revs, between(rng, 200, 1500), between(rng, 0.2, 1.2))
    return answered(x, resonances(rng, 50, 2500, 30, between(rng, 0.3, 1.5))) * revs


def chainsaw(rng: Rng, seconds: float) -> Sound:
    """A small two-stroke motor, harsh, that is revved again and again, and a chain that cuts."""
    revs = course(rng, seconds, rng.integers(2, 9), 1.0, between(rng, 1.1, 2.2))
    x = firing(rng, between(rng, 55, 130) * revs, between(rng, 1000, 5000), between(rng, 0.5, 1.5))
    x = overdriven(answered(x, resonances(rng, 200, 5000, 30, 0.8)), between(rng, 1, 5), rng.uniform(0, 0.5))
    chain = tilted(rng, seconds, 800, between(rng, 5000, 12000), rng.uniform(0, 12))
    return x / x.std() * revs**2 + between(rng, 0.05, 0.8) * revs**3 * chain


def helicopter(rng: Rng, seconds: float) -> Sound:
    """Blades that beat the air, steadily or as it passes, and a turbine's roar and whine."""
    hz = between(rng, 9, 28) * (1 + 0.004 * slow(rng, seconds, 1))
    turns = turning(hz, rng.random())
    sharp = between(rng, 0.5, 8)
    beat = np.exp(sharp * (np.cos(2 * np.pi * turns) - 1))
    k = np.arange(1.0, 60)
    gains = rng.lognormal(0, 0.4, len(k)) * np.exp(-k * hz.mean() / between(rng, 60, 500))
    thump = tone(hz, gains, gains, np.ones(len(hz)), rng.normal(0, 0.5, len(k)))
    chop = (rng.uniform(0, 0.5) + beat) * tilted(rng, seconds, between(rng, 50, 300), between(rng, 1500, 9000), 20)
    roar = tilted(rng, seconds, 60, between(rng, 600, 6000), rng.uniform(8, 25))
    whine = np.sin(2 * np.pi * turning(between(rng, 300, 3000) * (1 + 0.003 * slow(rng, seconds, 1))))
    x = between(rng, 0.2, 1.5) * thump / thump.std() + between(rng, 0.2, 1.5) * chop / chop.std()
    x += between(rng, 0.1, 1.0) * roar + rng.choice([0, 1]) * between(rng, 0.02, 0.3) * whine
    return low_pass(x, between(rng, 700, 14000)) * course(rng, seconds, 3, 0.4, 1.0)


def airplane(rng: Rng, seconds: float) -> Sound:
    """A propeller's drone or a jet's roar that passes, with its reflection from the ground."""
    nearness = line(seconds, [(0, rng.uniform(0.3, 1)), (rng.uniform(0.2, 0.8) * seconds, 1), (seconds, rng.random())])
    roar = tilted(rng, seconds, 50, between(rng, 500, 5000), rng.uniform(6, 25))
    if rng.random() < 0.6:
        drift = line(seconds, [(0, 1.0), (seconds, rng.uniform(0.85, 1.0))])
        drone = firing(rng, between(rng, 45, 140) * drift, between(rng, 300, 1500), between(rng, 0.1, 0.5))
        beating = firing(rng, between(rng, 45, 140) * drift, between(rng, 300, 1500), 0.2) * rng.choice([0.0, 0.7])
        x = drone + beating + between(rng, 0.1, 1.0) * roar
    else:
        whine = np.sin(2 * np.pi * turning(between(rng, 700, 4000) * line(seconds, [(0, 1.05), (seconds, 0.95)])))
        x = roar + between(rng, 0.01, 0.2) * whine
    late = np.arange(len(x)) - between(rng, 5e-4, 4e-3) * RATE_HZ * line(
        seconds, [(0, 1), (seconds, between(rng, 0.3, 3))]
    )
    return (x + rng.uniform(0.2, 0.8) * np.interp(late, np.arange(len(x)), x)) * nearness


def boat(rng: Rng, seconds: float) -> Sound:
    """A boat's motor, and the water that it stirs."""
    motor = low_pass(engine(rng, seconds), between(rng, 300, 3000))
    wash = tilted(rng, seconds, 100, between(rng, 1500, 8000), rng.uniform(6, 20)) * (1 + 0.3 * slow(rng, seconds, 4))
    return motor / motor.std() + between(rng, 0.1, 1.0) * wash + between(rng, 0.02, 0.2) * stream(rng, seconds)


# --------------------------------------------------------------------------------------------------------- animals


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


# ---------------------------------------------------------------------------------------------------------- things


def clock(rng: Rng, seconds: float) -> Sound:
    """Two knocks in turn, tick and tock, each with a smaller one of the gears around it, in a case."""
    case = resonances(rng, between(rng, 150, 800), 9000, 30, between(rng, 0.5, 2))
    period = rng.choice([1.0, 0.5, 0.2, between(rng, 0.2, 1.0)])
    x = np.zeros(samples(seconds))

    def knock() -> Sound:
        hz = np.exp(rng.uniform(np.log(between(rng, 700, 4000)), np.log(11000), rng.integers(3, 14)))
        decay_s = between(rng, 5e-4, 0.012) * rng.lognormal(0, 0.4, len(hz))
        return modes(0.06, hz, decay_s, rng.lognormal(0, 0.6, len(hz)), rng.uniform(0, 2 * np.pi, len(hz)))

    pair = [knock(), knock() if rng.random() < 0.7 else None]
    lag, small, late = rng.uniform(0, 0.15) * period, between(rng, 0.05, 0.7), rng.uniform(0.01, 0.2) * period
    ticks = np.arange(rng.uniform(0, period), seconds - 0.1, period)
    for number, at_s in enumerate(ticks):
        sound = pair[number % 2 if pair[1] is not None else 0]
        at_s += lag * (number % 2) + rng.normal(0, 0.001)
        add(x, sound * rng.lognormal(0, 0.1), max(at_s, 0.0))
        add(x, small * pair[0] * rng.lognormal(0, 0.2), max(at_s + late, 0.0))
    return high_pass(answered(x, case), 80)


def singing(rng: Rng, seconds: float) -> Sound:
    """A voice that sings a line of vowels, with vibrato; now and then several in unison."""
    x = np.zeros(samples(seconds))
    is_high = rng.random() < 0.5
    size = rng.uniform(1.05, 1.25) if is_high else rng.uniform(0.9, 1.05)
    vowels = np.array([[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]])
    tonic = between(rng, 200, 450) if is_high else between(rng, 100, 220)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12])
    at_s, degree = rng.uniform(0, 0.5), rng.integers(8)
    lines = []
    while at_s < seconds:
        length = between(rng, 0.25, 2.0)
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, 7))
        lines.append((at_s, length, tonic * 2 ** (scale[degree] / 12), vowels[rng.integers(5)] * size))
        at_s += length * rng.choice([1.0, 1.0, 1.3])
    slope, breath, open_hz = rng.uniform(0.9, 1.6), between(rng, 0.01, 0.15), between(rng, 60, 130)
    for _ in range(rng.choice([1, 1, 1, 4])):
        vibrato_hz, depth, apart = rng.uniform(4.5, 6.8), rng.uniform(5, 70), rng.normal(0, 12)
        for at_s, length, hz, peaks in lines:
            length += 0.08
            t = np.arange(samples(length)) / RATE_HZ
            cents = (
                apart + depth * np.clip(t / 0.4, 0, 1) * np.sin(2 * np.pi * vibrato_hz * t) + 8 * slow(rng, length, 3)
            )
            cents += line(length, [(0, rng.normal(0, 150)), (0.08, 0), (length, 0)])
            k = np.arange(1.0, int(9000 / hz) + 1)
            source = k**-slope
            throat = sum(
                weight / (1 + ((k * hz - peak) / width) ** 2)
                for peak, width, weight in zip(
                    [*peaks, 3200 * size], [open_hz, 1.3 * open_hz, 2 * open_hz, 300], [1, 0.6, 0.3, 0.25], strict=True
                )
            )
            gains = source * (throat + 0.01)
            voice = tone(hz * 2 ** (cents / 1200), gains, gains, np.ones(len(t)), np.zeros(len(k)))
            voice /= voice.std() + 1e-9
            air = breath * tilted(rng, length, 800, 8000, 6)
            add(x, (voice + air) * fading(length, between(rng, 0.03, 0.15), 0.1) * rng.uniform(0.5, 1), at_s)
    return x
