"""Weather, water and fire: noises that swell, drip and snap.

Each recipe takes a generator and seconds, draws a source anew, and returns its sound.
"""

import numpy as np
from make_yard import RATE_HZ, Rng, line, samples, slow

from rendering.blocks import Sound, add, answered, at_random, between, resonances, tilted, turning


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
