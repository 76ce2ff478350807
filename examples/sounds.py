"""Sounds made by code: the material of the example recording.

Speech comes from espeak-ng, instruments from fluidsynth with the Fluid R3 sound font (MIT), everything else from the
functions below. A sound is a function (rng, seconds) -> (samples,) of floats at 32 kHz, of any loudness; one that is
short by nature takes its own time instead of `seconds`. All times are in seconds.
"""

import dataclasses
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import soundfile
from scipy import signal

RATE_HZ = 32000
SOUND_FONT = "/usr/share/sounds/sf2/FluidR3_GM.sf2"

Points = Sequence[tuple[float, float]]
Rng = np.random.Generator


# ------------------------------------------------------------------------------------------------- building blocks


def samples(seconds: float) -> int:
    return round(seconds * RATE_HZ)


def line(seconds: float, points: Points) -> np.ndarray:
    """A curve through (time in s, value) points, straight between them: (samples,)."""
    return np.interp(np.arange(samples(seconds)) / RATE_HZ, *np.transpose(points))


def noise(rng: Rng, seconds: float, density: Points) -> np.ndarray:
    """Gaussian noise with the given power density, (frequency in Hz, dB) points; RMS 1."""
    size = samples(seconds)
    log_hz = np.log(np.maximum(np.fft.rfftfreq(size, 1 / RATE_HZ), 1.0))
    hz, db = np.transpose(density)
    shape = 10 ** (np.interp(log_hz, np.log(hz), db) / 20)
    shape[0] = 0.0
    x = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * shape, size)
    return x / np.sqrt(np.mean(x**2))


def slow(rng: Rng, seconds: float, hz: float) -> np.ndarray:
    """A random curve that changes no faster than `hz`: mean 0, RMS 1."""
    x = rng.standard_normal(max(4, int(seconds * hz * 2) + 2))
    x = np.interp(np.linspace(0, len(x) - 1, samples(seconds)), np.arange(len(x)), x)
    return (x - x.mean()) / x.std()


def buzz(f0_hz: np.ndarray, slope: float) -> np.ndarray:
    """All harmonics of a gliding pitch below 14 kHz, the k-th with amplitude k^−slope; RMS 1."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    x = np.zeros_like(phase)
    for k in range(1, int(14000 / f0_hz.min()) + 1):
        x += np.where(k * f0_hz < 14000, k**-slope, 0.0) * np.sin(k * phase + k * k)
    return x / np.sqrt(np.mean(x**2))


def band(x: np.ndarray, low_hz: float, high_hz: float, order: int = 1) -> np.ndarray:
    """x between two frequencies."""
    return np.asarray(signal.sosfilt(signal.butter(order, [low_hz, high_hz], "band", fs=RATE_HZ, output="sos"), x))


def leak(x: np.ndarray, decay_s: float) -> np.ndarray:
    """A running sum of x which forgets by a factor e in `decay_s`."""
    return np.asarray(signal.lfilter([1.0], [1.0, 1 / (decay_s * RATE_HZ) - 1.0], x))


def formants(x: np.ndarray, peaks: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Sum of band passes, each (centre in Hz, bandwidth in Hz, gain)."""
    return np.sum([gain * band(x, centre - width / 2, centre + width / 2) for centre, width, gain in peaks], axis=0)


