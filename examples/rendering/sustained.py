"""What sounds for as long as it is bowed, blown or held: periodic tones whose spectrum follows their loudness."""

from functools import partial
from typing import NamedTuple

import numpy as np
from make_yard import RATE_HZ, Rng, band, line, noise, samples, slow

from rendering.blocks import (
    HIGHEST_HZ,
    Instrument,
    Sound,
    add,
    answered,
    as_is,
    between,
    burst,
    fading,
    high_pass,
    low_pass,
    overdriven,
    resonances,
    tone,
)
from rendering.strings import plucked

RELEASE_S = 0.12


def wavering(rng: Rng, hz: float, seconds: float, vibrato_cents: float, rate_hz: float, delay_s: float) -> np.ndarray:
    """A pitch that a person plays: vibrato that sets in after `delay_s`, drift, and never two cycles alike."""
    t = np.arange(samples(seconds)) / RATE_HZ
    depth = vibrato_cents * np.clip((t - delay_s) / 0.25, 0.0, 1.0) * (1 + 0.2 * slow(rng, seconds, 2))
    turn = 2 * np.pi * np.cumsum(rate_hz * (1 + 0.06 * slow(rng, seconds, 3))) / RATE_HZ
    cents = depth * np.sin(turn + rng.uniform(0, 2 * np.pi)) + 3 * slow(rng, seconds, 2) + 2 * slow(rng, seconds, 60)
    return hz * 2 ** (cents / 1200)


def swelling(rng: Rng, seconds: float, attack_s: float, release_s: float, amount: float) -> np.ndarray:
    """Loudness of a note: rise, fall, and a random course of `amount` between them."""
    course = np.interp(np.linspace(0, 3, samples(seconds)), np.arange(4), 1 - amount * rng.random(4))
    return fading(seconds, attack_s, release_s) * course * (1 + 0.04 * slow(rng, seconds, 12))


def harmonics(hz: float) -> np.ndarray:
    """Numbers of the harmonics that are low enough: (harmonics,)."""
    return np.arange(1.0, max(int(HIGHEST_HZ / hz), 1) + 1)


# ---------------------------------------------------------------------------------------------------------- bowed


class Bow(NamedTuple):
    """How a player of a bowed instrument plays; see `bowed`."""

    soft_hz: float
    loud_hz: float
    rasp: float
    attack_s: float
    vibrato_cents: float
    vibrato_hz: float
    pressing: float


def draw_bow(rng: Rng, is_high: bool) -> Bow:
    """A player at random."""
    return Bow(
        soft_hz=between(rng, 1000, 3500),
        loud_hz=between(rng, 4000, 14000),
        rasp=between(rng, 0.008, 0.1),
        attack_s=between(rng, 0.03, 0.2),
        vibrato_cents=rng.uniform(0, 35) if is_high else rng.uniform(0, 28),
        vibrato_hz=rng.uniform(4.3, 6.6),
        pressing=rng.uniform(0.03, 0.15),
    )


def bowed(rng: Rng, hz: float, seconds: float, loud: float, bow: Bow) -> Sound:
    """A bowed string at its bridge: a sawtooth with dips by the place of the bow, and noise in each of its periods."""
    attack_s = min(bow.attack_s * rng.uniform(0.6, 1.5), 0.4 * seconds)
    seconds += RELEASE_S
    pitch = wavering(rng, hz, seconds, bow.vibrato_cents, bow.vibrato_hz, rng.uniform(0, 0.3))
    level = swelling(rng, seconds, attack_s, RELEASE_S * 1.5, rng.uniform(0.1, 0.6))
    k = harmonics(hz)
    saw = (0.35 + np.abs(np.sin(np.pi * k * bow.pressing))) / k
    soft, strong = (saw * np.exp(-k * hz / cut_hz) for cut_hz in (bow.soft_hz, bow.loud_hz))
    x = tone(pitch, soft, strong, loud * level, np.full(len(k), -np.pi / 2))
    x /= np.sqrt(np.mean(x**2)) + 1e-9
    slips = 1 - np.cumsum(pitch) / RATE_HZ % 1.0
    scratch = 1 + 4 * np.exp(-np.arange(len(x)) / (0.05 * RATE_HZ))  # the string does not yet swing
    rasp = noise(rng, seconds, [(200, -14), (1500, 0), (5000, -3), (14000, -14)]) * (0.3 + slips**2)
    return (0.2 + loud) * level * (x + bow.rasp * scratch * rasp)


