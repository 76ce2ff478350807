"""A result to look at: a table in Markdown, and a picture of the classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uss_jax import files

MOST_NAMES = 60  # classes whose names fit into the picture
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
    lines += ["", *(f"- {_plain(name)}: {_plain(why)}" for name, why in shown)] if shown else []
    return "\n".join(lines) + "\n"


def _head(first: str, columns: list[str]) -> list[str]:
    return [_row(first, columns), _row("---", ["---"] * len(columns))]


def _row(first: str, cells: list[str]) -> str:
    return "| " + " | ".join([_plain(first), *cells]) + " |"


def _plain(text: str) -> str:
    """Names come from the data: none may break a table."""
    return " ".join(text.replace("|", "/").split())


def _value(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + (f" ({interval[0]:.2f} … {interval[1]:.2f})" if interval else "")


def plot(result: Mapping[str, Any], metric: str, path: Path) -> None:
    """Writes a PNG of one metric: a bar for each class with its interval, best first; a curve where they are many.

    Raises:
      ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = sorted(result["per_class"], key=lambda label: -result["per_class"][label][metric])
    values = [result["per_class"][label][metric] for label in labels]
    few = len(labels) <= MOST_NAMES
    figure = Figure(figsize=(8, 1.5 + 0.22 * len(labels)) if few else (8, 5), layout="constrained")
    axes = figure.subplots()
    places = range(len(labels))
    ends = [
        result["intervals"]["per_class"][label][metric] or [value] * 2
        for label, value in zip(labels, values, strict=True)
    ]
    error = [[max(0.0, v - low), max(0.0, high - v)] for v, (low, high) in zip(values, ends, strict=True)]
    spread = list(zip(*error, strict=True))
    bound = result.get("ideal_ratio_mask", {}).get("per_class", {})
    known = [i for i in places if labels[i] in bound]
    limits = [bound[labels[i]][metric] for i in known]
    if few:
        axes.barh(places, values, xerr=spread, color="tab:blue", ecolor="0.3")
        axes.plot(limits, known, "k|", label="ideal ratio mask") if known else None
        axes.set_yticks(places, [_plain(label)[:40].replace("$", r"\$") for label in labels], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(metric)
    else:
        lower, upper = zip(*ends, strict=True)
        axes.fill_between(places, lower, upper, color="tab:blue", alpha=0.25)
        axes.plot(places, values, color="tab:blue")
        axes.plot(known, limits, "k.", markersize=2, label="ideal ratio mask") if known else None
        axes.set(xlabel="class, best first", ylabel=metric)
    axes.axline((result["mean"][metric], 0), (result["mean"][metric], 1), ls=":", color="0.3") if few else axes.axhline(
        result["mean"][metric], ls=":", color="0.3"
    )
    axes.set_title(f"{result['benchmark']}: {result['model']}, {result['query']} query")
    if known:
        axes.legend()
    with files.new_file(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
