"""The AudioSet class list and ontology: what a sound may be called.

`tables/classes.csv` holds the 527 classes in the order of every released tagger; `tables/ontology.csv` holds the 632
nodes of the ontology. Both are facts of AudioSet (Google, CC BY-SA 4.0).
"""

import csv
import dataclasses
import difflib
import functools
import importlib.resources
from collections.abc import Iterable, Iterator

import numpy as np

CLASS_COUNT = 527


@dataclasses.dataclass(frozen=True)
class SoundClass:
    """One of the 527 classes: `index` is its place in a tagger's output, `mid` its machine id."""

    index: int
    mid: str
    name: str


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of the ontology tree.

    Attributes:
      mid: machine id, such as `/m/0bt9lr`.
      name: such as `Dog`.
      level: distance from the root; the seven top categories are level 1.
      class_indices: the classes at or below this node, sorted; empty for a few abstract nodes.
      parent: machine id of the parent, or None at level 1.
    """

    mid: str
    name: str
    level: int
    class_indices: tuple[int, ...]
    parent: str | None


def _rows(table: str) -> Iterator[dict[str, str]]:
    with importlib.resources.files("uss_jax").joinpath("tables", table).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


@functools.cache
def classes() -> tuple[SoundClass, ...]:
    """The 527 classes in their standard order."""
    return tuple(SoundClass(int(row["index"]), row["mid"], row["name"]) for row in _rows("classes.csv"))


@functools.cache
def nodes() -> dict[str, Node]:
    """The ontology as a tree, by machine id, in depth-first order.

    38 nodes have several parents. As in the reference, each stands once, under the first parent that a depth-first
    walk meets.
    """
    rows = {row["mid"]: row for row in _rows("ontology.csv")}
    children = {mid: [child for child in row["children"].split(";") if child] for mid, row in rows.items()}
    has_parent = {child for several in children.values() for child in several}
    tree: dict[str, Node] = {}

    def place(mid: str, parent: str | None, level: int) -> set[int]:
        row = rows[mid]
        tree[mid] = Node(mid, row["name"], level, (), parent)  # holds the place, so that the order is depth-first
        covered = {int(row["class_index"])} if row["class_index"] else set()
        for child in children[mid]:
            if child not in tree:
                covered |= place(child, mid, level + 1)
        tree[mid] = dataclasses.replace(tree[mid], class_indices=tuple(sorted(covered)))
        return covered

    for mid in rows:
        if mid not in has_parent:
            place(mid, None, 1)
    return tree


def nodes_at(level: int) -> tuple[Node, ...]:
    """The nodes of one ontology level that cover at least one class."""
    return tuple(node for node in nodes().values() if node.level == level and node.class_indices)


def deepest_level() -> int:
    """The greatest level of the ontology."""
    return max(node.level for node in nodes().values())


def find_class(query: str | int) -> SoundClass:
    """The class with this name (any case), index or machine id.

    Raises:
      ValueError: there is none; the message names the nearest class names.
    """
    text = str(query).strip()
    if text.isdecimal():
        if int(text) < CLASS_COUNT:
            return classes()[int(text)]
        raise ValueError(f"there is no class {text}: class indices run from 0 to {CLASS_COUNT - 1}")
    for sound in classes():
        if text == sound.mid or text.casefold() == sound.name.casefold():
            return sound
    names = {sound.name.casefold(): sound.name for sound in classes()}
    near = difflib.get_close_matches(text.casefold(), names, n=3, cutoff=0.5)
    near += [name for name in names if len(text) > 2 and text.casefold() in name and name not in near][: 3 - len(near)]
    hint = f"; did you mean {', '.join(repr(names[name]) for name in near)}?" if near else ""
    raise ValueError(f"{text!r} is not an AudioSet class name, index or mid{hint}")


def parse_labels(text: str) -> tuple[int, ...]:
    """Class indices of a label cell: machine ids or names, separated by commas or semicolons.

    Names that hold a comma themselves ("Male speech, man speaking") are recognised, longest first.

    Raises:
      ValueError: a part is no class.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    parts = [part for part in parts if part]
    found: list[int] = []
    while parts:
        found.append(_take_class(parts))
    return tuple(sorted(set(found)))


def _take_class(parts: list[str]) -> int:
    """Removes the longest class name (in parts between commas) from the front of `parts` and returns its index."""
    for count in range(min(len(parts), 4), 1, -1):
        name = ", ".join(parts[:count]).casefold()
        match = next((sound for sound in classes() if sound.name.casefold() == name), None)
        if match:
            del parts[:count]
            return match.index
    return find_class(parts.pop(0)).index


def class_names(indices: Iterable[int]) -> list[str]:
    """Names of class indices."""
    return [classes()[index].name for index in indices]


def multi_hot(labels: np.ndarray) -> np.ndarray:
    """1 at each of these class indices, 0 elsewhere: (labels,) → (classes,), float32."""
    hot = np.zeros(CLASS_COUNT, np.float32)
    hot[labels] = 1.0
    return hot


def disjoint(labels: Iterable[int], others: Iterable[int]) -> bool:
    """Whether two label sets share no class."""
    return not set(labels) & set(others)