def bowed_instrument(rng: Rng, low: int, high: int, body_hz: float, is_high: bool) -> Instrument:
    """One player and one wooden body, whose lowest mode is at `body_hz`; now and then plucked, or with tremolo."""
    bow, wood = draw_bow(rng, is_high), resonances(rng, body_hz, 6000, 90, between(rng, 0.3, 1.0))
    hill_hz = between(rng, 1800, 3200) * (1.0 if is_high else 0.7)
    way = rng.choice(["bow", "tremolo", "pluck"], p=[0.84, 0.06, 0.1])

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        if way == "pluck":
            return plucked(rng, hz, seconds, loud, 0.2, 1800, 0.18 * (hz / 300) ** -0.5, 1500)
        x = bowed(rng, hz, seconds, loud, bow)
        if way == "tremolo":
            strokes = np.abs(np.sin(np.pi * rng.uniform(9, 13) * np.arange(len(x)) / RATE_HZ))
            x *= 0.25 + strokes
        return x

    def finish(x: Sound) -> Sound:
        x = answered(x, wood)
        return high_pass(x + 0.8 * band(x, 0.75 * hill_hz, 1.3 * hill_hz), 0.6 * body_hz)

    styles = ("melody", "melody", "melody", "held", "riff")
    return Instrument(note, low, high, styles, finish, (0.6, 1.08))


def violin(rng: Rng) -> Instrument:
    """A violin, or now and then a viola."""
    if rng.random() < 0.8:
        return bowed_instrument(rng, 55, 93, between(rng, 250, 300), is_high=True)
    return bowed_instrument(rng, 48, 81, between(rng, 200, 240), is_high=True)


def cello(rng: Rng) -> Instrument:
    """A cello."""
    return bowed_instrument(rng, 36, 72, between(rng, 90, 125), is_high=False)


def string_section(rng: Rng) -> Instrument:
    """Five to nine players, none of whom is quite in tune or in time."""
    players = [draw_bow(rng, is_high=True) for _ in range(rng.integers(5, 10))]
    wood = resonances(rng, 130, 7000, 120, between(rng, 0.5, 1.2))
    apart_cents, apart_s = between(rng, 4, 14), between(rng, 0.01, 0.06)
    slowness = between(rng, 1.0, 2.5)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        x = np.zeros(samples(seconds + RELEASE_S + 4 * apart_s))
        for bow in players:
            own_hz = hz * 2 ** (rng.normal(0, apart_cents) / 1200)
            own = bow._replace(attack_s=slowness * bow.attack_s, rasp=0.4 * bow.rasp)
            add(x, bowed(rng, own_hz, seconds, loud, own), min(abs(rng.normal(0, apart_s)), 3 * apart_s))
        return x

    styles = ("chords", "chords", "held", "melody", "accompanied")
    return Instrument(note, 40, 86, styles, partial(answered, reply=wood), (0.9, 1.1))


# ---------------------------------------------------------------------------------------------------------- blown


class Blown(NamedTuple):
    """Between what an instrument of a family lies; pairs are from and to.

    Attributes:
      low, high: MIDI pitches.
      soft_hz, loud_hz: above which harmonics are weak, in soft and in loud notes.
      slope: the k-th harmonic has amplitude k^−slope below.
      even: amplitude of the even harmonics as against the odd ones.
      formant_hz: centre of a hill of the spectrum.
      hill: its height, as a factor.
      breath: noise as against the tone.
      attack_s: how long a note takes to speak.
      vibrato_cents: of the pitch.
      beating: vibrato of the loudness.
    """

    low: int
    high: int
    soft_hz: tuple[float, float]
    loud_hz: tuple[float, float]
    slope: tuple[float, float]
    even: tuple[float, float]
    formant_hz: tuple[float, float]
    hill: tuple[float, float]
    breath: tuple[float, float]
    attack_s: tuple[float, float]
    vibrato_cents: tuple[float, float]
    beating: tuple[float, float]


