"""A result to look at: a table in Markdown, and a picture of the classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import files

MOST_NAMES = 60  # classes whose names fit into the picture
LONGEST_NAME = 40  # characters of a class's name in the picture
MOST_LEFT_OUT = 20  # lines of what was left out; the JSON file has all

SIGNAL_NAMES = {"mixture": "the mixture as it is", "ideal_ratio_mask": "ideal ratio mask (knows the truth)"}


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables."""
    columns = list(result["mean"])
    bounds = result["intervals"]
    lines = [
        f"# {result['benchmark']}: {result['model']}, {result['query']} query",
        "",
        f"{result['n']} items of {len(result['per_class'])} classes, {result['distinct_mixtures']} different mixtures."
        " Median over the items of a class, then mean over the classes; 95 % bootstrap intervals over recordings.",
        "",
        *_head("", columns),
        _row("**mean**", [_value(result["mean"][c], bounds["mean"][c]) for c in columns]),
    ]
    for signal, name in SIGNAL_NAMES.items():
        if signal in result:
            lines.append(_row(name, [_value(result[signal]["mean"].get(c)) for c in columns]))
    lines += ["", *_head("class", [*columns, "n"])]
    for label, row in result["per_class"].items():
        of_class = bounds["per_class"][label]
        lines.append(_row(label, [*(_value(row[c], of_class[c]) for c in columns), str(row["n"])]))
    for key in result:
        if key.startswith("per_") and key != "per_class":
            lines += ["", *_head(key.removeprefix("per_"), [*columns, "n"])]
            lines += [_row(k, [*(_value(row[c]) for c in columns), str(row["n"])]) for k, row in result[key].items()]
    left_out, silent = result["left_out"], sum(result["silent_estimates"].values())
    lines += ["", f"Silent estimates: {silent}. Left out: {left_out['items']} items; {left_out['count']} names."]
    shown = list(left_out["names"].items())[:MOST_LEFT_OUT]
    lines += ["", *(f"- {plain(name)}: {plain(why)}" for name, why in shown)] if shown else []
    return "\n".join(lines) + "\n"


def _head(first: str, columns: list[str]) -> list[str]:
    return [_row(first, columns), _row("---", ["---"] * len(columns))]


def _row(first: str, cells: list[str]) -> str:
    return "| " + " | ".join([plain(first), *cells]) + " |"


def plain(text: str) -> str:
    """Names come from the data: none may break a table."""
    return " ".join(text.replace("|", "/").split())


def _value(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return "–"
    shown, *ends = (f"{round(number, 2) + 0.0:.2f}" for number in (value, *(interval or ())))  # no −0.00
    return f"{shown} ({ends[0]} … {ends[1]})" if ends else shown


def plot(result: Mapping[str, Any], headline: str, path: Path) -> None:
    """Writes a PNG of one metric, the first whose name begins with `headline`: classes with intervals, best first.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric = next(metric for metric in result["mean"] if metric.startswith(headline))
    labels = sorted(result["per_class"], key=lambda label: -result["per_class"][label][metric])
    values = np.array([result["per_class"][label][metric] for label in labels])
    of_class = result["intervals"]["per_class"]
    ends = np.array([of_class[label][metric] or [np.nan, np.nan] for label in labels]).T
    bounds = result.get("ideal_ratio_mask", {}).get("per_class", {})
    limits = np.array([bounds[label][metric] if label in bounds else np.nan for label in labels])

    places = np.arange(len(labels))
    few = len(labels) <= MOST_NAMES
    figure = Figure(figsize=(8, 1.5 + 0.22 * len(labels)) if few else (8, 5), layout="constrained")
    axes = figure.subplots()
    if few:
        axes.barh(places, values, color="tab:blue")
        axes.hlines(places, *ends, color="0.3")
        axes.plot(limits, places, "k|", label=SIGNAL_NAMES["ideal_ratio_mask"])
        axes.axvline(result["mean"][metric], linestyle=":", color="0.3")
        axes.set_yticks(places, [plain(label)[:LONGEST_NAME] for label in labels], fontsize=8, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel(f"{metric} (dotted: mean)")
    else:
        axes.fill_between(places, *ends, color="tab:blue", alpha=0.25)
        axes.plot(places, values, color="tab:blue")
        axes.plot(places, limits, "k.", markersize=2, label=SIGNAL_NAMES["ideal_ratio_mask"])
        axes.axhline(result["mean"][metric], linestyle=":", color="0.3")
        axes.set(xlabel="class, best first", ylabel=f"{metric} (dotted: mean)")
    axes.set_title(f"{result['benchmark']}: {result['model']}, {result['query']} query", parse_math=False)
    if bounds:
        figure.legend(loc="outside lower right")
    with files.new_file(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
