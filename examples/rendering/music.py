"""What is played: notes of melodies, chords and riffs in random keys and tempos, and rhythms of drums."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from make_yard import Rng

SCALES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # minor
    (0, 2, 3, 5, 7, 9, 10),  # Dorian
    (0, 2, 4, 5, 7, 9, 10),  # Mixolydian
    (0, 2, 4, 7, 9),  # pentatonic
    (0, 3, 5, 6, 7, 10),  # blues
    tuple(range(12)),
)
RHYTHMS = ((1,), (0.5, 0.5), (1, 0.5, 0.5), (0.25,) * 4, (1.5, 0.5), (2,), (3,), (1 / 3,) * 3, (0.75, 0.25))
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (1, 4, 0, 0), (0, 6, 5, 6), (0, 0, 3, 4), (5, 3, 0, 4))

BEATS = (  # 16 steps each; capital letters are loud: bass drum, snare drum, hi-hat, cymbal
    {"bass": "X.......X.x.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
    {"bass": "X...X...X...X...", "snare": "....X.......X...", "hat": "..X...X...X...X."},
    {"bass": "X..x..X...x.....", "snare": "....X..x.x..X..x", "hat": "XxxxXxxxXxxxXxxx"},
    {"bass": "X.........X.....", "snare": "........X.......", "hat": "X...X...X...X..."},
    {"bass": "X.....X.....X...", "snare": "....X.......X...", "cymbal": "X...X...X.x.X..."},
    {"bass": "X.X...X...XX....", "snare": "....X..x....X...", "hat": "X.X.X.X.X.X.X.X."},
    {"bass": "X.x.X.x.X.x.X.x.", "snare": "..x.X.x...x.X.xx", "tom": "........x..x..XX"},
    {"bass": "X.......X.......", "tom": "X..x..x.X..x.xx.", "snare": "....x.......x..."},
    {"snare": "X.xxx.xxX.xxxxxx", "bass": "X...X...X...X..."},
)


class Note(NamedTuple):
    """A note: its start and length in seconds, its MIDI pitch and its loudness, 0 to 1."""

    start_s: float
    length_s: float
    pitch: float
    loud: float


class Score(NamedTuple):
    """In what a clip is played: seconds in all and of a beat, pitches of the scale from low to high, loudness."""

    seconds: float
    beat_s: float
    pitches: np.ndarray
    loud: float
    legato: tuple[float, float]


def notes(rng: Rng, style: str, low: int, high: int, seconds: float, legato: tuple[float, float]) -> list[Note]:
    """Plays in a style of `STYLES` between two MIDI pitches."""
    scale = SCALES[rng.integers(len(SCALES))]
    key = rng.integers(12)
    top = low + max(14, int((high - low) * rng.uniform(0.4, 1.0)))  # a clip seldom uses all of the range
    shift = rng.integers(0, max(high - top, 0) + 1)
    pitches = np.array([pitch for pitch in range(low, high + 1) if (pitch - key) % 12 in scale])
    pitches = pitches[(pitches >= low + shift) & (pitches <= top + shift)]
    score = Score(seconds, 60 / rng.uniform(60, 170), pitches, rng.uniform(0.3, 0.9), legato)
    return [note for note in STYLES[style](rng, score) if note.start_s < seconds - 0.1]


def _loud(rng: Rng, score: Score) -> float:
    return float(np.clip(score.loud + rng.normal(0, 0.12), 0.08, 1.0))


def melody(rng: Rng, score: Score) -> list[Note]:
    """Steps along the scale, with a few leaps and rests."""
    last = len(score.pitches) - 1
    at, place = rng.uniform(0, 0.5), int(rng.integers(last + 1))
    lasting = rng.uniform(*score.legato)
    rhythms = [RHYTHMS[i] for i in rng.integers(0, len(RHYTHMS), 3)]
    played = []
    while at < score.seconds:
        for beats in rhythms[rng.integers(len(rhythms))]:
            if rng.random() > 0.12:
                length = beats * score.beat_s * lasting
                played.append(Note(at, max(length, 0.06), float(score.pitches[place]), _loud(rng, score)))
            at += beats * score.beat_s
            step = rng.choice([-5, -3, -2, -1, -1, 0, 1, 1, 2, 3, 5])
            place = int(np.clip(place + (step if 0 <= place + step <= last else -step), 0, last))
    return played


def held(rng: Rng, score: Score) -> list[Note]:
    """A few long notes on their own."""
    length = rng.uniform(0.8, 4.0)
    at, played = rng.uniform(0, 1.0), []
    while at < score.seconds - 0.4:
        played.append(Note(at, length, float(rng.choice(score.pitches)), _loud(rng, score)))
        at += length + rng.uniform(0, 0.6)
    return played


def _voicings(rng: Rng, score: Score, size: int) -> list[np.ndarray]:
    """Chords of a progression: each takes every other pitch of the scale, and has `size` of them or fewer."""
    width = min(2 * size, len(score.pitches) - 1)
    first = rng.integers(0, max(len(score.pitches) - width - 4, 0) + 1)
    places = first + np.array(PROGRESSIONS[rng.integers(len(PROGRESSIONS))])
    wide = np.array([0, 4, 7, 9, 11, 14])  # as on a guitar: the third of the chord is an octave up
    offsets = wide[:size] if rng.random() < 0.4 else 2 * np.arange(size)
    return [score.pitches[np.unique(np.clip(place + offsets, 0, len(score.pitches) - 1))] for place in places]


def chords(rng: Rng, score: Score) -> list[Note]:
    """A progression, each chord held or repeated in a rhythm, its pitches at once or strummed."""
    size = int(rng.integers(3, 6))
    spread_s = rng.choice([0.0, 0.008, 0.02, 0.05])
    rhythm = (RHYTHMS[rng.integers(len(RHYTHMS))], (4,), (2, 2))[rng.integers(3)]
    repeats = max(1, round(4 / sum(rhythm)))
    lasting = rng.uniform(*score.legato)
    at, played = rng.uniform(0, 0.4), []
    while at < score.seconds:
        for voicing in _voicings(rng, score, size):
            for beats in rhythm * repeats:
                loud, strum = _loud(rng, score), voicing[:: rng.choice([-1, 1], p=[0.3, 0.7])]
                for i, pitch in enumerate(strum):
                    late = at + i * spread_s + abs(rng.normal(0, 0.004))
                    played.append(Note(late, max(beats * score.beat_s * lasting, 0.1), float(pitch), loud))
                at += beats * score.beat_s
    return played


def arpeggio(rng: Rng, score: Score) -> list[Note]:
    """Broken chords, whose notes sound on until the next chord."""
    step_s = score.beat_s / rng.choice([2, 3, 4])
    at, played = rng.uniform(0, 0.4), []
    while at < score.seconds:
        for voicing in _voicings(rng, score, int(rng.integers(3, 6))):
            end = at + max(8 * step_s, 0.6)
            order = [voicing, voicing[::-1], rng.permutation(voicing)][rng.integers(3)]
            for i in range(8):
                start = at + i * step_s
                played.append(Note(start, end - start, float(order[i % len(order)]), _loud(rng, score)))
            at = end
    return played


def accompanied(rng: Rng, score: Score) -> list[Note]:
    """A melody above chords."""
    middle = len(score.pitches) // 2
    below = [chords, arpeggio][rng.integers(2)](rng, score._replace(pitches=score.pitches[: middle + 4]))
    above = melody(rng, score._replace(pitches=score.pitches[middle:]))
    return above + [note._replace(loud=0.7 * note.loud) for note in below]


def riff(rng: Rng, score: Score) -> list[Note]:
    """Roots of a progression in a steady rhythm, with octaves and passing notes."""
    roots = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    step_s = score.beat_s / rng.choice([1, 2, 2, 4])
    pattern = rng.choice([0, 0, 0, 2, 4, len(score.pitches) // 3, -1], 8)  # scale steps above the root; -1: a rest
    lasting = rng.uniform(*score.legato)
    at, played = rng.uniform(0, 0.4), []
    while at < score.seconds:
        for root in roots:
            for step in pattern:
                if step >= 0:
                    pitch = score.pitches[min(root + step, len(score.pitches) - 1)]
                    played.append(Note(at, max(step_s * lasting, 0.08), float(pitch), _loud(rng, score)))
                at += step_s
    return played


def fifths(rng: Rng, score: Score) -> list[Note]:
    """The riff in fifths: power chords."""
    return [note._replace(pitch=note.pitch + up) for note in riff(rng, score) for up in (0, 7)]


STYLES: dict[str, Callable[[Rng, Score], list[Note]]] = {
    function.__name__: function for function in (melody, held, chords, arpeggio, accompanied, riff, fifths)
}


def beats(rng: Rng, parts: Sequence[str], seconds: float) -> list[tuple[str, float, float]]:
    """Strokes of drums: (part, start in s, loudness). Several parts play a beat, one plays on its own."""
    step_s = 60 / rng.uniform(70, 165) / 4
    swing_s = rng.choice([0.0, 0.33]) * step_s
    start_s = rng.uniform(0, 0.5)
    if len(parts) == 1:
        share = rng.choice([0.12, 0.25, 0.5])
        rows = {parts[0]: "".join(rng.choice(list("Xx."), 16, p=[share / 2, share / 2, 1 - share]))}
        rows[parts[0]] = "X" + rows[parts[0]][1:]
    else:
        rows = {part: row for part, row in BEATS[rng.integers(len(BEATS))].items() if part in parts}
        if rng.random() < 0.4:
            rows["cymbal"] = "X..............."
    strokes = []
    for step in range(int((seconds - start_s) / step_s)):
        for part, row in rows.items():
            if row[step % 16] != ".":
                at = start_s + step * step_s + (swing_s if step % 2 else 0.0) + rng.normal(0, 0.004)
                loud = rng.uniform(0.7, 1.0) if row[step % 16] == "X" else rng.uniform(0.15, 0.5)
                strokes.append((part, max(at, 0.0), loud))
    return strokes