FLUTE = Blown(
    60, 93, (500, 1100), (1100, 3500), (0.6, 1.4), (0.6, 1.2), (700, 1500), (0.5, 1.5), (0.03, 0.3), (0.03, 0.12),
    (3, 22), (0.03, 0.3),
)  # fmt: skip
CLARINET = Blown(
    50, 89, (700, 1500), (2000, 5000), (0.2, 0.8), (0.05, 0.4), (1000, 2000), (0.3, 2.0), (0.005, 0.06), (0.02, 0.08),
    (0, 8), (0.0, 0.06),
)  # fmt: skip
SAXOPHONE = Blown(
    46, 82, (700, 1500), (2500, 7000), (0.3, 0.9), (0.8, 1.3), (500, 1500), (0.8, 3.0), (0.008, 0.15), (0.02, 0.08),
    (5, 35), (0.02, 0.12),
)  # fmt: skip
TRUMPET = Blown(
    54, 84, (500, 1100), (3000, 8000), (0.0, 0.4), (0.9, 1.1), (1000, 1700), (0.8, 2.5), (0.004, 0.04), (0.02, 0.07),
    (0, 22), (0.0, 0.06),
)  # fmt: skip


def blown(rng: Rng, family: Blown) -> Instrument:
    """An instrument of a family of wind instruments."""
    soft_hz, loud_hz, formant_hz = (between(rng, *ends) for ends in (family.soft_hz, family.loud_hz, family.formant_hz))
    slope, even, hill = (rng.uniform(*ends) for ends in (family.slope, family.even, family.hill))
    breath, attack_s = between(rng, *family.breath), between(rng, *family.attack_s)
    vibrato_cents, beating = rng.uniform(*family.vibrato_cents), rng.uniform(*family.beating)
    rate_hz, scoop_cents = rng.uniform(4.2, 6.4), rng.uniform(0, 70)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        seconds += 0.06
        k = harmonics(hz)
        base = k**-slope * np.where(k % 2, 1.0, even) * rng.lognormal(0, 0.2, len(k))
        base *= 1 + hill * np.exp(-(np.log2(k * hz / formant_hz) ** 2) / 0.4)
        soft, strong = (base * np.exp(-k * hz / (cut_hz + 0.5 * hz)) for cut_hz in (soft_hz, loud_hz))
        delay_s = rng.uniform(0, 0.4)
        pitch = wavering(rng, hz, seconds, vibrato_cents, rate_hz, delay_s)
        t = np.arange(len(pitch)) / RATE_HZ
        pitch *= 2 ** (-scoop_cents * rng.random() / 1200 * np.exp(-t / 0.03))  # it is found from below
        level = swelling(rng, seconds, min(attack_s * rng.uniform(0.7, 1.4), seconds / 3), 0.07, rng.uniform(0, 0.5))
        level *= 1 + beating * np.clip((t - delay_s) / 0.3, 0, 1) * np.sin(2 * np.pi * rate_hz * t)
        level *= 1 + 0.35 * loud * np.exp(-t / 0.06)  # the tongue
        x = tone(pitch, soft, strong, loud * level, rng.uniform(0, 2 * np.pi, len(k)))
        x /= np.sqrt(np.mean(x**2)) + 1e-9
        air = noise(rng, seconds, [(150, -20), (0.7 * hz, -6), (1.5 * hz, 0), (4000, -5), (14000, -18)])
        chiff = 1 + 2 * np.exp(-t / 0.03)
        return (0.15 + loud) * level * (x + breath * chiff * (1.3 - loud) * air)

    styles = ("melody", "melody", "melody", "held", "riff")
    return Instrument(note, family.low, family.high, styles, as_is, (0.4, 1.05))


# ----------------------------------------------------------------------------------------------------------- held


