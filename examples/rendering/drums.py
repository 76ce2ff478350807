"""Drums and cymbals: skins whose pitch falls, noise of snares, and metal with hundreds of modes."""

from collections.abc import Callable

import numpy as np
from make_yard import RATE_HZ, Rng, samples

from rendering import music
from rendering.blocks import Sound, add, between, burst, fading, high_pass, low_pass, modes

Stroke = Callable[[Rng, float], Sound]  # of a loudness, 0 to 1


def skin(hz: float, sweep: float, sweep_s: float, decay_s: float) -> Sound:
    """A sine whose pitch falls from (1 + sweep)·hz to hz as its amplitude falls by a factor e in `decay_s`."""
    t = np.arange(samples(7 * decay_s)) / RATE_HZ
    pitch = hz * (1 + sweep * np.exp(-t / sweep_s))
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE_HZ) * np.exp(-t / decay_s) * np.minimum(1, t / 0.001)


def bass_drum(rng: Rng) -> Stroke:
    """From a dull orchestral drum to a short kick with a click."""
    hz, sweep, sweep_s = between(rng, 38, 80), between(rng, 0.4, 4.0), between(rng, 0.008, 0.04)
    decay_s, click, click_hz = between(rng, 0.05, 0.3), between(rng, 0.03, 0.5), between(rng, 800, 5000)
    rumble = between(rng, 0.03, 0.25)

    def stroke(rng: Rng, loud: float) -> Sound:
        x = skin(hz * rng.normal(1, 0.01), sweep * (0.4 + 0.6 * loud), sweep_s, decay_s)
        add(x, rumble * burst(rng, 0.4 * decay_s, [(30, -6), (120, 0), (400, -12), (2000, -36)]))
        return loud * add(x, click * loud * low_pass(burst(rng, 0.005, [(300, 0), (12000, -4)]), click_hz, 2))

    return stroke


def tom(rng: Rng, hz: float) -> Stroke:
    """A tom: a skin, its upper modes, and the stick."""
    decay_s, sweep = between(rng, 0.1, 0.4), rng.uniform(0.1, 0.5)
    stick = between(rng, 0.05, 0.3)

    def stroke(rng: Rng, loud: float) -> Sound:
        x = skin(hz, sweep * loud, 0.05, decay_s)
        for ratio, gain in ((1.59, 0.4), (2.14, 0.25), (2.65, 0.12)):
            add(x, gain * skin(hz * ratio, sweep * loud, 0.04, 0.4 * decay_s))
        return loud * add(x, stick * burst(rng, 0.008, [(200, 0), (3000, -3), (14000, -15)]))

    return stroke


def snare_drum(rng: Rng) -> Stroke:
    """Two skins and the rattling wires below them."""
    hz, decay_s = between(rng, 150, 300), between(rng, 0.03, 0.12)
    wires, wires_s = between(rng, 0.25, 1.2), between(rng, 0.04, 0.16)
    low_hz, dark = between(rng, 500, 2000), rng.uniform(-16, -2)

    def stroke(rng: Rng, loud: float) -> Sound:
        rattle = burst(rng, wires_s * (0.6 + 0.4 * loud), [(150, -18), (low_hz, 0), (7000, 0.3 * dark), (15000, dark)])
        x = np.append(rattle * wires, np.zeros(samples(0.5)))
        for ratio, gain in ((1.0, 1.0), (1.6, 0.6), (2.3, 0.3), (3.6, 0.15)):
            add(x, gain * skin(hz * ratio * rng.normal(1, 0.005), 0.25 * loud, 0.02, decay_s / ratio**0.5))
        return loud * add(x, 0.5 * burst(rng, 0.0025, [(200, -6), (2500, 0), (14000, -4)]))

    return stroke


def metal(rng: Rng, low_hz: float, decay_s: float, noisy: float, count: int = 400) -> Stroke:
    """A plate of metal with dense modes: a cymbal. The higher ones die sooner."""
    hz = np.sort(low_hz * (14500 / low_hz) ** (rng.random(count) ** 0.7))
    gain = rng.lognormal(0.0, 0.7, count) * np.minimum(1.0, (hz / 3000) ** 0.7)
    fall_s = decay_s * rng.lognormal(0, 0.4, count) * (hz / 4000) ** -0.5
    dark_db = rng.uniform(-14, 0)
    seconds = min(6 * decay_s, 4.0)
    rings = [modes(seconds, hz, fall_s, gain, rng.uniform(0, 2 * np.pi, count)) for _ in range(3)]
    end = fading(seconds, 0.0, 0.5 * seconds)

    def stroke(rng: Rng, loud: float) -> Sound:
        x = end * rings[rng.integers(len(rings))]
        x /= np.sqrt(np.mean(x[: samples(0.02)] ** 2))
        add(x, noisy * burst(rng, 0.6 * decay_s, [(low_hz, -20), (5000, 0), (15000, dark_db)]))
        add(x, 0.7 * loud * burst(rng, 0.003, [(500, -6), (4000, 0), (15000, 0)]))
        return 0.4 * loud * high_pass(low_pass(x, 4000 + 11000 * loud), 0.7 * low_hz, 2)

    return stroke


def hi_hat(rng: Rng) -> Stroke:
    """Two small cymbals: most strokes closed, some open."""
    low_hz, noisy = between(rng, 500, 3500), between(rng, 0.3, 2.0)
    closed = metal(rng, low_hz, between(rng, 0.015, 0.06), noisy)
    opened = metal(rng, low_hz, between(rng, 0.12, 0.5), noisy)
    often = rng.choice([0.0, 0.15, 0.5])

    def stroke(rng: Rng, loud: float) -> Sound:
        return (opened if rng.random() < often else closed)(rng, loud)

    return stroke


def cymbal(rng: Rng) -> Stroke:
    """A crash or ride cymbal."""
    return metal(rng, between(rng, 250, 700), between(rng, 0.4, 1.4), between(rng, 0.2, 1.0))


def drum_kit(rng: Rng) -> dict[str, tuple[Stroke, ...]]:
    """The strokes of each part; toms are three."""
    high_hz = between(rng, 140, 240)
    return {
        "bass": (bass_drum(rng),),
        "snare": (snare_drum(rng),),
        "hat": (hi_hat(rng),),
        "cymbal": (cymbal(rng),),
        "tom": tuple(tom(rng, high_hz * ratio) for ratio in (1.0, 0.75, 0.53)),
    }


def played(rng: Rng, parts: dict[str, tuple[Stroke, ...]], seconds: float) -> Sound:
    """A rhythm on these parts: (seconds·32000,)."""
    gains = {part: between(rng, 0.5, 1.4) * (0.5 if part in ("hat", "cymbal") else 1.0) for part in parts}
    x = np.zeros(samples(seconds))
    for part, start_s, loud in music.beats(rng, tuple(parts), seconds):
        stroke = parts[part][rng.integers(len(parts[part]))]
        add(x, gains[part] * stroke(rng, loud), start_s)
    return x