def ring(x: np.ndarray, modes: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Lets x strike a body with damped modes, each (frequency in Hz, decay in s, gain)."""
    t = np.arange(samples(8 * max(decay for _, decay, _ in modes))) / RATE_HZ
    response = sum(gain * np.exp(-t / decay) * np.sin(2 * np.pi * hz * t) for hz, decay, gain in modes)
    return signal.fftconvolve(x, response)[: len(x)]


def clicks(rng: Rng, seconds: float, per_second: float, spread: float) -> np.ndarray:
    """Impulses at random times, with amplitudes whose logarithm has standard deviation `spread`."""
    x = np.zeros(samples(seconds))
    at = rng.integers(0, len(x), rng.poisson(per_second * seconds))
    np.add.at(x, at, rng.lognormal(0.0, spread, len(at)) * rng.choice([-1, 1], len(at)))
    return x


def echo(rng: Rng, x: np.ndarray, tail_s: float, level: float) -> np.ndarray:
    """Adds the reply of the surroundings, darker than x, which decays by 60 dB in `tail_s`."""
    t = np.arange(samples(tail_s)) / RATE_HZ
    reply = noise(rng, tail_s, [(100, 0), (1500, 0), (12000, -18)]) * 10 ** (-3 * t / tail_s)
    reply[: samples(0.004)] = 0.0
    wet = signal.fftconvolve(np.append(x, np.zeros(len(t))), reply / np.sqrt(np.sum(reply**2)))
    return np.append(x, np.zeros(len(t))) + level * wet[: len(x) + len(t)]


# ------------------------------------------------------------------------------- sounds: (rng, seconds) -> (samples,)


def clock_tick(rng: Rng, seconds: float, per_second: float) -> np.ndarray:
    """A tick and a tock by turns: each three knocks of the escapement in a few ms, on a small case, in a room."""
    x = [np.zeros(samples(seconds)), np.zeros(samples(seconds))]
    for i, at in enumerate(np.arange(0.1, seconds - 0.05, 1 / per_second)):
        for delay_s, gain in ((0.0, 0.35), (0.007, 1.0), (0.016, 0.5)):
            knock = samples(at + delay_s + rng.normal(0, 2e-4))
            x[i % 2][knock] = gain * rng.normal(1, 0.1)
    hz = np.geomspace(350, 7500, 12) * rng.uniform(0.9, 1.1, 12)
    decay_s, gain = rng.uniform(0.003, 0.012, 12), rng.uniform(0.4, 1.0, 12) * np.minimum(1, 3500 / hz)
    x = ring(x[0], [*zip(hz, decay_s, gain, strict=True)]) + 0.8 * ring(
        x[1], [*zip(hz * 0.87, decay_s * 1.2, gain[::-1], strict=True)]
    )
    x = echo(rng, x, 0.25, 0.3)[: samples(seconds)]
    return x + 0.004 * np.abs(x).max() * noise(rng, seconds, [(50, 8), (200, 0), (2000, -12), (14000, -30)])


def rain(rng: Rng, seconds: float) -> np.ndarray:
    """A steady hiss of far drops and the patter of near ones."""
    far = noise(rng, seconds, [(60, 0), (1000, -5), (3000, -8), (8000, -16), (14000, -24)])
    drops = clicks(rng, seconds, 350, 0.8)
    near = ring(drops, [(700, 0.003, 0.7), (1500, 0.002, 1.0), (2600, 0.0015, 1.0), (4800, 0.001, 0.9)])
    return far * (1 + 0.06 * slow(rng, seconds, 3)) + 0.7 * near / near.std()


def sea_waves(rng: Rng, seconds: float) -> np.ndarray:
    """Swells every 5 s or so: each rises, breaks with a bright rush, and draws back."""
    t = np.arange(samples(seconds)) / RATE_HZ
    place = (t / 5.5 + 0.35 + 0.04 * slow(rng, seconds, 0.3)) % 1.0
    swell = np.interp(place, [0, 0.3, 0.42, 0.55, 1.0], [0.12, 0.35, 1.0, 0.55, 0.12])
    low = noise(rng, seconds, [(40, 0), (500, -2), (1500, -9), (4000, -22), (14000, -40)])
    high = noise(rng, seconds, [(200, -12), (1500, 0), (4000, -6), (14000, -20)])
    return low * (0.3 + 0.7 * swell) + 0.55 * high * swell**1.7


def helicopter(rng: Rng, seconds: float, passing: bool) -> np.ndarray:
    """Blade slaps 14 times a second, deep and noisy, over the rush of the engine; it comes and goes if `passing`."""
    beat = np.cumsum(14.0 * (1 + 0.004 * slow(rng, seconds, 2))) / RATE_HZ
    slap = np.exp(-0.5 * ((beat % 1.0 - 0.3) / 0.1) ** 2) * (1 + 0.15 * np.sin(np.pi * np.floor(beat)))
    slap *= 1 + 0.3 * slow(rng, seconds, 10)
    air = noise(rng, seconds, [(40, 0), (150, 0), (500, -9), (1000, -16), (2500, -25), (5000, -38), (14000, -66)])
    thump = band(slap * slap, 30, 220, order=2)
    rush = noise(rng, seconds, [(40, -3), (200, 0), (800, -9), (2000, -16), (5000, -32), (14000, -60)])
    tail = formants(buzz(84.0 * (1 + 0.004 * slow(rng, seconds, 2)), 0.6), [(170, 200, 1.0), (600, 500, 0.3)])
    x = air * (0.45 + slap) + 0.8 * thump / thump.std() + 0.35 * rush + 0.3 * tail / tail.std()
    steady = [(0, 0), (0.1, 1), (seconds - 0.1, 1), (seconds, 0)]
    pass_over = [
        (0, 0),
        (0.2 * seconds, 0.6),
        (0.4 * seconds, 1),
        (0.6 * seconds, 1),
        (0.8 * seconds, 0.6),
        (seconds, 0),
    ]
    return x * (1 + 0.12 * slow(rng, seconds, 1.5)) * line(seconds, pass_over if passing else steady)


def chainsaw(rng: Rng, seconds: float) -> np.ndarray:
    """A two-stroke engine that idles and revs: a rough pulse train through the silencer, and the noise of the chain."""
    t = np.arange(samples(seconds)) / RATE_HZ
    throttle = np.interp(t % 3.4, [0, 0.5, 0.7, 3.0, 3.3], [0, 0, 1, 1, 0])
    throttle = leak(throttle, 0.08) / (0.08 * RATE_HZ)  # it cannot jump
    f0 = (80 + 85 * throttle) * (1 + 0.004 * slow(rng, seconds, 30))
    engine = buzz(f0, 0.3) * (1 + 0.15 * slow(rng, seconds, 60))
    engine = formants(engine, [(170, 160, 1.4), (480, 300, 1.3), (900, 500, 0.8), (1900, 1200, 0.5), (3400, 2500, 0.4)])
    strokes = 0.3 + np.exp(-4 * (np.cumsum(f0) / RATE_HZ % 1.0))
    chain = noise(rng, seconds, [(80, 0), (600, -4), (1600, -10), (4000, -16), (8000, -26), (14000, -38)]) * strokes
    return (engine / engine.std() + 0.4 * chain / chain.std()) * (0.25 + 0.75 * throttle)


def dog_bark(rng: Rng, seconds: float, f0_hz: float, throat: float) -> np.ndarray:
    """One bark: a harsh pitch that jumps up and falls, opened and shut by the mouth. `throat` scales the formants."""
    length = 0.24 * rng.uniform(0.9, 1.15)
    pitch = line(length, [(0, 0.75), (0.25 * length, 1.0), (0.55 * length, 0.95), (length, 0.65)])
    f0 = f0_hz * rng.uniform(0.95, 1.05) * pitch * (1 + 0.02 * slow(rng, length, 150))
    voice = buzz(f0, 1.0) + 0.3 * buzz(f0 / 2, 0.8) + 0.6 * noise(rng, length, [(100, 0), (1000, 0), (14000, -12)])
    voice *= 1 + 0.35 * slow(rng, length, 120)
    shut = formants(voice, [(520 * throat, 160, 1.0), (950 * throat, 200, 0.4)])
    wide = formants(voice, [(680 * throat, 180, 1.0), (1050 * throat, 220, 0.8), (1900 * throat, 400, 0.15)])
    mouth = line(length, [(0, 0.1), (0.3 * length, 1.0), (0.6 * length, 0.8), (length, 0.0)])
    loud = line(length, [(0, 0), (0.02, 0.8), (0.35 * length, 1.0), (0.7 * length, 0.45), (length, 0)])
    return echo(rng, band((shut * (1 - mouth) + wide * mouth) * loud, 380 * throat, 12000, order=2), 0.6, 0.25)


def rooster(rng: Rng, seconds: float) -> np.ndarray:
    """One cock-a-doodle-doo: four syllables, the last long and falling."""
    x = np.zeros(samples(2.3))
    for at, length, low, high, end, gain in (
        (0.0, 0.16, 470, 620, 570, 0.6),
        (0.26, 0.13, 540, 640, 600, 0.6),
        (0.46, 0.42, 600, 790, 740, 0.9),
        (0.95, 1.05, 700, 840, 470, 1.0),
    ):
        f0 = line(length, [(0, low), (0.2 * length, high), (0.55 * length, high), (length, end)])
        voice = buzz(f0 * (1 + 0.006 * slow(rng, length, 40)), 0.5) * (1 + 0.15 * slow(rng, length, 70))
        voice += 0.12 * noise(rng, length, [(200, 0), (14000, -6)])
        voice = formants(voice, [(800, 300, 0.5), (1500, 500, 1.3), (2500, 600, 0.4), (4000, 900, 0.05)])
        loud = line(length, [(0, 0), (0.04, 0.8), (0.6 * length, 1), (length, 0)])
        x[samples(at) : samples(at) + len(voice)] += gain * voice * loud
    return echo(rng, x, 0.4, 0.2)


def crackling_fire(rng: Rng, seconds: float) -> np.ndarray:
    """The low roar of the flames, a faint hiss, and the snaps of the wood, a few of them loud."""
    roar = noise(rng, seconds, [(30, 0), (120, 0), (300, -14), (1000, -26), (14000, -40)])
    hiss = noise(rng, seconds, [(100, -6), (2000, 0), (6000, 0), (14000, -6)])
    snap = leak(np.abs(clicks(rng, seconds, 22, 1.1)), 0.002)
    snaps = snap * noise(rng, seconds, [(300, -3), (1500, 0), (6000, 0), (14000, -8)])
    return roar * (1 + 0.25 * slow(rng, seconds, 4)) + 0.15 * hiss + 0.9 * snaps / snaps.std()


def baby_cry(rng: Rng, seconds: float) -> np.ndarray:
    """One wail of an infant and the breath after it."""
    length = 0.95 * rng.uniform(0.85, 1.1)
    f0 = line(length, [(0, 380), (0.15, 480), (0.6 * length, 460), (length, 360)])
    f0 *= 1 + 0.012 * np.sin(2 * np.pi * 6 * np.arange(len(f0)) / RATE_HZ) + 0.008 * slow(rng, length, 40)
    voice = (buzz(f0, 0.6) + 0.1 * noise(rng, length, [(100, 0), (14000, 0)])) * (1 + 0.15 * slow(rng, length, 60))
    voice = formants(voice, [(1050, 300, 1.2), (1700, 400, 0.6), (3300, 700, 0.6), (5200, 1200, 0.25), (480, 150, 0.3)])
    voice *= line(length, [(0, 0), (0.06, 0.9), (0.5 * length, 1), (0.85 * length, 0.7), (length, 0)])
    breath = noise(rng, 0.25, [(200, -12), (1500, 0), (4000, -3), (14000, -20)]) * np.hanning(samples(0.25))
    return echo(rng, np.concatenate([voice, np.zeros(samples(0.06)), 0.06 * np.abs(voice).max() * breath]), 0.3, 0.2)


def sneeze(rng: Rng, seconds: float) -> np.ndarray:
    """Ah-choo: a voiced breath in, then a burst of air that ends in a short vowel."""
    ah = buzz(line(0.3, [(0, 180), (0.3, 240)]), 1.0) + 0.8 * noise(rng, 0.3, [(100, 0), (14000, -6)])
    ah = formants(ah, [(750, 150, 1), (1250, 200, 0.6), (2600, 400, 0.2)]) * line(0.3, [(0, 0), (0.25, 1), (0.3, 0)])
    air = noise(rng, 0.4, [(200, -8), (1200, 0), (3000, 2), (6000, -2), (14000, -12)])
    air *= line(0.4, [(0, 0), (0.015, 1), (0.12, 0.5), (0.4, 0)])
    oo = formants(buzz(line(0.4, [(0, 380), (0.4, 190)]), 0.9), [(420, 150, 1), (1000, 200, 0.5), (2400, 400, 0.15)])
    oo *= line(0.4, [(0, 0.2), (0.08, 1), (0.4, 0)])
    return echo(
        rng, np.concatenate([0.25 * ah / ah.std(), np.zeros(samples(0.12)), air + 0.8 * oo / oo.std()]), 0.3, 0.2
    )


# --------------------------------------------------------------------------------------- sounds from other programs


def run(program: str, *arguments: str) -> None:
    """Runs a program of the system."""
    if shutil.which(program) is None:
        raise SystemExit(f"{program} is missing: install it, on Debian and Ubuntu with `apt-get install {program}`.")
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)


def read(path: str) -> np.ndarray:
    """The file's first channel at 32 kHz, without the silence before and after."""
    x, rate_hz = soundfile.read(path, always_2d=True)
    x = signal.resample_poly(x[:, 0], RATE_HZ, rate_hz)
    heard = np.flatnonzero(np.abs(x) > 0.003 * np.abs(x).max())
    return x[heard[0] : heard[-1] + 1]


def speech(rng: Rng, seconds: float, voice: str, words_per_minute: int, pitch: int, text: str) -> np.ndarray:
    """The text as espeak-ng says it (pitch 0 to 99), in a small room."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        run("espeak-ng", "-v", voice, "-s", str(words_per_minute), "-p", str(pitch), "-w", wav.name, text)
        return echo(rng, read(wav.name), 0.3, 0.15)


def midi(bank: int, program: int, notes: Sequence[tuple[float, float, int, int]]) -> bytes:
    """A MIDI file of (onset in s, length in s, key, velocity) notes; bank 128 is the drum channel."""
    channel = 9 if bank == 128 else 0
    events = [(0, bytes([0xB0 | channel, 0, bank % 128])), (0, bytes([0xC0 | channel, program]))]
    for onset, length, key, velocity in notes:
        events.append((round(onset * 960), bytes([0x90 | channel, key, velocity])))
        events.append((round((onset + length) * 960), bytes([0x80 | channel, key, 0])))
    track, now = b"", 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        delta, now = tick - now, tick
        track += bytes([delta >> 14 & 127 | 128, delta >> 7 & 127 | 128, delta & 127]) + message
    track += bytes([0, 0xFF, 0x2F, 0])
    head = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 480 >> 8, 480 & 255])  # 480 ticks a beat, 0.5 s a beat
    return head + b"MTrk" + len(track).to_bytes(4, "big") + track


def played(
    rng: Rng, seconds: float, bank: int, program: int, notes: Sequence[tuple[float, float, int, int]]
) -> np.ndarray:
    """The notes as fluidsynth plays them with the sound font."""
    if not pathlib.Path(SOUND_FONT).exists():
        raise SystemExit(f"{SOUND_FONT} is missing: install it, on Debian with `apt-get install fluid-soundfont-gm`.")
    with tempfile.TemporaryDirectory() as work:
        score, wav = f"{work}/score.mid", f"{work}/score.wav"
        pathlib.Path(score).write_bytes(midi(bank, program, notes))
        run("fluidsynth", "-q", "-n", "-i", "-C", "0", "-R", "0", "-r", str(RATE_HZ), "-F", wav, SOUND_FONT, score)
        return echo(rng, read(wav)[: samples(seconds - 0.5)], 0.5, 0.15)


def tune(keys: Sequence[int], step_s: float, velocity: int = 95) -> list[tuple[float, float, int, int]]:
    """Notes one after the other, each `step_s` long."""
    return [(i * step_s, step_s * 0.95, key, velocity) for i, key in enumerate(keys)]


MELODY = tune([67, 71, 74, 79, 76, 74, 71, 69, 67], 0.5)
CHORDS = [(i * 1.1, 1.05, key + shift, 90) for i, shift in enumerate((0, 5, 7, 0)) for key in (48, 60, 64, 67)]
BEAT = [
    (i * 0.25, 0.2, key, v) for i in range(18) for key, v in ((42, 75), ((36, 38)[i // 2 % 2], 105 * (i % 2 == 0))) if v
]
WORDS = "The gate was open all night, and nobody heard the dog until the morning."
REPLY = "Then close it after you, and bring the ladder back into the shed."


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound, its AudioSet names, and, for one that is short, how often a candidate file repeats it."""

    make: Callable[[Rng, float], np.ndarray]
    labels: dict[str, str]  # name -> machine id
    every_s: float | None = None


SPEECH = {"Speech": "/m/09x0r"}
WOMAN = SPEECH | {"Female speech, woman speaking": "/m/02zsn"}
MAN = SPEECH | {"Male speech, man speaking": "/m/05zppz"}
CLOCK = {"Clock": "/m/01x3z", "Tick-tock": "/m/07qjznl"}
DOG = {"Dog": "/m/0bt9lr", "Bark": "/m/05tny_"}
SEA = {"Ocean": "/m/05kq4", "Waves, surf": "/m/034srq"}
HELICOPTER = {"Helicopter": "/m/09ct_"}
SOUNDS = {
    "speech_woman": Sound(partial(speech, voice="en-us+f2", words_per_minute=155, pitch=50, text=WORDS), WOMAN),
    "speech_woman_2": Sound(partial(speech, voice="en-us+f5", words_per_minute=155, pitch=50, text=WORDS), WOMAN),
    "speech_man": Sound(partial(speech, voice="en-gb", words_per_minute=155, pitch=40, text=REPLY), MAN),
    "speech_man_2": Sound(partial(speech, voice="en-us+klatt4", words_per_minute=155, pitch=45, text=REPLY), MAN),
    "clock_tick": Sound(partial(clock_tick, per_second=2.0), CLOCK),
    "clock_tick_fast": Sound(partial(clock_tick, per_second=4.0), CLOCK),
    "rain": Sound(rain, {"Rain": "/m/06mb1"}),
    "sea_waves": Sound(sea_waves, SEA),
    "sea_waves_font": Sound(partial(played, bank=0, program=122, notes=[(0, 12, 60, 100)]), SEA),
    "helicopter": Sound(partial(helicopter, passing=True), HELICOPTER),
    "helicopter_steady": Sound(partial(helicopter, passing=False), HELICOPTER),
    "helicopter_font": Sound(partial(played, bank=0, program=125, notes=[(0, 12, 60, 110)]), HELICOPTER),
    "chainsaw": Sound(chainsaw, {"Chainsaw": "/m/01j4z9"}),
    "dog_bark": Sound(partial(dog_bark, f0_hz=560, throat=1.0), DOG, every_s=1.6),
    "dog_bark_large": Sound(partial(dog_bark, f0_hz=300, throat=0.8), DOG, every_s=1.6),
    "dog_bark_small": Sound(partial(dog_bark, f0_hz=820, throat=1.35), DOG, every_s=1.1),
    "rooster": Sound(
        rooster, {"Chicken, rooster": "/m/09b5t", "Crowing, cock-a-doodle-doo": "/m/07qn5dc"}, every_s=4.0
    ),
    "crackling_fire": Sound(crackling_fire, {"Fire": "/m/02_41", "Crackle": "/m/07pzfmf"}),
    "baby_cry": Sound(baby_cry, {"Baby cry, infant cry": "/t/dd00002"}, every_s=1.35),
    "sneeze": Sound(sneeze, {"Sneeze": "/m/01hsr_"}, every_s=2.4),
    "church_bell": Sound(
        partial(played, bank=8, program=14, notes=tune([60, 60, 60, 60], 1.5)), {"Church bell": "/m/03w41f"}
    ),
    "piano": Sound(partial(played, bank=0, program=0, notes=CHORDS), {"Piano": "/m/05r5c"}),
    "organ": Sound(partial(played, bank=0, program=19, notes=CHORDS), {"Organ": "/m/013y1f"}),
    "guitar": Sound(partial(played, bank=0, program=24, notes=MELODY), {"Acoustic guitar": "/m/042v_gx"}),
    "violin": Sound(partial(played, bank=0, program=40, notes=MELODY), {"Violin, fiddle": "/m/07y_7"}),
    "trumpet": Sound(partial(played, bank=0, program=56, notes=MELODY), {"Trumpet": "/m/07gql"}),
    "flute": Sound(partial(played, bank=0, program=73, notes=MELODY), {"Flute": "/m/0l14j_"}),
    "drums": Sound(partial(played, bank=128, program=0, notes=BEAT), {"Drum kit": "/m/02hnl"}),
}