def organ(rng: Rng) -> Instrument:
    """Ranks of pipes that speak with a chiff, or tone wheels with key clicks and a turning loudspeaker."""
    is_electric = rng.random() < 0.45
    feet = np.array([1, 2, 3, 4, 5, 6, 8]) if is_electric else np.array([1, 2, 4, 3, 8])
    ranks = rng.random(len(feet)) ** 2 * (rng.random(len(feet)) < 0.65)
    ranks[0] = 1.0
    slope = 9.0 if is_electric else rng.uniform(1.0, 2.8)  # tone wheels have hardly any harmonics
    odd, attack_s = rng.uniform(0.1, 1.0), 0.004 if is_electric else between(rng, 0.02, 0.09)
    chiff = between(rng, 0.02, 0.2)
    rate_hz, depth = rng.choice([0.8, 6.7, rng.uniform(4, 6)]), rng.choice([0.0, rng.uniform(0.05, 0.3)])
    drive = between(rng, 0.3, 4.0)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        seconds += 2 * attack_s + 0.02
        t = np.arange(samples(seconds)) / RATE_HZ
        x = np.zeros(len(t))
        for foot, gain in zip(feet, ranks, strict=True):
            own_hz = hz * foot * 2 ** (rng.normal(0, 0.0 if is_electric else 1.5) / 1200)
            if gain and own_hz < HIGHEST_HZ / 2:
                k = harmonics(own_hz)
                spectrum = k**-slope * np.where(k % 2, 1.0, odd)
                pitch = own_hz * (1 + 0.003 * depth * np.sin(2 * np.pi * rate_hz * t))
                x += gain * tone(pitch, spectrum, spectrum, t, rng.uniform(0, 2 * np.pi, len(k)))
        start = burst(rng, 0.003 if is_electric else 0.03, [(100, -10), (2 * hz, 0), (6000, -6), (14000, -20)])
        return add(x * fading(seconds, attack_s, 2 * attack_s) / np.sqrt(np.sum(ranks**2)), chiff * start)

    def finish(x: Sound) -> Sound:
        t = np.arange(len(x)) / RATE_HZ
        x = x * (1 + depth * np.sin(2 * np.pi * rate_hz * t))
        return low_pass(overdriven(x, drive, 0.1), 5500, 2) if is_electric else x

    return Instrument(note, 36, 91, ("chords", "chords", "accompanied", "held", "melody"), finish, (0.9, 1.02))


def synthesizer(rng: Rng) -> Instrument:
    """One to three detuned sawtooth or square oscillators and a low pass that an envelope opens: pad, lead or bass."""
    duties = rng.choice([0.0, 0.5, rng.uniform(0.1, 0.4)], rng.integers(1, 4))  # 0: a sawtooth
    apart_cents = between(rng, 2, 18)
    closed_hz, open_hz = between(rng, 200, 1500), between(rng, 1500, 9000)
    resonance, fall_s = rng.uniform(0, 3), between(rng, 0.06, 1.5)
    kind = rng.choice(["pad", "lead", "bass"])
    attack_s = between(rng, 0.1, 0.6) if kind == "pad" else between(rng, 0.003, 0.03)
    release_s, sustain = (0.5 if kind == "pad" else 0.06), rng.uniform(0.1, 0.9)

    def note(rng: Rng, hz: float, seconds: float, loud: float) -> Sound:
        seconds += release_s
        t = np.arange(samples(seconds)) / RATE_HZ
        k = harmonics(hz)
        level = (sustain + (1 - sustain) * np.exp(-t / fall_s)) * (1 - np.exp(-t / attack_s))
        x = np.zeros(len(t))
        for duty in duties:
            wave = np.abs(np.sin(np.pi * k * duty)) / k if duty else 1 / k
            shut, wide = (
                wave * (1 + resonance * np.exp(-((k * hz / cut_hz - 1) ** 2) * 8)) / (1 + (k * hz / cut_hz) ** 4)
                for cut_hz in (closed_hz + hz / 2, open_hz)
            )
            pitch = np.full(len(t), hz * 2 ** (rng.normal(0, apart_cents) / 1200))
            x += tone(pitch, shut, wide, loud * level, np.full(len(k), -np.pi / 2))
        return loud * x * level**0.5 * line(seconds, [(0, 1), (seconds - release_s, 1), (seconds, 0)])

    styles = {"pad": ("chords", "held"), "lead": ("melody", "arpeggio", "riff"), "bass": ("riff",)}[kind]
    low, high = (28, 52) if kind == "bass" else (45, 88)
    return Instrument(note, low, high, styles, as_is, (0.5, 1.0))
