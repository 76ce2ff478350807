"""The AudioSet classes that the labels of benchmarks stand for.

`tables/benchmark_labels.csv` holds the labels of FSDKaggle2018, MUSDB18, Slakh2100 and VoiceBank-DEMAND, and why each
is mapped as it is. FSD50K needs no rows: its own vocabulary gives machine ids.
"""

import csv
import functools
import importlib.resources

SEPARATOR = " ; "  # between names of a cell: names themselves hold commas
EXCEPT = "not "


def _rows(table: str) -> list[dict[str, str]]:
    with importlib.resources.files("uss_jax").joinpath("tables", table).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@functools.cache
def _ontology() -> dict[str, dict[str, str]]:
    return {row["mid"]: row for row in _rows("ontology.csv")}


@functools.cache
def _cells() -> dict[tuple[str, str], str]:
    return {(row["benchmark"], row["label"]): row["classes"] for row in _rows("benchmark_labels.csv")}


def _covered(mid: str) -> set[int]:
    """The classes at or below a node.

    Unlike in `audioset.nodes`, a node with several parents is below each of them: Percussion covers Cowbell here,
    which the tree has under Cattle alone.
    """
    met: set[str] = set()
    ahead = [mid]
    while ahead:
        node = ahead.pop()
        if node not in met:  # also ends a cycle
            met.add(node)
            ahead += [child for child in _ontology()[node]["children"].split(";") if child]
    return {int(_ontology()[node]["class_index"]) for node in met if _ontology()[node]["class_index"]}


def classes_of(benchmark: str, label: str) -> tuple[int, ...]:
    """Class indices, sorted, that a label of a benchmark stands for, by the table.

    A cell is read from left to right: a name adds all classes at or below its node, `not` before it takes them away.

    Raises:
      ValueError: the table has no such label of this benchmark.
    """
    cell = _cells().get((benchmark, label))
    if cell is None:
        raise ValueError(f"the table of benchmark labels has no label {label!r} of a benchmark {benchmark!r}")
    mids = {row["name"]: mid for mid, row in _ontology().items()}
    found: set[int] = set()
    for name in cell.split(SEPARATOR):
        covered = _covered(mids[name.removeprefix(EXCEPT)])
        found = found - covered if name.startswith(EXCEPT) else found | covered
    return tuple(sorted(found))


def classes_of_mid(mid: str) -> tuple[int, ...]:
    """Class indices, sorted, at or below the node of the ontology with this machine id.

    Raises:
      ValueError: the ontology has no such node, or none of the 527 classes is at or below it, as for Crash cymbal.
    """
    if mid not in _ontology():
        raise ValueError(f"{mid!r} is not the machine id of a node of the AudioSet ontology")
    covered = _covered(mid)
    if not covered:
        raise ValueError(f"no AudioSet class is at or below {_ontology()[mid]['name']!r} ({mid})")
    return tuple(sorted(covered))
