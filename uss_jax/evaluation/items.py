"""What a benchmark separates: a list of items, which is a table that can be kept, read and given to others."""

import csv
import dataclasses
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path

from uss_jax import files


@dataclasses.dataclass(frozen=True)
class Item:
    """One source in one mixture.

    The mixture is either a recording of its own (`mixture`), or the source and a scaled partner (`partner`).

    Attributes:
      label: what is to be separated, in the benchmark's words.
      index: number of the item within its label.
      source: the file of the source in the folder of the data, or the id of a clip in a dataset.
      start_s: where the source and its mixture begin in their files, in seconds.
      mixture: file of the recording that the source is a part of, or "".
      partner: file or clip of the other sound of a made mixture, or "".
      partner_start_s: where it begins.
      partner_gain: factor on the partner.
      group: a coarser label, or "".
    """

    label: str
    index: int
    source: str
    start_s: float = 0.0
    mixture: str = ""
    partner: str = ""
    partner_start_s: float = 0.0
    partner_gain: float = 0.0
    group: str = ""

    @property
    def recording(self) -> str:
        """What items that are not independent of one another have in common: the recording that they are cut from."""
        return self.mixture or self.source

    @property
    def content(self) -> "Item":
        """The same for items that differ in nothing but their number; a list may hold a mixture several times."""
        return dataclasses.replace(self, index=0)

    @property
    def alone(self) -> "Item":
        """The same for items that have the same source."""
        return dataclasses.replace(self.content, partner="", partner_start_s=0.0, partner_gain=0.0)


COLUMNS = tuple(field.name for field in dataclasses.fields(Item))
NUMBER_COLUMNS = ("start_s", "partner_start_s", "partner_gain")


def numbered(items: Sequence[Item]) -> list[Item]:
    """The items label by label, in order of first appearance, numbered from 0 within each."""
    of_label: dict[str, list[Item]] = {}
    for item in items:
        of_label.setdefault(item.label, []).append(item)
    return [dataclasses.replace(item, index=i) for several in of_label.values() for i, item in enumerate(several)]


def firsts(items: Sequence[Item]) -> list[int]:
    """For every item the place of the first that equals it but for the number: that one is separated for them all."""
    first: dict[Item, int] = {}
    return [first.setdefault(item.content, place) for place, item in enumerate(items)]


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, taken from all labels in turn, in the order of the list."""
    if limit is None or limit >= len(items):
        return list(items)
    turns: dict[str, int] = {}
    turn_of = []
    for item in items:
        turn_of.append(turns.get(item.label, 0))
        turns[item.label] = turn_of[-1] + 1
    kept = sorted(range(len(items)), key=lambda i: (turn_of[i], i))[:limit]
    return [items[i] for i in sorted(kept)]


def to_csv(items: Sequence[Item]) -> str:
    """The list as a table that reads back to the bit: text is quoted, so that no space or line break in it is lost."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(COLUMNS)
    table.writerows(dataclasses.astuple(item) for item in items)
    return text.getvalue()


def digest(items: Sequence[Item]) -> str:
    """SHA-256 of the list: two results were measured on the same items where theirs are equal."""
    return hashlib.sha256(to_csv(items).encode()).hexdigest()


def is_text(item: Item) -> bool:
    """Whether its names are text that can be written; names of files need not be."""
    try:
        return bool(to_csv([item]).encode())
    except UnicodeEncodeError:
        return False


def read_list(path: Path) -> list[Item]:
    """Reads a list that `to_csv` wrote.

    Raises:
      ValueError: it is missing, has not the columns, or a cell is wrong; the message names the line.
    """
    rows = files.read_table(path, COLUMNS)
    items: list[Item] = []
    lines: dict[tuple[str, int], int] = {}
    for line, row in rows:
        try:
            numbers = {column: float(row[column]) for column in NUMBER_COLUMNS}
            index = int(row["index"])
        except ValueError as error:
            raise ValueError(f"{path}: line {line}: {error}") from error
        if index < 0 or not all(math.isfinite(x) and x >= 0 for x in numbers.values()):
            raise ValueError(f"{path}: line {line}: expected finite numbers from 0")
        texts = {column: row[column] for column in COLUMNS if column not in (*NUMBER_COLUMNS, "index")}
        if not texts["label"] or not texts["source"]:
            raise ValueError(f"{path}: line {line}: an item needs a label and a source")
        items.append(Item(index=index, **texts, **numbers))  # type: ignore[arg-type]
        if lines.setdefault((items[-1].label, items[-1].index), line) != line:
            raise ValueError(f"{path}: line {line}: the same label and index as in an earlier line")
    if not items:
        raise ValueError(f"{path}: lists no items")
    return items
