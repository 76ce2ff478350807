"""Two results side by side, item by item."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import journal, summary
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.report import plain
from uss_jax.evaluation.summary import Scores

ESTIMATES = "estimates"  # the query of a result of another system's estimates


@dataclasses.dataclass(frozen=True)
class Paths:
    """The files of one result; all have the name of the JSON file."""

    result: Path

    @property
    def mixtures(self) -> Path:
        """The list of items."""
        return self.result.with_suffix(".mixtures.csv")

    @property
    def journal(self) -> Path:
        """The scores of every item."""
        return self.result.with_suffix(".journal.jsonl")

    @property
    def table(self) -> Path:
        """The result in Markdown."""
        return self.result.with_suffix(".md")

    @property
    def picture(self) -> Path:
        """The classes as a picture."""
        return self.result.with_suffix(".png")


def compare(first: Path, second: Path) -> str:
    """A paired comparison of two results on the items that both have scored, as a Markdown table.

    Raises:
      ValueError: a file is missing, or the results are of different benchmarks, protocols or items.
    """
    results = [_read_result(path) for path in (first, second)]
    for key in ("benchmark", "query"):
        values = [result[key] for result in results]
        if values[0] != values[1] and not (key == "query" and ESTIMATES in values):
            raise ValueError(f"{first} has the {key} {values[0]!r}, {second} {values[1]!r}: not to be compared")
    scored = [_read_scores(Paths(path)) for path in (first, second)]
    common = [item for item in scored[0] if item in scored[1]]
    if not common:
        raise ValueError(f"{first} and {second} have no item in common; use one list (--mixtures)")
    rows = [{place: of_result[item] for place, item in enumerate(common)} for of_result in scored]
    one, other = (summary.by_label(common, of_result, "estimate") for of_result in rows)
    names = [plain(f"{result['model']}, {result['query']}") for result in results]
    lines = [
        f"{results[0]['benchmark']}: {len(common)} items of {len(one)} classes, scored by both; 95 % intervals",
        "",
        f"| | {names[0]} | {names[1]} | difference | second is better |",
        "| --- | --- | --- | --- | --- |",
    ]
    # Both are drawn alike: every sample holds the same items of each.
    drawn, others_drawn = summary.draw_medians(one), summary.draw_medians(other)
    sure = any(len(np.unique(scores.recordings)) > 1 for scores in one.values())
    for metric in results[0]["mean"]:
        if metric in drawn and metric in others_drawn:
            gain = (others_drawn[metric] - drawn[metric]).mean(axis=0)
            lines.append(_line(metric, one, other, summary.interval(gain) if sure else None))
    return "\n".join(lines) + "\n"


def _line(metric: str, one: Mapping[str, Scores], other: Mapping[str, Scores], interval: list[float] | None) -> str:
    values = [[scores.values[metric] for scores in of.values()] for of in (one, other)]
    means = [float(np.mean([np.median(of_label) for of_label in several])) for several in values]
    gains = np.concatenate(values[1]) - np.concatenate(values[0])
    better = float(np.mean(gains > 0) + 0.5 * np.mean(gains == 0))
    difference = f"{means[1] - means[0]:+.2f}"
    if interval:
        difference += f" ({interval[0]:+.2f} … {interval[1]:+.2f})"
    return f"| {metric} | {means[0]:.2f} | {means[1]:.2f} | {difference} | {better:.0%} of items |"


def _read_result(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({type(error).__name__})") from error
    kinds = {"benchmark": str, "model": str, "query": str, "mean": dict}
    if not isinstance(result, dict) or not all(isinstance(result.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"{path}: not a result of eval.py")
    return result


def _read_scores(paths: Paths) -> dict[Item, dict[str, Any]]:
    """The journal's rows of all items with scores."""
    listed = item_lists.read_list(paths.mixtures)
    digest, rows = journal.read(paths.journal)
    if digest != item_lists.digest(listed):
        raise ValueError(f"{paths.mixtures}: not the list that {paths.journal} was made with")
    found = {item: rows.get(place, {}) for item, place in zip(listed, item_lists.firsts(listed), strict=True)}
    return {item: row for item, row in found.items() if "estimate" in row}
