"""AudioSet's own tables of segments, and the files that download tools make of them.

A table begins with comments (`#`), and has lines `YTID, start_seconds, end_seconds, "mid,mid"`.
"""

import csv
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from uss_jax import audioset, progress
from uss_jax.audio import EXTENSIONS

UNBALANCED = "unbalanced_train_segments"
SPLITS = {"eval_segments": "validation", UNBALANCED: "unbalanced"}


class Segment(NamedTuple):
    """A line of a table: `start` and `end` in seconds, as they are written there."""

    youtube_id: str
    start: str
    end: str
    labels: tuple[int, ...]


def is_audioset(table: Path) -> bool:
    """Whether a table begins with a comment."""
    try:
        with table.open("rb") as file:
            return file.readline().removeprefix(b"\xef\xbb\xbf").startswith(b"#")
    except OSError as error:
        raise ValueError(f"{table}: " + ("cannot be read" if os.path.lexists(table) else "no such file")) from error


def split_of(table: Path) -> str:
    """`validation` for the evaluation set, `unbalanced` for it and its parts (`…_part07`), `train` for any other."""
    return next((split for stem, split in SPLITS.items() if table.stem.startswith(stem)), "train")


def read_segments(table: Path) -> list[Segment]:
    """Reads a table.

    Raises:
      ValueError: a line is not of this form, or has no or an unknown label; the message names the line.
    """
    index = {sound.mid: sound.index for sound in audioset.classes()}
    known: dict[str, tuple[int, ...]] = {}  # two million lines have far fewer sets of labels
    segments = []
    line = 0
    try:
        with table.open("rb") as content:
            lines = sum(1 for _ in content)
        with table.open(encoding="utf-8-sig", newline="") as file, progress.bar() as display:
            text = display.track(file, total=lines, description=f"reading {table.name}")
            reader = csv.reader(text, skipinitialspace=True)
            for row in reader:
                line = reader.line_num
                if not row or row[0].startswith("#"):
                    continue
                youtube_id, start, end, mids = row
                if mids not in known:
                    known[mids] = tuple(sorted({index[mid.strip()] for mid in mids.split(",")}))
                if not youtube_id or not 0 <= float(start) < float(end) < math.inf:
                    raise ValueError
                segments.append(Segment(youtube_id, sys.intern(start), sys.intern(end), known[mids]))
    except KeyError as error:
        raise ValueError(f"{table}: line {line}: {error.args[0]!r} is no mid of the 527 classes") from error
    except (ValueError, csv.Error) as error:
        raise ValueError(f'{table}: line {line}: expected YTID, start, end, "mid,mid"') from error
    return segments


def find_files(
    root: Path, table: Path, list_folder: Callable[[Path], dict[str, tuple[Path, str]]]
) -> dict[str, tuple[Path, str]]:
    """The audio files that may be those of a table, by their names without extension: folder and name.

    They lie in `root/<table stem>`, in `root` itself, or, of the unbalanced set, in `unbalanced_train_segments*` there
    or in `root/unbalanced_train_segments`. Of files of one name the first in this order counts.

    Args:
      root: the folder.
      table: the table.
      list_folder: the function below, or one that remembers what it returned for other tables.

    Raises:
      ValueError: there is no such root.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    folders = [root / table.stem, root]
    if split_of(table) == "unbalanced":
        folders += [*sorted(root.glob(f"{UNBALANCED}*")), *sorted((root / UNBALANCED).glob(f"{UNBALANCED}*"))]
    found: dict[str, tuple[Path, str]] = {}
    for folder in reversed(list(dict.fromkeys(folders))):
        if folder.is_dir():
            found.update(list_folder(folder))
    return found


def list_folder(folder: Path) -> dict[str, tuple[Path, str]]:
    """The audio files of a folder by their names without extension: folder and name.

    To list it is quick; to ask for every file of two million takes hours on some disks.
    """
    with progress.bar() as display, os.scandir(folder) as entries:
        listed = display.track(entries, description=f"listing {folder.name}")
        names = sorted((entry.name for entry in listed if entry.name.lower().endswith(EXTENSIONS)), reverse=True)
    return {os.path.splitext(name)[0]: (folder, name) for name in names}  # of one name the first in order


def stems(segment: Segment, is_shared: bool) -> Iterator[str]:
    """What the file of a segment may be called: `YTID`, `YYTID`, `YTID_START`, `YTID_START_END`; seconds or ms.

    Args:
      segment: of a table.
      is_shared: whether the recording has other segments too, so that its id alone will not do.
    """
    youtube_id, start, end, _ = segment
    if not is_shared:
        yield youtube_id
        yield f"Y{youtube_id}"  # as the reference has them
    from_s, to_s = float(start), float(end)
    for first, last in ((start, end), (f"{from_s:g}", f"{to_s:g}"), (f"{1000 * from_s:.0f}", f"{1000 * to_s:.0f}")):
        yield f"{youtube_id}_{first}_{last}"
        yield f"{youtube_id}_{first}"


def shared_ids(tables: Iterable[Sequence[Segment]]) -> set[str]:
    """Recordings of which there are several segments."""
    seen: set[str] = set()
    shared: set[str] = set()
    for segments in tables:
        for segment in segments:
            (shared if segment.youtube_id in seen else seen).add(segment.youtube_id)
    return shared
