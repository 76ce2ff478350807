"""Makes the example recording `yard.flac` with its true stems, from synthetic sounds only.

    python examples/make_yard.py --out examples

Needs numpy, scipy, soundfile and the program espeak-ng, which speaks; everything else comes from the functions below.
A sound is a function of a random generator that returns (samples,) of floats at 32 kHz, of any loudness. All times are
in seconds.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

RATE_HZ = 32000
SCENE_S = 14.0
SEED = 14

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


def formants(x: np.ndarray, peaks: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Sum of band passes, each (centre in Hz, bandwidth in Hz, gain)."""
    return np.sum([gain * band(x, centre - width / 2, centre + width / 2) for centre, width, gain in peaks], axis=0)


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


# --------------------------------------------------------------------------------------------------------- sounds


def dog_bark(rng: Rng) -> np.ndarray:
    """One bark: a harsh pitch that jumps up and falls, opened and shut by the mouth."""
    length = 0.24 * rng.uniform(0.9, 1.15)
    pitch = line(length, [(0, 0.75), (0.25 * length, 1.0), (0.55 * length, 0.95), (length, 0.65)])
    f0 = 560 * rng.uniform(0.95, 1.05) * pitch * (1 + 0.02 * slow(rng, length, 150))
    voice = buzz(f0, 1.0) + 0.3 * buzz(f0 / 2, 0.8) + 0.6 * noise(rng, length, [(100, 0), (1000, 0), (14000, -12)])
    voice *= 1 + 0.35 * slow(rng, length, 120)
    shut = formants(voice, [(520, 160, 1.0), (950, 200, 0.4)])
    wide = formants(voice, [(680, 180, 1.0), (1050, 220, 0.8), (1900, 400, 0.15)])
    mouth = line(length, [(0, 0.1), (0.3 * length, 1.0), (0.6 * length, 0.8), (length, 0.0)])
    loud = line(length, [(0, 0), (0.02, 0.8), (0.35 * length, 1.0), (0.7 * length, 0.45), (length, 0)])
    return echo(rng, band((shut * (1 - mouth) + wide * mouth) * loud, 380, 12000, order=2), 0.6, 0.25)


