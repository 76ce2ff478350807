"""From the scores of items to a result: medians of classes, their mean, and how sure they are."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from uss_jax.evaluation.items import Item

PACKAGES = ("uss-jax", "jax", "flax", "numpy")
DRAWS = 1000  # of the bootstrap
LEVELS = (2.5, 97.5)  # percentiles: a 95 % interval
SIGNALS = ("estimate", "mixture", "ideal_ratio_mask")

Scores = dict[str, np.ndarray]


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: metadata.version(name) for name in packages}


def by_label(
    items: Sequence[Item], rows: Mapping[int, Mapping[str, Any]], signal: str, key: str = "label"
) -> dict[str, tuple[Scores, np.ndarray]]:
    """The scores of a signal, and the recordings they come from.

    Args:
      items: the list.
      rows: of the journal; an item has the row of the first of its equals.
      signal: one of `SIGNALS`.
      key: `label` or `group`, by which they are put together.

    Returns:
      For each label with scores: (items,) by metric, and the number of each item's recording, (items,).
    """
    first: dict[Item, int] = {}
    found: dict[str, list[tuple[Mapping[str, float], str]]] = {}
    for place, item in enumerate(items):
        row = rows[first.setdefault(item.content, place)]
        if signal in row:
            found.setdefault(getattr(item, key), []).append((row[signal], item.recording))
    return {
        label: (
            {metric: np.array([scores[metric] for scores, _ in pairs]) for metric in pairs[0][0]},
            np.unique([recording for _, recording in pairs], return_inverse=True)[1],
        )
        for label, pairs in found.items()
    }


def medians(scores: Mapping[str, tuple[Scores, np.ndarray]]) -> dict[str, dict[str, float]]:
    """The median of every metric over a label's items, and their number `n`."""
    return {
        label: {metric: float(np.median(values)) for metric, values in of_label.items()} | {"n": len(recordings)}
        for label, (of_label, recordings) in scores.items()
    }


def mean(per_class: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of the labels' medians, by metric."""
    rows = list(per_class.values())
    return {
        metric: float(np.mean([row[metric] for row in rows])) for metric in (rows[0] if rows else {}) if metric != "n"
    }


def bootstrap_medians(values: np.ndarray, recordings: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Medians of samples drawn anew: (items,) and (items,) → (draws,).

    Recordings are drawn with replacement, with all their items: items that are cut from one recording, or are the same
    mixture twice, say less than as many that are not.
    """
    count = int(recordings.max()) + 1
    chosen = random.integers(count, size=(DRAWS, count)) + count * np.arange(DRAWS)[:, None]
    drawn = np.bincount(chosen.ravel(), minlength=DRAWS * count).reshape(DRAWS, count)  # how often each recording
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(drawn[:, recordings[order]], axis=1)  # of a drawn sample, how many items are up to this one
    total = reached[:, -1:]
    lower, upper = (np.argmax(reached >= half, axis=1) for half in ((total + 1) // 2, total // 2 + 1))
    return (values[order][lower] + values[order][upper]) / 2


def intervals(scores: Mapping[str, tuple[Scores, np.ndarray]]) -> dict[str, Any]:
    """95 % bootstrap intervals, `mean` and `per_class`.

    The classes are taken as given: an interval tells what other recordings of the same classes might have shown. A
    class of one recording cannot tell, and has None; so has the mean if no class can.
    """
    random = np.random.default_rng(0)
    of_mean: dict[str, np.ndarray] = {}
    per_class: dict[str, dict[str, list[float] | None]] = {}
    for label, (of_label, recordings) in scores.items():
        state = random.bit_generator.state
        per_class[label] = {}
        for metric, values in of_label.items():
            random.bit_generator.state = state  # the same recordings for all metrics
            draws = bootstrap_medians(values, recordings, random)
            of_mean[metric] = of_mean.get(metric, 0.0) + draws / len(scores)
            per_class[label][metric] = interval(draws) if recordings.max() else None
    sure = any(recordings.max() for _, recordings in scores.values())
    return {
        "mean": {metric: interval(draws) if sure else None for metric, draws in of_mean.items()},
        "per_class": per_class,
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
    first: dict[Item, int] = {}
    firsts = [first.setdefault(item.content, place) for place, item in enumerate(items)]
    scores = by_label(items, rows, "estimate")
    if not scores:
        why = next((rows[place]["left_out"] for place in firsts), "there are none")
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
    for item, place in zip(items, firsts, strict=True):
        if "left_out" in rows[place]:
            names[f"{item.label}, {item.index}: {item.source}"] = rows[place]["left_out"]
    silent = [item.label for item, place in zip(items, firsts, strict=True) if "silent_estimate" in rows[place]]
    result["distinct_mixtures"] = len(first)
    result["silent_estimates"] = {label: silent.count(label) for label in dict.fromkeys(silent)}
    result["left_out"] = {"count": len(names), "items": len(items) - result["n"], "names": names}
    return result
