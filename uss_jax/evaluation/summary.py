"""From the scores of items to a result: medians of classes, their mean, and how sure they are."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from uss_jax import __version__
from uss_jax.evaluation.items import Item, firsts

PACKAGES = ("jax", "flax", "numpy")
DRAWS = 1000  # of the bootstrap
LEVELS = (2.5, 97.5)  # percentiles: a 95 % interval
SIGNALS = ("estimate", "mixture", "ideal_ratio_mask")


def versions() -> dict[str, str]:
    """Versions of this package, installed or not, and of those that a result depends on besides."""
    return {"uss-jax": __version__} | {name: metadata.version(name) for name in PACKAGES}


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of the items of one label.

    Attributes:
      values: (items,) by metric.
      recordings: (items,), the number of the recording that an item is cut from, the same in all labels.
    """

    values: dict[str, np.ndarray]
    recordings: np.ndarray


def by_label(
    items: Sequence[Item], rows: Mapping[int, Mapping[str, Any]], signal: str, key: str = "label"
) -> dict[str, Scores]:
    """The scores of a signal.

    Args:
      items: the list.
      rows: of the journal; an item has the row of the first of its equals.
      signal: one of `SIGNALS`.
      key: `label` or `group`, by which they are put together.
    """
    numbers: dict[str, int] = {}
    found: dict[str, list[tuple[Mapping[str, float], int]]] = {}
    for item, place in zip(items, firsts(items), strict=True):
        if signal in rows[place]:
            number = numbers.setdefault(item.recording, len(numbers))
            found.setdefault(getattr(item, key), []).append((rows[place][signal], number))
    return {
        label: Scores(
            {metric: np.array([scores[metric] for scores, _ in several]) for metric in several[0][0]},
            np.array([number for _, number in several]),
        )
        for label, several in found.items()
    }


def medians(scores: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """The median of every metric over a label's items, and their number `n`."""
    return {
        label: {metric: float(np.median(values)) for metric, values in of_label.values.items()}
        | {"n": len(of_label.recordings)}
        for label, of_label in scores.items()
    }


def mean(per_class: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of the labels' medians, by metric."""
    rows = list(per_class.values())
    return {
        metric: float(np.mean([row[metric] for row in rows])) for metric in (rows[0] if rows else {}) if metric != "n"
    }


def draw_recordings(scores: Mapping[str, Scores]) -> np.ndarray:
    """How often each recording is in each sample of as many, drawn with replacement: (draws, recordings), uint8."""
    count = 1 + max(int(of_label.recordings.max()) for of_label in scores.values())
    random = np.random.default_rng(0)
    samples = (np.bincount(random.integers(count, size=count), minlength=count) for _ in range(DRAWS))
    return np.stack([sample.astype(np.uint8) for sample in samples])


def bootstrap_medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Medians of samples drawn anew: (items,) and how often each item is drawn, (draws, items) → (draws,).

    Where a sample has none of the items, the median of them all.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[:, order], axis=1, dtype=np.int64)  # how many of a sample are up to this item
    total = reached[:, -1:]
    lower, upper = (np.argmax(reached >= half, axis=1) for half in ((total + 1) // 2, total // 2 + 1))
    return np.where(total[:, 0] > 0, (values[order][lower] + values[order][upper]) / 2, np.median(values))


def draw_medians(scores: Mapping[str, Scores]) -> dict[str, np.ndarray]:
    """Medians of every label in the samples, by metric: (labels, draws).

    Recordings are drawn with all their items, in all labels at once: items that are cut from one recording, or are the
    same mixture twice, say less than as many that are not.
    """
    drawn = draw_recordings(scores)
    metrics = next(iter(scores.values())).values
    return {
        metric: np.stack([bootstrap_medians(x.values[metric], drawn[:, x.recordings]) for x in scores.values()])
        for metric in metrics
    }


def intervals(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """95 % bootstrap intervals, `mean` and `per_class`.

    The classes are taken as given: an interval tells what other recordings of the same classes might have shown. A
    class of one recording cannot tell, and has None; so has the mean if no class can.
    """
    drawn = draw_medians(scores)
    sure = [len(np.unique(of_label.recordings)) > 1 for of_label in scores.values()]
    return {
        "mean": {m: interval(draws.mean(axis=0)) if any(sure) else None for m, draws in drawn.items()},
        "per_class": {
            label: {m: interval(draws[row]) if sure[row] else None for m, draws in drawn.items()}
            for row, label in enumerate(scores)
        },
    }


def interval(draws: np.ndarray) -> list[float]:
    """Lower and upper end of a 95 % interval."""
    return [float(end) for end in np.percentile(draws, LEVELS)]


def summarise(
    items: Sequence[Item],
    rows: Mapping[int, Mapping[str, Any]],
    left_out: Mapping[str, str],
    heading: Mapping[str, Any],
    group_name: str = "",
) -> dict[str, Any]:
    """The result: what `R.json` holds.

    Args:
      items: the list.
      rows: the journal's, of all items.
      left_out: what never became an item, and why.
      heading: `benchmark`, `model`, `query`, and what else stands first.
      group_name: what the items' groups are.

    Raises:
      ValueError: no item has scores.
    """
    places = firsts(items)
    scores = by_label(items, rows, "estimate")
    if not scores:
        why = next((rows[place]["left_out"] for place in places), "there are none")
        raise ValueError(f"none of {len(items)} items could be scored; the first: {why}")
    per_class = medians(scores)
    result = dict(heading) | {
        "n": sum(row["n"] for row in per_class.values()),
        "mean": mean(per_class),
        "per_class": per_class,
        "intervals": intervals(scores),
    }
    if group_name:
        result[f"per_{group_name}"] = medians(by_label(items, rows, "estimate", "group"))
    for signal in SIGNALS[1:]:
        if of_signal := medians(by_label(items, rows, signal)):
            result[signal] = {"mean": mean(of_signal), "per_class": of_signal}
    names = dict(left_out)
    for item, place in zip(items, places, strict=True):
        if "left_out" in rows[place]:
            names[f"{item.label}, {item.index}: {item.source}"] = rows[place]["left_out"]
    silent = [item.label for item, place in zip(items, places, strict=True) if "silent_estimate" in rows[place]]
    result["mean_over_items"] = {
        metric: float(np.mean(np.concatenate([x.values[metric] for x in scores.values()]))) for metric in result["mean"]
    }
    result["distinct_mixtures"] = len(set(places))
    result["silent_estimates"] = {label: silent.count(label) for label in dict.fromkeys(silent)}
    result["left_out"] = {
        "count": len(names),
        "items": len(items) - result["n"],
        "classes": [label for label in dict.fromkeys(item.label for item in items) if label not in per_class],
        "names": names,
    }
    return result
