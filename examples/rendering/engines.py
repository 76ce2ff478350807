"""What runs: engines, blades and clockwork.

Each recipe takes a generator and seconds, draws a source anew, and returns its sound.
"""

import numpy as np
from make_yard import RATE_HZ, Rng, line, samples, slow

from rendering.blocks import (
    Sound,
    add,
    answered,
    between,
    course,
    high_pass,
    low_pass,
    modes,
    overdriven,
    resonances,
    tilted,
    tone,
    turning,
)
from rendering.weather import stream


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
        second = firing(rng, between(rng, 45, 140) * drift, between(rng, 300, 1500), 0.2) * rng.choice([0.0, 0.7])
        x = drone + second + between(rng, 0.1, 1.0) * roar
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


def clock(rng: Rng, seconds: float) -> Sound:
    """Two knocks in turn, tick and tock, each with a smaller one of the gears after it, in a case."""
    case = resonances(rng, between(rng, 150, 800), 9000, 30, between(rng, 0.5, 2))
    period = rng.choice([1.0, 0.5, 0.2, between(rng, 0.2, 1.0)])
    x = np.zeros(samples(seconds))

    def knock() -> Sound:
        hz = np.exp(rng.uniform(np.log(between(rng, 700, 4000)), np.log(11000), rng.integers(3, 14)))
        decay_s = between(rng, 5e-4, 0.012) * rng.lognormal(0, 0.4, len(hz))
        return modes(0.06, hz, decay_s, rng.lognormal(0, 0.6, len(hz)), rng.uniform(0, 2 * np.pi, len(hz)))

    pair = [knock()]
    if rng.random() < 0.7:  # tick and tock differ
        pair.append(knock())
    lag, small, late = rng.uniform(0, 0.15) * period, between(rng, 0.05, 0.7), rng.uniform(0.01, 0.2) * period
    ticks = np.arange(rng.uniform(0, period), seconds - 0.1, period)
    for number, at_s in enumerate(ticks):
        sound = pair[number % len(pair)]
        at_s += lag * (number % 2) + rng.normal(0, 0.001)
        add(x, sound * rng.lognormal(0, 0.1), max(at_s, 0.0))
        add(x, small * pair[0] * rng.lognormal(0, 0.2), max(at_s + late, 0.0))
    return high_pass(answered(x, case), 80)
