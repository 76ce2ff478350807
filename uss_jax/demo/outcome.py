"""What a separation left in its folder, as the page shows it and as it is taken home."""

import dataclasses
import zipfile
from collections.abc import Sequence
from pathlib import Path

from uss_jax import audioset, files
from uss_jax.separated import Event


@dataclasses.dataclass(frozen=True)
class StemFile:
    """A stem that can be heard; `level` and `mid` as in `uss_jax.separated.Stem`."""

    name: str
    level: int | None
    mid: str | None
    path: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A result folder.

    Attributes:
      seconds: of the recording.
      stems: in the order of `timeline.json`, then the residual.
      events: what sounds when.
    """

    seconds: float
    stems: tuple[StemFile, ...]
    events: tuple[Event, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the tree.

    Attributes:
      name, level, mid: of the node, or class.
      depth: how many of its ancestors are in the tree.
      spans: (onset, offset, peak probability) of each stretch in which it is active; seconds.
      number: of its stem, once there is one.
    """

    name: str
    level: int | None
    mid: str | None
    depth: int = 0
    spans: list[tuple[float, float, float]] = dataclasses.field(default_factory=list)
    number: int | None = None


def read(folder: Path) -> Outcome:
    """Reads a result folder, see `uss_jax.results`."""
    timeline = files.read_json(folder / "timeline.json")
    stems = [
        StemFile(stem["name"], stem["level"], stem["mid"], files.inside(folder, stem["file"]))
        for stem in timeline["stems"]
    ]
    residual = StemFile("residual", None, None, folder / "residual.wav")
    return Outcome(timeline["seconds"], (*stems, residual), tuple(Event(**event) for event in timeline["events"]))


def rows(events: Sequence[Event], stems: Sequence[StemFile] = ()) -> list[Row]:
    """The tree of what was found: nodes depth first below the nearest ancestor that was found, then all else.

    Args:
      events: what sounds when.
      stems: those that are there, without the residual; numbered in this order.
    """
    found: dict[tuple[int | None, str], Row] = {}
    for event in events:
        row = found.setdefault((event.level, event.name), Row(event.name, event.level, event.mid))
        row.spans.append((event.onset_s, event.offset_s, event.peak_probability))
    for number, stem in enumerate(stems):
        key = (stem.level, stem.name)
        found[key] = dataclasses.replace(found.get(key, Row(stem.name, stem.level, stem.mid)), number=number)
    place = {mid: number for number, mid in enumerate(audioset.nodes())}
    in_tree = {row.mid: row for row in found.values() if row.level is not None and row.mid is not None}
    tree = []
    for mid in sorted(in_tree, key=place.__getitem__):
        depth = sum(ancestor in in_tree for ancestor in _ancestors(mid))
        tree.append(dataclasses.replace(in_tree[mid], depth=depth))
    return tree + [row for row in found.values() if row.level is None]


def _ancestors(mid: str) -> list[str]:
    nodes = audioset.nodes()
    above = []
    parent = nodes[mid].parent
    while parent is not None:
        above.append(parent)
        parent = nodes[parent].parent
    return above


def archive(folder: Path, path: Path, name: str) -> None:
    """Puts a result folder into a zip file, as a folder of this name; floats do not compress, so nothing is."""
    with files.new_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as whole:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                whole.write(file, f"{name}/{file.relative_to(folder).as_posix()}")