def trumpet(rng: Rng, notes: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Notes on one of the trumpets of `rendering`, each (pitch in Hz, onset, seconds)."""
    from rendering import sustained  # which is built on the blocks above

    instrument = sustained.blown(rng, sustained.TRUMPET)
    played = [(samples(onset), instrument.note(rng, hz, seconds, 0.6)) for hz, onset, seconds in notes]
    x = np.zeros(max(start + len(note) for start, note in played))
    for start, note in played:
        x[start : start + len(note)] += note
    return echo(rng, x, 0.4, 0.2)


def crackling_fire(rng: Rng) -> np.ndarray:
    """The low roar of the flames, a faint hiss, and the snaps of the wood, a few of them loud."""
    roar = noise(rng, SCENE_S, [(30, 0), (120, 0), (300, -14), (1000, -26), (14000, -40)])
    hiss = noise(rng, SCENE_S, [(100, -6), (2000, 0), (6000, 0), (14000, -6)])
    snap = np.abs(clicks(rng, SCENE_S, 22, 1.1))
    snap = signal.lfilter([1.0], [1.0, 1 / (0.002 * RATE_HZ) - 1.0], snap)  # each decays by a factor e in 2 ms
    snaps = snap * noise(rng, SCENE_S, [(300, -3), (1500, 0), (6000, 0), (14000, -8)])
    return roar * (1 + 0.25 * slow(rng, SCENE_S, 4)) + 0.15 * hiss + 0.9 * snaps / snaps.std()


def speech(rng: Rng, voice: str, pitch: int, text: str) -> np.ndarray:
    """The text as espeak-ng says it (pitch 0 to 99), in a small room."""
    if shutil.which("espeak-ng") is None:
        raise SystemExit("espeak-ng is missing: install it, on Debian and Ubuntu with `apt-get install espeak-ng`.")
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        command = ["espeak-ng", "-v", voice, "-s", "155", "-p", str(pitch), "-w", wav.name, text]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        x, rate_hz = soundfile.read(wav.name)
    x = signal.resample_poly(x, RATE_HZ, rate_hz)
    heard = np.flatnonzero(np.abs(x) > 0.003 * np.abs(x).max())
    return echo(rng, x[heard[0] : heard[-1] + 1], 0.3, 0.15)  # without the silence before and after


# ---------------------------------------------------------------------------------------------------------- scene


WORDS = "The gate was open all night, and nobody heard the dog until the morning."
CALL = [(392.0, 0.0, 0.22), (392.0, 0.3, 0.22), (523.3, 0.6, 0.5), (659.3, 1.15, 0.9)]
REPLY = "Then close it after you, and bring the ladder back into the shed."

SOUNDS: dict[str, tuple[Callable[[Rng], np.ndarray], dict[str, str]]] = {  # how it's made; AudioSet name -> machine id
    "fire": (crackling_fire, {"Fire": "/m/02_41", "Crackle": "/m/07pzfmf"}),
    "woman": (
        partial(speech, voice="en-us+f2", pitch=50, text=WORDS),
        {"Speech": "/m/09x0r", "Female speech, woman speaking": "/m/02zsn"},
    ),
    "man": (
        partial(speech, voice="en-gb", pitch=40, text=REPLY),
        {"Speech": "/m/09x0r", "Male speech, man speaking": "/m/05zppz"},
    ),
    "bark": (dog_bark, {"Dog": "/m/0bt9lr", "Bark": "/m/05tny_"}),
    "call": (partial(trumpet, notes=CALL), {"Trumpet": "/m/07gql", "Brass instrument": "/m/01kcd"}),
    "reply": (partial(trumpet, notes=CALL[2:]), {"Trumpet": "/m/07gql", "Brass instrument": "/m/01kcd"}),
}

SCENE = [  # (stem, sound, onset in s, peak in dB re full scale); the place in this list seeds the sound
    ("fire", "fire", 0.0, -2.0),
    ("speech", "woman", 0.6, -9.0),
    ("dog", "bark", 2.1, -7.0),
    ("trumpet", "call", 4.6, -9.0),
    ("dog", "bark", 7.4, -6.0),
    ("dog", "bark", 7.9, -7.0),
    ("speech", "man", 9.2, -6.0),
    ("trumpet", "reply", 12.1, -9.0),
]


def to_int16(x: np.ndarray, peak_db: float) -> np.ndarray:
    """Scales x to a peak in dB re full scale, and rounds."""
    return np.round(x / np.abs(x).max() * 10 ** (peak_db / 20) * 32767).astype(np.int16)


def write_scene(folder: Path) -> None:
    """Writes the mixture, its stems and their times. The mixture is the sum of the stems, sample by sample."""
    folder.mkdir(parents=True, exist_ok=True)
    stems: dict[str, np.ndarray] = {}
    events = []
    for i, (stem, name, onset, peak_db) in enumerate(SCENE):
        make, labels = SOUNDS[name]
        x = to_int16(make(np.random.default_rng([SEED, i])), peak_db)[: samples(SCENE_S - onset)]
        stem_audio = stems.setdefault(stem, np.zeros(samples(SCENE_S), np.int16))
        stem_audio[samples(onset) : samples(onset) + len(x)] += x
        heard = np.flatnonzero(np.abs(x) > 0.01 * np.abs(x).max())  # without the end of the echo
        offset = round(onset + (heard[-1] + 1) / RATE_HZ, 3)
        mids = list(labels.values())
        events.append({"stem": stem, "labels": list(labels), "mids": mids, "onset": onset, "offset": offset})
    mixture = np.sum(list(stems.values()), axis=0, dtype=np.int32)
    if np.abs(mixture).max() > 32767:
        raise SystemExit(f"The mixture clips, at {np.abs(mixture).max()} of 32767: lower the levels in SCENE.")
    files = {f"yard.{stem}.flac": x for stem, x in stems.items()}
    for file, x in {"yard.flac": mixture.astype(np.int16), **files}.items():
        soundfile.write(folder / file, x, RATE_HZ, subtype="PCM_16", compression_level=1.0)
    about = {
        "name": "yard",
        "about": "A yard, synthetic throughout: a crackling fire, a woman and a man, a dog, and a trumpet.",
        "sample_rate": RATE_HZ,
        "seconds": SCENE_S,
        "mixture": "yard.flac",
        "stems": {stem: f"yard.{stem}.flac" for stem in stems},
        "sum": "mixture = sum of the stems, sample by sample (16-bit)",
        "events": sorted(events, key=lambda event: event["onset"]),
    }
    (folder / "yard.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="write the scene into this folder")
    write_scene(parser.parse_args().out)


if __name__ == "__main__":
    main()
