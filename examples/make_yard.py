"""Makes the example recording `yard.flac` with its true stems, from synthetic sounds only.

    python examples/make_yard.py --out examples          the scene: mixture, stems and yard.json
    python examples/make_yard.py --candidates DIR        every sound of sounds.py alone, 5 s, as DIR/<sound>.wav

Needs numpy, scipy, soundfile and the programs espeak-ng and fluidsynth (the latter for the candidates only, unless
SCENE names one of its instruments).
"""

import argparse
import json
import pathlib

import numpy as np
import soundfile
from sounds import RATE_HZ, SOUNDS, samples

SCENE_S = 14.0
CANDIDATE_S = 5.0
SEED = 14

SCENE = [  # (stem, sound, onset in s, length in s or None for the sound's own, peak in dB re full scale)
    ("fire", "crackling_fire", 0.0, SCENE_S, -2.0),
    ("speech", "speech_woman", 0.6, None, -9.0),
    ("dog", "dog_bark", 2.1, None, -7.0),
    ("rooster", "rooster", 4.6, None, -7.0),
    ("dog", "dog_bark", 7.4, None, -6.0),
    ("dog", "dog_bark", 7.9, None, -7.0),
    ("speech", "speech_man", 9.2, None, -6.0),
    ("rooster", "rooster", 11.9, None, -9.0),
]


def to_int16(x: np.ndarray, peak_db: float) -> np.ndarray:
    """Scales x to a peak in dB re full scale, and rounds."""
    return np.round(x / np.abs(x).max() * 10 ** (peak_db / 20) * 32767).astype(np.int16)


def write_candidates(folder: pathlib.Path) -> None:
    """Writes every sound alone; short sounds are repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, sound) in enumerate(SOUNDS.items()):
        rng = np.random.default_rng([SEED, i])
        x = np.zeros(samples(CANDIDATE_S))
        for onset in np.arange(0.2, CANDIDATE_S - 1.0, sound.every_s) if sound.every_s else [0.0]:
            y = sound.make(rng, CANDIDATE_S)[: len(x) - samples(onset)]
            x[samples(onset) : samples(onset) + len(y)] += y
        soundfile.write(folder / f"{name}.wav", to_int16(x, -3.0), RATE_HZ)


def write_scene(folder: pathlib.Path) -> None:
    """Writes the mixture, its stems and their times. The mixture is the sum of the stems, sample by sample."""
    folder.mkdir(parents=True, exist_ok=True)
    stems, events = {}, []
    for i, (stem, name, onset, length, peak_db) in enumerate(SCENE):
        sound = SOUNDS[name]
        x = to_int16(sound.make(np.random.default_rng([SEED, i]), length or SCENE_S), peak_db)[
            : samples(SCENE_S - onset)
        ]
        place = stems.setdefault(stem, np.zeros(samples(SCENE_S), np.int16))[samples(onset) : samples(onset) + len(x)]
        place += x
        heard = np.flatnonzero(np.abs(x) > 0.01 * np.abs(x).max())  # without the end of the echo
        offset = round(onset + (heard[-1] + 1) / RATE_HZ, 3)
        labels, mids = list(sound.labels), list(sound.labels.values())
        events.append({"stem": stem, "labels": labels, "mids": mids, "onset": onset, "offset": offset})
    mixture = np.sum(list(stems.values()), axis=0, dtype=np.int32)
    if np.abs(mixture).max() > 32767:
        raise SystemExit(f"The mixture clips, at {np.abs(mixture).max()} of 32767: lower the levels in SCENE.")
    files = {"yard.flac": np.asarray(mixture, np.int16)}
    files.update({f"yard.{stem}.flac": x for stem, x in stems.items()})
    for file, x in files.items():
        soundfile.write(folder / file, x, RATE_HZ, subtype="PCM_16", compression_level=1.0)
    about = {
        "name": "yard",
        "about": "A yard, synthetic throughout: a clock, a woman and a man, a dog, and a helicopter passing over.",
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
    parser.add_argument("--out", type=pathlib.Path, help="write the scene into this folder")
    parser.add_argument("--candidates", type=pathlib.Path, help="write every sound alone into this folder")
    flags = parser.parse_args()
    if not (flags.out or flags.candidates):
        parser.error("give --out, --candidates or both")
    if flags.candidates:
        write_candidates(flags.candidates)
    if flags.out:
        write_scene(flags.out)


if __name__ == "__main__":
    main()
