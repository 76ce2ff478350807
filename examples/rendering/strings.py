"""Struck and plucked strings, and bars: sums of modes, each with a pitch and a decay of its own."""

from functools import partial

import numpy as np
from make_yard import RATE_HZ, Rng, samples

from rendering.blocks import (
    HIGHEST_HZ,
    Instrument,
    Sound,
    add,
    answered,
    as_is,
    bent,
    between,
    burst,
    damped,
    high_pass,
    low_pass,
    modes,
    overdriven,
    resonances,
)

TAIL_S = 0.4  # how long a damped string is still heard
MOST_PARTIALS = 110


def partials(hz: float, stiffness: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and pitches of the partials of a stiff string, each (partials,); the first has the pitch asked for."""
    k = np.arange(1.0, min(MOST_PARTIALS, int(HIGHEST_HZ / hz)) + 1)
    return k, hz * k * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))


def piano(rng: Rng) -> Instrument:
    """A grand or an upright: hammers that are harder the faster they are, pairs of strings that beat."""
    stiffness = between(rng, 1.2e-4, 6e-4)
    hammer_hz, strike = between(rng, 500, 2200), rng.uniform(0.09, 0.15)
    ringing, damping_hz = between(rng, 0.6, 1.6), between(rng, 900, 4000)
    detuned_cents = 9.0 if rng.random() < 0.12 else between(rng, 0.3, 2.0)
    thump, board = between(rng, 0.02, 0.3), resonances(rng, 60, 3500, 90, between(rng, 0.6, 2.0))

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        up = np.log2(hz / 261.6)
        k, pitch = partials(hz, stiffness * 2.6**up)
        cut_hz = hammer_hz * 1.5**up * (0.5 + 2.2 * loud**1.5)
        gain = np.abs(np.sin(k * np.pi * strike)) * k**-0.4 * np.exp(-pitch / cut_hz) * rng.lognormal(0, 0.25, len(k))
        decay_s = 1.6 * ringing * 1.7**-up / (1 + pitch / damping_hz) * rng.lognormal(0, 0.25, len(k))
        apart = 2 ** (rng.normal(0, detuned_cents, len(k) * 2) / 1200 / 2)  # two strings, the second dies away slowly
        x = modes(
            min(seconds + TAIL_S, 5.0),
            np.tile(pitch, 2) * apart,
            np.append(decay_s, 3.5 * decay_s),
            np.append(gain, 0.25 * gain),
            rng.uniform(-0.6, 0.6, 2 * len(k)),
        )
        x = damped(x, seconds, 0.06 if hz < 1400 else 1.0)  # the highest strings have no dampers
        x *= loud**1.2 / (np.abs(x).max() + 1e-9)
        knock = burst(rng, 0.012, [(60, 0), (250, 0), (2500, -24), (12000, -50)])
        return add(x, thump * loud * knock)

    styles = ("melody", "chords", "arpeggio", "accompanied", "accompanied", "held")
    return Instrument(note, 33, 96, styles, partial(answered, reply=board), (0.4, 1.3))


def electric_piano(rng: Rng) -> Instrument:
    """A tine or a reed before a pickup, which makes more harmonics of louder notes; often with tremolo."""
    bell, bark = between(rng, 0.05, 0.5), between(rng, 0.3, 2.5)
    bell_ratio, ringing = rng.uniform(5.5, 9.5), between(rng, 0.5, 1.5)
    depth, rate_hz, cut_hz = rng.choice([0.0, rng.uniform(0.15, 0.6)]), rng.uniform(3, 7), between(rng, 2000, 7000)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        ratios = np.array([1.0, 2.0, bell_ratio, bell_ratio * 1.94])
        decay_s = np.array([1.4, 0.7, 0.12, 0.06]) * ringing * (hz / 300) ** -0.4
        gain = np.array([1.0, 0.08, bell * loud, 0.4 * bell * loud])
        x = damped(modes(min(seconds + TAIL_S, 5.0), hz * ratios, decay_s, gain), seconds, 0.05)
        x = np.exp(bark * loud * x) - 1.0
        return add(loud * x / np.abs(x).max(), 0.05 * loud * burst(rng, 0.004, [(100, 0), (2000, 0), (9000, -20)]))

    def finish(x: Sound) -> Sound:
        wave = 1 + depth * np.sin(2 * np.pi * rate_hz * np.arange(len(x)) / RATE_HZ)
        return high_pass(low_pass(x * wave, cut_hz, 2), 30)

    return Instrument(note, 36, 88, ("melody", "chords", "chords", "arpeggio", "accompanied"), finish, (0.5, 1.1))


def plucked(
    rng: Rng, hz: float, seconds: float, loud: float, pluck: float, cut_hz: float, decay_s: float, damping_hz: float
) -> Sound:
    """A plucked string, at its bridge.

    Args:
      rng: generator.
      hz: pitch.
      seconds: until it is damped.
      loud: 0 to 1; also makes it brighter.
      pluck: where it is plucked, as a share of its length.
      cut_hz: partials above it are weak.
      decay_s: of the lowest partials.
      damping_hz: partials above it die away sooner.
    """
    k, pitch = partials(hz, 4e-5)
    gain = np.sin(k * np.pi * pluck * rng.uniform(0.85, 1.15)) * k**-0.7 * np.exp(-pitch / (cut_hz * (0.4 + loud)))
    fall_s = decay_s / (1 + pitch / damping_hz) * rng.lognormal(0, 0.2, len(k))
    both = np.append(pitch, pitch * 2 ** (rng.normal(0, 0.8, len(k)) / 1200))  # it swings in two planes
    x = modes(min(seconds + TAIL_S, 5.0), both, np.append(fall_s, 2.2 * fall_s), np.append(gain, 0.4 * gain))
    return loud * damped(x, seconds, 0.03) / (np.abs(x).max() + 1e-9)


def acoustic_guitar(rng: Rng) -> Instrument:
    """Steel or nylon strings on a wooden box, with a pick or fingers."""
    is_steel = rng.random() < 0.6
    pluck, cut_hz = rng.uniform(0.08, 0.35), between(rng, 3500, 14000) if is_steel else between(rng, 1200, 4500)
    decay_s, damping_hz = between(rng, 0.35, 1.2), between(rng, 2000, 9000) if is_steel else between(rng, 900, 3000)
    pick = between(rng, 0.01, 0.2)
    air, wood = between(rng, 85, 125), resonances(rng, 150, 6000, 120, between(rng, 0.3, 1.2))
    wood = add(wood, between(rng, 0.01, 0.04) * modes(0.1, np.array([air, 2 * air]), np.full(2, 0.03), np.ones(2)))

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        x = plucked(rng, hz, seconds, loud, pluck, cut_hz, decay_s * (hz / 200) ** -0.4, damping_hz)
        scrape = burst(rng, 0.003, [(200, -12), (2500, 0), (7000, -4), (14000, -16)])
        return add(x, pick * loud * scrape)

    styles = ("melody", "chords", "chords", "arpeggio", "arpeggio", "held")
    return Instrument(note, 40, 79, styles, partial(answered, reply=wood), (0.6, 1.5))


def electric_guitar(rng: Rng) -> Instrument:
    """Strings, a pickup, an amplifier from clean to heavily overdriven, and its loudspeaker."""
    pluck, pickup = rng.uniform(0.06, 0.25), rng.uniform(0.06, 0.28)
    decay_s, cut_hz = between(rng, 0.5, 2.5), between(rng, 3000, 12000)
    pickup_hz, speaker_hz = between(rng, 2800, 7500), between(rng, 3800, 9000)
    gain = between(rng, 0.4, 40.0)
    bias, hill = rng.uniform(0, 0.4), resonances(rng, 120, 4500, 30, 1.2, quality=3.0)
    muted, vibrato = rng.random() < 0.2, rng.uniform(0, 35)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        ringing = (0.09 if muted else decay_s) * (hz / 200) ** -0.3
        x = plucked(rng, hz, seconds, loud, pluck, cut_hz, ringing, 4000)
        shift = samples(pickup / hz)  # the wave passes the pickup twice, turned around at the bridge
        x = x - 0.9 * np.append(np.zeros(shift), x[:-shift])
        t = np.arange(len(x)) / RATE_HZ
        swell = np.clip((t - 0.25) / 0.3, 0, 1)
        x = bent(x, swell * vibrato * np.sin(2 * np.pi * rng.uniform(4.5, 6) * t) - 60 * rng.random() ** 4 * (t < 0.07))
        return add(x, 0.04 * loud * burst(rng, 0.003, [(200, -10), (2000, 0), (9000, -12)]))

    def finish(x: Sound) -> Sound:
        x = overdriven(high_pass(low_pass(x, pickup_hz, 2), 90), gain, bias)
        return high_pass(low_pass(answered(x, hill), speaker_hz, 4), 70, 2)

    styles = ("fifths", "riff", "melody", "chords") if gain > 6 else ("melody", "chords", "arpeggio", "riff")
    return Instrument(note, 40, 84 if gain > 3 else 79, styles, finish, (0.5, 1.2))


def bass_guitar(rng: Rng) -> Instrument:
    """Played with fingers, a pick or a slapping thumb, straight into the desk or through an amplifier."""
    cut_hz, pluck = between(rng, 500, 5000), rng.uniform(0.06, 0.3)
    decay_s, click = between(rng, 0.4, 2.0), between(rng, 0.005, 0.12)
    gain, bias, tone_hz = between(rng, 0.3, 4.0), rng.uniform(0, 0.2), between(rng, 900, 6000)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        x = plucked(rng, hz, seconds, loud, pluck, cut_hz, decay_s, 1000)
        return add(x, click * loud * burst(rng, 0.004, [(150, 0), (1500, 0), (5000, -18), (12000, -40)]))

    def finish(x: Sound) -> Sound:
        return high_pass(low_pass(overdriven(x, gain, bias), tone_hz, 2), 28)

    return Instrument(note, 28, 60, ("riff", "riff", "riff", "melody", "held"), finish, (0.4, 1.0))


def mallets(rng: Rng, ratios: tuple[float, ...], decay_s: float, low: int, high: int, has_motor: bool) -> Instrument:
    """Bars with tuned modes, struck with soft or hard mallets; a vibraphone's motor makes them waver."""
    tuned = np.array(ratios) * rng.normal(1, 0.004, len(ratios))
    tuned[0] = 1.0
    cut_hz, knock = between(rng, 1200, 9000), between(rng, 0.03, 0.4)
    ringing, fall = decay_s * between(rng, 0.6, 1.6), rng.uniform(0.6, 1.2)
    depth, rate_hz = (rng.choice([0.0, rng.uniform(0.2, 0.6)]) if has_motor else 0.0), rng.uniform(3, 7.5)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        pitch = hz * tuned
        gain = np.exp(-pitch / (cut_hz * (0.4 + loud))) * rng.lognormal(0, 0.3, len(tuned))
        gain[0] = 1.0
        fall_s = ringing * (hz / 440) ** -0.7 * tuned**-fall
        x = modes(min(8 * fall_s[0] + 0.05, 4.0), pitch, fall_s, gain)
        x = damped(x, seconds + 0.3, 0.1) if has_motor else x
        return add(loud * x / np.abs(x).max(), knock * loud * burst(rng, 0.005, [(150, 0), (900, 0), (6000, -24)]))

    def finish(x: Sound) -> Sound:
        return x * (1 + depth * np.sin(2 * np.pi * rate_hz * np.arange(len(x)) / RATE_HZ))

    styles = ("melody", "melody", "arpeggio", "chords", "held")
    return Instrument(note, low, high, styles, finish if has_motor else as_is, (0.6, 1.2))


def marimba(rng: Rng) -> Instrument:
    """A marimba, whose second mode is two octaves up, or a xylophone, where it is a twelfth."""
    if rng.random() < 0.6:
        return mallets(rng, (1.0, 3.94, 9.9, 17.8), 0.28, 48, 91, has_motor=False)
    return mallets(rng, (1.0, 3.0, 6.1, 10.4), 0.16, 65, 103, has_motor=False)


def vibraphone(rng: Rng) -> Instrument:
    """Metal bars."""
    return mallets(rng, (1.0, 4.0, 10.3, 19.1), 1.6, 53, 89, has_motor=True)
