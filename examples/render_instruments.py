"""Renders weakly labelled clips of musical instruments, from synthetic sounds only.

    python examples/render_instruments.py --out DATA/rendered

The folder is laid out as the other sets of weakly labelled clips: audio/*.flac (5 s, 32 kHz, mono, 16 bit),
weak_labels.csv (filename, mids) and meta.csv (filename, fold, category, note). Each clip is played on an instrument of
its own, a draw of all that makes its timbre, so that no instrument is in two folds.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from make_yard import RATE_HZ, Points, Rng, echo, noise, samples, to_int16
from rendering import drums, music, strings, sustained
from rendering.blocks import Instrument, Sound, add, between, low_pass

from uss_jax import audioset, files, progress

SECONDS = 5.0
FOLDS = 4
CLIPS = 16

PITCHED: dict[str, Callable[[Rng], Instrument]] = {
    "piano": strings.piano,
    "electric_piano": strings.electric_piano,
    "acoustic_guitar": strings.acoustic_guitar,
    "electric_guitar": strings.electric_guitar,
    "bass_guitar": strings.bass_guitar,
    "marimba": strings.marimba,
    "vibraphone": strings.vibraphone,
    "violin": sustained.violin,
    "cello": sustained.cello,
    "string_section": sustained.string_section,
    "flute": partial(sustained.blown, family=sustained.FLUTE),
    "clarinet": partial(sustained.blown, family=sustained.CLARINET),
    "saxophone": partial(sustained.blown, family=sustained.SAXOPHONE),
    "trumpet": partial(sustained.blown, family=sustained.TRUMPET),
    "organ": sustained.organ,
    "synthesizer": sustained.synthesizer,
}
DRUMS: dict[str, Callable[[Rng], dict[str, tuple[drums.Stroke, ...]]]] = {
    "drum_kit": drums.drum_kit,
    "bass_drum": lambda rng: {"bass": (drums.bass_drum(rng),)},
    "snare_drum": lambda rng: {"snare": (drums.snare_drum(rng),)},
    "hi_hat": lambda rng: {"hat": (drums.hi_hat(rng),)},
    "cymbal": lambda rng: {"cymbal": (drums.cymbal(rng),)},
}
Clip = Callable[[str, int, int], tuple[np.ndarray, str]]  # (category, number, seed) → int16 (samples,), note

CLASSES = {  # AudioSet names of what is heard: the instrument and its family, without the broadest classes
    "piano": ("Piano",),
    "electric_piano": ("Electric piano", "Piano"),
    "acoustic_guitar": ("Acoustic guitar", "Guitar"),
    "electric_guitar": ("Electric guitar", "Guitar"),
    "bass_guitar": ("Bass guitar",),  # not Guitar: with a class in common, it would never be mixed with guitars
    "marimba": ("Marimba, xylophone", "Mallet percussion"),
    "vibraphone": ("Vibraphone", "Mallet percussion"),
    "violin": ("Violin, fiddle", "Bowed string instrument"),
    "cello": ("Cello", "Bowed string instrument"),
    "string_section": ("String section", "Bowed string instrument"),
    "flute": ("Flute", "Wind instrument, woodwind instrument"),
    "clarinet": ("Clarinet", "Wind instrument, woodwind instrument"),
    "saxophone": ("Saxophone", "Wind instrument, woodwind instrument"),
    "trumpet": ("Trumpet", "Brass instrument"),
    "organ": ("Organ",),
    "synthesizer": ("Synthesizer",),
    "drum_kit": ("Drum kit", "Drum", "Percussion"),
    "bass_drum": ("Bass drum", "Drum"),
    "snare_drum": ("Snare drum", "Drum"),
    "hi_hat": ("Hi-hat", "Cymbal"),
    "cymbal": ("Cymbal",),
}


def recorded(rng: Rng, x: Sound) -> Sound:
    """x in a room, through a microphone and its amplifier: (samples,) → (samples,)."""
    if rng.random() < 0.75:
        x = echo(rng, x, between(rng, 0.15, 2.0), between(rng, 0.05, 0.7))[: len(x)]
    spectrum, hz = np.fft.rfft(x), np.fft.rfftfreq(len(x), 1 / RATE_HZ)
    tilt: Points = [(40, rng.normal(0, 3)), (300, 0), (1200, rng.normal(0, 2)), (4000, rng.normal(0, 3)), (12000, 0)]
    at_hz, db = np.transpose(tilt)
    x = np.fft.irfft(spectrum * 10 ** (np.interp(np.log(hz + 1), np.log(at_hz), db) / 20), len(x))
    if rng.random() < 0.25:
        x = low_pass(x, between(rng, 5000, 13000), 4)
    hiss = noise(rng, len(x) / RATE_HZ, [(50, rng.uniform(0, 20)), (500, 0), (14000, rng.uniform(-15, 0))])
    return x + np.abs(x).max() * 10 ** (-rng.uniform(58, 85) / 20) * hiss


def clip(category: str, number: int, seed: int) -> tuple[np.ndarray, str]:
    """A clip of a category, int16 (samples,), and a note on what is played."""
    timbre, player = np.random.default_rng([seed, number, *category.encode()]).spawn(2)
    if category in DRUMS:
        x = drums.played(player, DRUMS[category](timbre), SECONDS)
        note = "rhythm"
    else:
        instrument = PITCHED[category](timbre)
        note = instrument.styles[player.integers(len(instrument.styles))]
        x = np.zeros(samples(SECONDS))
        for heard in music.notes(player, note, instrument.low, instrument.high, SECONDS, instrument.legato):
            hz = 440 * 2 ** ((heard.pitch - 69) / 12)
            add(x, instrument.note(player, hz, min(heard.length_s, SECONDS), heard.loud), heard.start_s)
        x = instrument.finish(x)
    return to_int16(recorded(player, x), player.uniform(-12, -1)), note


def render(
    folder: Path, classes: Mapping[str, Sequence[str]], make: Clip, count: int, seed: int, folds: int = FOLDS
) -> None:
    """Writes clips and their tables; the folder takes its name when it is whole.

    Args:
      folder: to be made.
      classes: AudioSet names of what is heard in each category.
      make: makes a clip.
      count: of the clips of each category.
      seed: of all that is drawn.
      folds: the clips of a category are dealt out to so many.

    Raises:
      ValueError: there is such a folder already.
    """
    with files.new_folder(folder) as temporary:
        (temporary / "audio").mkdir()
        labels, meta = [("filename", "mids")], [("filename", "fold", "category", "note")]
        wanted = [(category, number) for category in classes for number in range(count)]
        for category, number in progress.track(wanted, "rendering", len(wanted)):
            x, note = make(category, number, seed)
            name = f"{category}-{number}.flac"
            soundfile.write(temporary / "audio" / name, x, RATE_HZ, subtype="PCM_16")
            labels.append((name, ",".join(audioset.find_class(of).mid for of in classes[category])))
            meta.append((name, str(1 + number % folds), category, note))
        write_table(temporary / "weak_labels.csv", labels)
        write_table(temporary / "meta.csv", meta)


def write_table(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """Writes a CSV file; cells with commas are put in quotes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def run(about: str | None, classes: Mapping[str, Sequence[str]], make: Clip, folds: int = FOLDS) -> None:
    """Renders what the command line asks for; the arguments are those of `render`, and the text of --help."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="write the set into this new folder")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (%(default)s)")
    parser.add_argument("--clips", type=int, default=CLIPS, help="of each category (%(default)s)")
    args = parser.parse_args()
    try:
        if args.clips < 1 or args.seed < 0:
            raise ValueError("--clips must be 1 or more, and --seed no less than 0")
        render(args.out, classes, make, args.clips, args.seed, folds)
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


if __name__ == "__main__":
    run(__doc__, CLASSES, clip)
