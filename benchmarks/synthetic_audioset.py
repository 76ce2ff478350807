"""Writes a synthetic AudioSet: generated sounds in AudioSet's layout of folders and CSV tables.

    python benchmarks/synthetic_audioset.py OUT --clips=20000 --seconds=10 --workers=2 --seed=0

    OUT/metadata/{balanced_train,unbalanced_train,eval}_segments.csv
    OUT/audios/balanced_train_segments/Y<YTID>.flac                       2 % of the clips
    OUT/audios/unbalanced_train_segments/unbalanced_train_segments_partNN/Y<YTID>.flac
    OUT/audios/eval_segments/Y<YTID>.flac                                 2 %
    OUT/flaws.csv                                                         what was spoiled on purpose

A clip has 1 to 4 labels, 2.7 in the mean; the class of rank r labels about 1/r as many clips as the first. From 600
clips on every class occurs in a sound clip of the unbalanced split, and from 28,000 on in the others too. Each class
has a sound of its own (tones, a band of noise, sweeps or pulses), heard for 1 to 4 s somewhere in the clip over faint
noise. A third of the clips are 20 ms longer than they should be, as AudioSet's are. Of every 1,000 clips about 4 are
missing, and 1.5 each are truncated, garbage, silent, or 3 s short. Files are 16 or 32 kHz mono or 44.1 kHz stereo. The
same arguments give the same bytes with any number of workers; files that exist are kept, so a run that was stopped goes
on. Prints how many files were written, and how fast.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import string
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from uss_jax import audioset, files, progress

SPLITS = ("eval_segments", "balanced_train_segments", "unbalanced_train_segments")
SMALL_SPLIT_SHARE = 0.02  # of the clips, for each split but the last
PART_CLIPS = 5000  # in a folder of the unbalanced split
LABEL_COUNT_SHARES = {1: 0.15, 2: 0.25, 3: 0.35, 4: 0.25}
MOST_FREQUENT = ("Music", "Speech")
FLAW_SHARES = {"missing": 0.004, "truncated": 0.0015, "garbage": 0.0015, "silent": 0.0015, "short": 0.0015}
FORMAT_SHARES = {(16_000, 1): 0.6, (32_000, 1): 0.25, (44_100, 2): 0.15}  # (Hz, channels)
YTID_CHARACTERS = np.array(list(string.ascii_letters + string.digits + "_-"))
SOUND_SECONDS = (1.0, 4.0)
SHORT_SECONDS = 3.0
LONGER_SHARE, LONGER_SECONDS = 1 / 3, 0.02  # of the clips, by how much
HIGHEST_HZ = 7_500  # of every sound, so that it is the same at all sample rates
NOISE_LEVEL = 12.0  # standard deviation, in steps of 16 bits
CHUNK_CLIPS = 50


@dataclasses.dataclass(frozen=True)
class SyntheticClip:
    """What a clip will be.

    Attributes:
      number: of the clip; with the seed it decides every random choice.
      ytid: 11 characters.
      split: one of `SPLITS`.
      folder: its folder below `audios`.
      labels: class indices.
      flaw: one of `FLAW_SHARES`, or "".
    """

    number: int
    ytid: str
    split: str
    folder: str
    labels: tuple[int, ...]
    flaw: str


def class_weights(seed: int) -> np.ndarray:
    """Relative frequency of each class, (classes,): 1/rank, in random order behind Music and Speech."""
    first = [audioset.find_class(name).index for name in MOST_FREQUENT]
    others = np.setdiff1d(np.arange(audioset.CLASS_COUNT), first)
    order = np.concatenate([first, np.random.default_rng((seed, 1)).permutation(others)])
    weights = np.empty(audioset.CLASS_COUNT)
    weights[order] = 1.0 / np.arange(1, audioset.CLASS_COUNT + 1)
    return weights


def draw_labels(random: np.random.Generator, count: int, weights: np.ndarray) -> list[np.ndarray]:
    """Labels of `count` clips, drawn by weight and without repetition, the first drawn first."""
    most = max(LABEL_COUNT_SHARES)
    arrival = random.standard_exponential((count, len(weights)), np.float32) / weights.astype(np.float32)
    drawn = np.argpartition(arrival, most, axis=1)[:, :most]
    drawn = np.take_along_axis(drawn, np.argsort(np.take_along_axis(arrival, drawn, 1), 1), 1)
    counts = random.choice(list(LABEL_COUNT_SHARES), count, p=list(LABEL_COUNT_SHARES.values()))
    return [labels[:length] for labels, length in zip(drawn, counts, strict=True)]


def split_clips(random: np.random.Generator, split: str, count: int, first: int, seed: int) -> list[SyntheticClip]:
    """The clips of a split, numbered from `first`; the class of one label of each goes round, in the small splits.

    In the unbalanced split it goes round once, over clips that are not spoiled.
    """
    labels = draw_labels(random, count, class_weights(seed))
    ytids = random.choice(YTID_CHARACTERS, (count, 11))
    names = ["", *FLAW_SHARES]
    flaws = random.choice(names, count, p=[1 - sum(FLAW_SHARES.values()), *FLAW_SHARES.values()])
    turn = np.resize(random.permutation(audioset.CLASS_COUNT), count)
    parted = split == SPLITS[-1]
    clips = []
    for i in range(count):
        given = not parted or i < audioset.CLASS_COUNT
        chosen = dict.fromkeys(([int(turn[i])] if given else []) + labels[i].tolist())
        clips.append(
            SyntheticClip(
                number=first + i,
                ytid="".join(ytids[i]),
                split=split,
                folder=f"{split}/{split}_part{i // PART_CLIPS:02d}" if parted else split,
                labels=tuple(list(chosen)[: max(1, len(labels[i]))]),
                flaw="" if parted and given else str(flaws[i]),
            )
        )
    return clips


def plan(clips: int, seed: int) -> list[SyntheticClip]:
    """All clips, split by split. Raises ValueError where a split would be empty."""
    small = round(SMALL_SPLIT_SHARE * clips)
    if small == 0:
        raise ValueError(
            f"--clips={clips}: expected at least {round(1 / SMALL_SPLIT_SHARE)}, one for the smallest split"
        )
    planned: list[SyntheticClip] = []
    for number, (split, count) in enumerate(zip(SPLITS, (small, small, clips - 2 * small), strict=True)):
        random = np.random.default_rng((seed, 2, number))
        planned += split_clips(random, split, count, len(planned), seed)
    return planned


def write_tables(out: Path, clips: Sequence[SyntheticClip], seconds: float) -> None:
    """Writes the CSV tables of the splits, as AudioSet has them, and the list of spoiled clips."""
    mids = [sound.mid for sound in audioset.classes()]
    for split in SPLITS:
        of_split = [clip for clip in clips if clip.split == split]
        unique = len({label for clip in of_split for label in clip.labels})
        positive = sum(len(clip.labels) for clip in of_split)
        lines = [
            "# Segments csv created by synthetic_audioset.py",
            f"# num_ytids={len(of_split)}, num_segs={len(of_split)}, num_unique_labels={unique}, "
            f"num_positive_labels={positive}",
            "# YTID, start_seconds, end_seconds, positive_labels",
        ]
        for clip in of_split:
            start = 10.0 * (clip.number % 50)
            labels = ",".join(mids[label] for label in clip.labels)
            lines.append(f'{clip.ytid}, {start:.3f}, {start + seconds:.3f}, "{labels}"')
        files.write_text(out / "metadata" / f"{split}.csv", "\n".join(lines) + "\n")
    flaws = [f"{clip.split},{clip.ytid},{clip.flaw}" for clip in clips if clip.flaw]
    files.write_text(out / "flaws.csv", "\n".join(["split,ytid,flaw", *flaws]) + "\n")


@functools.cache
def class_sound(index: int, sample_rate: int) -> np.ndarray:
    """Four seconds of a class's sound, a pure function of the class: (time,), int16. It begins and ends softly."""
    random = np.random.default_rng(index)
    time_s = np.arange(round(SOUND_SECONDS[1] * sample_rate), dtype=np.float32) / sample_rate
    pitch_hz = 90.0 * 2 ** (5.0 * (index // 4) / (audioset.CLASS_COUNT // 4))  # five octaves
    beat_hz = random.uniform(1.5, 8.0)
    make = (tones, band_noise, sweeps, pulses)[index % 4]
    sound = make(random, time_s, pitch_hz, beat_hz)
    sound *= 0.1 / np.sqrt(np.mean(sound**2))
    return np.round(np.clip(sound, -0.9, 0.9) * 32767).astype(np.int16)


def tones(random: np.random.Generator, time_s: np.ndarray, pitch_hz: float, beat_hz: float) -> np.ndarray:
    """Up to six harmonics of a pitch whose loudness swells: (time,)."""
    sound = np.zeros_like(time_s)
    for harmonic in range(1, min(6, int(HIGHEST_HZ / pitch_hz)) + 1):
        sound += np.float32(random.uniform(0.2, 1.0)) * np.sin(np.float32(2 * np.pi * harmonic * pitch_hz) * time_s)
    return sound * (1 + 0.8 * np.sin(np.float32(2 * np.pi * beat_hz) * time_s))


def band_noise(random: np.random.Generator, time_s: np.ndarray, pitch_hz: float, beat_hz: float) -> np.ndarray:
    """Noise from a pitch up to half or one and a half octaves above: (time,). The same at all sample rates."""
    del beat_hz
    highest = min(HIGHEST_HZ, 1.5 * pitch_hz * 2 ** random.uniform(0.0, 1.0))
    band = np.arange(*(round(frequency * SOUND_SECONDS[1]) for frequency in (pitch_hz, highest)))
    spectrum = np.zeros(len(time_s) // 2 + 1, np.complex64)
    spectrum[band] = np.exp(2j * np.pi * random.uniform(size=len(band)))
    return np.fft.irfft(spectrum, len(time_s)).astype(np.float32)


def sweeps(random: np.random.Generator, time_s: np.ndarray, pitch_hz: float, beat_hz: float) -> np.ndarray:
    """A tone that goes up from a pitch, or down to it, again and again: (time,)."""
    ratio = min(HIGHEST_HZ / pitch_hz, 2 ** random.uniform(0.5, 2.0))
    place = (time_s * np.float32(beat_hz)) % 1.0
    if random.random() < 0.5:
        place = 1.0 - place
    cycles = pitch_hz / (np.log(ratio) * beat_hz) * (np.exp(np.log(ratio) * place) - 1.0)
    return np.sin(2 * np.pi * cycles).astype(np.float32)


def pulses(random: np.random.Generator, time_s: np.ndarray, pitch_hz: float, beat_hz: float) -> np.ndarray:
    """Strokes that ring with a pitch and die away: (time,)."""
    decay = np.float32(random.uniform(8.0, 30.0))
    since_s = (time_s % np.float32(1.0 / beat_hz)).astype(np.float32)
    return np.exp(-decay * since_s) * np.sin(np.float32(2 * np.pi * pitch_hz) * since_s)


@functools.cache
def noise(sample_rate: int) -> np.ndarray:
    """Faint noise to take pieces of: (time,), float32 in steps of 16 bits."""
    random = np.random.default_rng((sample_rate, 0))
    return random.normal(0.0, NOISE_LEVEL, 16 * sample_rate).astype(np.float32)


def noise_piece(random: np.random.Generator, length: int, sample_rate: int) -> np.ndarray:
    """A piece of the noise from a random place: (length,)."""
    start = int(random.integers(len(noise(sample_rate))))
    return np.take(noise(sample_rate), np.arange(start, start + length), mode="wrap")


def clip_samples(clip: SyntheticClip, seconds: float, seed: int) -> tuple[np.ndarray, int]:
    """The audio of a clip: (time,) or (time, channels), int16, and its sample rate in Hz."""
    random = np.random.default_rng((seed, 3, clip.number))
    sample_rate, channels = list(FORMAT_SHARES)[random.choice(len(FORMAT_SHARES), p=list(FORMAT_SHARES.values()))]
    if random.random() < LONGER_SHARE:
        seconds += LONGER_SECONDS
    if clip.flaw == "short":
        seconds = min(seconds, SHORT_SECONDS)
    length = round(seconds * sample_rate)
    if clip.flaw == "silent":
        return np.zeros((length, channels), np.int16), sample_rate
    samples = noise_piece(random, length, sample_rate)
    fade = np.linspace(0, 1, sample_rate // 100, dtype=np.float32)
    for label in clip.labels:
        sounding = min(length, round(random.uniform(*SOUND_SECONDS) * sample_rate))
        start = int(random.integers(0, length - sounding + 1))
        sound = class_sound(label, sample_rate)[:sounding] * np.float32(10 ** (random.uniform(-12, 0) / 20))
        sound[: len(fade)] *= fade
        sound[-len(fade) :] *= fade[::-1]
        samples[start : start + sounding] += sound
    if channels == 2:
        samples = np.stack([samples, 0.6 * samples + noise_piece(random, length, sample_rate)], axis=1)
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16), sample_rate


def write_clips(out: Path, clips: Sequence[SyntheticClip], seconds: float, seed: int) -> int:
    """Writes the files of clips that do not exist yet; returns how many."""
    written = 0
    for clip in clips:
        path = out / "audios" / clip.folder / f"Y{clip.ytid}.flac"
        if clip.flaw == "missing" or path.exists():
            continue
        with files.new_file(path) as temporary:
            samples, sample_rate = clip_samples(clip, seconds, seed)
            soundfile.write(temporary, samples, sample_rate, "PCM_16", format="FLAC", compression_level=0.0)
            if clip.flaw == "truncated":
                temporary.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 3])
            elif clip.flaw == "garbage":
                temporary.write_bytes(np.random.default_rng((seed, 4, clip.number)).bytes(1000))
        written += 1
    return written


def write(out: Path, clip_count: int, seconds: float = 10.0, workers: int = 2, seed: int = 0) -> int:
    """Writes the whole set; returns how many audio files were written. Raises ValueError for too few clips.

    Args:
      out: folder; what it holds already is kept.
      clip_count: clips of all splits.
      seconds: length of a clip.
      workers: processes.
      seed: of every random choice but the classes' sounds.
    """
    clips = plan(clip_count, seed)
    write_tables(out, clips, seconds)
    chunks = [clips[first : first + CHUNK_CLIPS] for first in range(0, len(clips), CHUNK_CLIPS)]
    work = functools.partial(write_clips, out, seconds=seconds, seed=seed)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return sum(progress.track(pool.map(work, chunks), f"writing chunks of {CHUNK_CLIPS} clips", len(chunks)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--clips", type=int, required=True, help="of all splits")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    written = write(args.out, args.clips, args.seconds, args.workers, args.seed)
    took = time.perf_counter() - start
    print(f"{written} files written in {took:.1f} s: {written / took:.0f} clips/s with {args.workers} workers")


if __name__ == "__main__":
    main()
