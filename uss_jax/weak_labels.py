"""Tables of weak labels: which recordings there are, what sounds somewhere in them, and in which split they are.

A table is either a CSV file with a column of file names, or one of AudioSet's own, which are told by their comments.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from uss_jax import audio, audioset, audioset_tables, files, progress
from uss_jax.audio import EXTENSIONS, SAMPLE_RATE_HZ
from uss_jax.storage import Record

logger = logging.getLogger(__name__)

SHORTEST_S = 0.1  # of a recording worth keeping
SHORT_BY_S = 0.5  # how much less than its table tells is worth a note
LONG_BY_S = 1.0  # how much more is another recording, as the whole video


@dataclasses.dataclass(frozen=True, slots=True)
class ClipFile:
    """A recording to be stored.

    Attributes:
      clip_id: unique in the dataset.
      folder: of recordings.
      name: of its file in there; empty where there is none.
      labels: its class indices.
      seconds: how long it should be, if that is known.
    """

    clip_id: str
    folder: Path
    name: str
    labels: tuple[int, ...]
    seconds: float | None = None

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.folder / self.name

    @property
    def content(self) -> str:
        """Its labels and length, wherever its file is."""
        return repr((self.labels, self.seconds))

    def record(self) -> Record:
        """Reads the recording.

        Raises:
          ValueError: it is missing, broken, too long, too short or silent; the message begins so.
        """
        if not self.name:
            raise ValueError(f"missing: no file of it in {self.folder}")
        try:
            samples = self._read()
        except ValueError as error:
            raise ValueError(f"{'broken' if files.is_file(self.path) else 'missing'}: {error}") from error
        except Exception as error:  # whatever decoders raise: one file must not end the work of days
            raise ValueError(f"broken: {self.path}: {error!r}") from error
        seconds = len(samples) / SAMPLE_RATE_HZ
        if self.seconds is not None and seconds > self.seconds + LONG_BY_S:
            raise ValueError(f"too long: {self.path}: more than {self.seconds + LONG_BY_S:.2f} s")
        if seconds < SHORTEST_S:
            raise ValueError(f"too short: {self.path}: {seconds:.3f} s")
        pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
        if not pcm.any():
            raise ValueError(f"silent: {self.path}")
        is_short = self.seconds is not None and seconds < self.seconds - SHORT_BY_S
        note = f"short: {seconds:.2f} s of {self.seconds:.2f} s" if is_short else ""
        return Record(self.clip_id, self.labels, pcm, note)

    def _read(self) -> np.ndarray:
        """(time,) at 32 kHz; of a video of hours no more than it takes to see that it is too long."""
        enough = None if self.seconds is None else self.seconds + 2 * LONG_BY_S
        samples, rate_hz = audio.read(self.path, seconds=enough)
        return audio.resample(audio.to_mono(samples), rate_hz, SAMPLE_RATE_HZ)


def read_labels(table: Path, audio_dir: Path, prefix: str = "") -> list[ClipFile]:
    """Reads a weak-label table of file names.

    Args:
      table: CSV with a column `filename` and a column `mids` or `labels` (machine ids or names, comma-separated).
      audio_dir: folder of the files that it names.
      prefix: put before each file name to make the clip's id.

    Raises:
      ValueError: the table is missing or lacks a column, or a cell names no class; the message names the line.
    """
    clips = []
    known: dict[str, tuple[int, ...]] = {}  # cells repeat
    for line, row in files.read_table(table, ("filename",)):
        cell = row.get("mids") or row.get("labels")
        if not cell:
            raise ValueError(f"{table}: line {line} has no labels in a column 'mids' or 'labels'")
        try:
            path = files.inside(audio_dir, row["filename"])
            if cell not in known:
                known[cell] = audioset.parse_labels(cell)
        except ValueError as error:
            raise ValueError(f"{table}: line {line}: {error}") from error
        if not known[cell]:
            raise ValueError(f"{table}: line {line} has no labels")
        clips.append(ClipFile(prefix + row["filename"], audio_dir, str(path.relative_to(audio_dir)), known[cell]))
    return clips


def held_out_names(table: Path, rule: str) -> set[str]:
    """File names whose row meets a rule such as `fold=4` or `fold=3,4`.

    Raises:
      ValueError: the rule is not COLUMN=VALUE, or the table lacks the column.
    """
    column, equals, values = rule.partition("=")
    if not equals:
        raise ValueError(f"--held-out {rule!r}: expected COLUMN=VALUE, such as fold=4")
    rows = files.read_table(table, ("filename", column))
    return {row["filename"] for _, row in rows if row[column] in values.split(",")}


def collect(
    audio_dirs: Sequence[Path], tables: Sequence[Path], metas: Sequence[Path] = (), held_out: str | None = None
) -> dict[str, list[ClipFile]]:
    """Lists the clips of each split.

    Of tables of file names all are in `train`, but for those held out, which are in `validation`; AudioSet's own
    tables have splits of their own, see `audioset_tables.split_of`.

    Args:
      audio_dirs: folders of recordings.
      tables: one weak-label table for each folder; of AudioSet's own, several may share one folder.
      metas: one table for each folder with the column that `held_out` names; the label tables unless given.
      held_out: such as `fold=4`; a folder may have none of it, as one that is for training alone.

    Raises:
      ValueError: the counts differ, two clips have one id, a table is wrong, nothing is held out though it was asked
        for, or no clip of a split has a file.
    """
    audio_dirs = [folder.absolute() for folder in audio_dirs]  # workers need not run in this folder
    own = [audioset_tables.is_audioset(table) for table in tables]
    if all(own) and len(audio_dirs) == 1:
        audio_dirs = audio_dirs * len(tables)
    if any(own) and (held_out or metas):
        raise ValueError(f"{tables[own.index(True)]}: AudioSet's tables have splits of their own; nothing is held out")
    metas = metas or tables
    if not len(audio_dirs) == len(tables) == len(metas):
        raise ValueError(f"{len(audio_dirs)} audio folders need as many label tables (and --meta tables)")
    names = [table.parent.name for table in tables]
    if len(set(names)) < len(names):
        names = list(map(str, range(len(tables))))
    segments = {
        table: audioset_tables.read_segments(table) for table, is_own in zip(tables, own, strict=True) if is_own
    }
    shared = audioset_tables.shared_ids(segments.values())
    list_folder = functools.cache(audioset_tables.list_folder)  # tables share folders
    splits: dict[str, list[ClipFile]] = {}
    trained_alone: list[Path] = []
    for audio_dir, table, meta, name in zip(audio_dirs, tables, metas, names, strict=True):
        if table in segments:
            found = audioset_tables.find_files(audio_dir, table, list_folder)
            in_table = progress.track(segments[table], f"matching {table.name}", len(segments[table]))
            clips = list(_find_segments(audio_dir, found, in_table, shared))
            of_table = {audioset_tables.split_of(table): clips}
        else:
            of_table = _by_fold(audio_dir, table, meta, held_out, f"{name}/" if len(tables) > 1 else "")
            if held_out and "validation" not in of_table:
                trained_alone.append(meta)
        for split, clips in of_table.items():
            splits.setdefault(split, []).extend(clips)
    if held_out and "validation" not in splits:
        raise ValueError(f"{', '.join(map(str, metas))}: no row has {held_out} and a file name of the label tables")
    for meta in trained_alone:
        logger.warning("%s: no clip has %s, all are for training", meta, held_out)
    _check_unique(clip.clip_id for clips in splits.values() for clip in clips)
    for split, of_split in splits.items():
        _check_some_file(split, of_split)
    return splits


def _by_fold(audio_dir: Path, table: Path, meta: Path, held_out: str | None, prefix: str) -> dict[str, list[ClipFile]]:
    """The clips of a table of file names that are for training, and those that are held out."""
    names = held_out_names(meta, held_out) if held_out else set()
    splits: dict[str, list[ClipFile]] = {"train": []}
    for clip in read_labels(table, audio_dir, prefix):
        split = "validation" if clip.clip_id.removeprefix(prefix) in names else "train"
        splits.setdefault(split, []).append(clip)
    return splits


def _find_segments(
    root: Path, found: Mapping[str, tuple[Path, str]], segments: Iterable[audioset_tables.Segment], shared: set[str]
) -> Iterator[ClipFile]:
    """The recordings of the segments of an AudioSet table, without a file name where there is no file."""
    nowhere = (root, "")
    for segment in segments:
        is_shared = segment.youtube_id in shared
        stem = next((stem for stem in audioset_tables.stems(segment, is_shared) if stem in found), "")
        folder, name = found.get(stem, nowhere)
        start, end = float(segment.start), float(segment.end)
        clip_id = f"{segment.youtube_id}_{start:g}" if is_shared else segment.youtube_id
        yield ClipFile(clip_id, folder, name, segment.labels, end - start)


def _check_unique(clip_ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for clip_id in clip_ids:
        if clip_id in seen:
            raise ValueError(f"two clips are called {clip_id!r}")
        seen.add(clip_id)


def _check_some_file(split: str, clips: Sequence[ClipFile]) -> None:
    """Tells of a wrong folder now, and not after hours of storing other splits."""
    if clips and not any(clip.name for clip in clips):
        first = clips[0]
        raise ValueError(
            f"{split}: none of {len(clips)} clips has a file in {first.folder}; the first: {first.clip_id} "
            f"(looked for {' '.join(EXTENSIONS)}; convert m4a and webm)"
        )
