"""The table of a study: a row for each cell, over its seeds, with intervals, and how far it is from a base."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import files
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import journal, summary
from uss_jax.evaluation.compare import Paths
from uss_jax.grid.cells import Cell
from uss_jax.grid.plan import RESULT, Study

METRIC = "sdri"


def collect(study: Study, cells: Mapping[str, Cell], seeds: Sequence[int], base: str | None) -> dict[str, Any]:
    """What the finished runs of a study say; the base comes first, and the others are compared with it.

    Returns:
      `taggers` and `separators`, a row for each cell of which something is done, in JSON's types.
    """
    taggers, separators = [], []
    for cell in cells.values():
        if cell.config["task"] == "tagger":
            path = study.workdir / "taggers" / cell.name / RESULT
            taggers += [_tagger_row(files.read_json(path))] if path.is_file() else []
        else:
            done = {seed: study.run(cell.name, seed) / RESULT for seed in seeds}
            found = {seed: files.read_json(path) for seed, path in done.items() if path.is_file()}
            separators += [_separator_row(study, found)] if found else []
    separators.sort(key=lambda row: row["name"] != base)
    compared = separators and separators[0]["name"] == base
    for row in separators[1:] if compared else ():
        for name, of_row in row["evaluations"].items():
            _compare(of_row, separators[0]["evaluations"].get(name))
    for row in separators:
        for of_row in row["evaluations"].values():
            del of_row["draws"]
    return {"taggers": taggers, "separators": separators}


def _tagger_row(result: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("name", "about", "parameters", "items_per_second", "mean", "device", "versions")
    return {"steps": result["config"]["steps"]} | {key: result[key] for key in kept}


def _separator_row(study: Study, by_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    results = list(by_seed.values())
    one = results[0]
    evaluations: dict[str, Any] = {}
    for name in study.evaluations:
        if all(name in result["mean"] for result in results):
            draws, mixtures = zip(
                *(_draws(Paths(study.result(one["name"], seed, name))) for seed in by_seed), strict=True
            )
            per_seed = {str(seed): result["mean"][name] for seed, result in by_seed.items()}
            over_seeds = _over_seeds(np.stack(draws))
            evaluations[name] = {
                "mean": {key: float(np.mean([x[key] for x in per_seed.values()])) for key in one["mean"][name]},
                "interval": summary.interval(over_seeds),
                "per_seed": per_seed,
                "mixtures": mixtures[0] if len(set(mixtures)) == 1 else None,
                "draws": over_seeds,
            }
    return {
        "name": one["name"],
        "about": one["about"],
        "steps": one["config"]["steps"],
        "batch_size": one["config"]["batch_size"],
        "parameters": one["parameters"],
        "trained": _trained(one),
        "items_per_second": float(np.median([result["items_per_second"] for result in results])),
        "device": one["device"],
        "versions": one["versions"],
        "evaluations": evaluations,
    }


def _trained(result: Mapping[str, Any]) -> int:
    """Parameters that were trained: all but those of the taggers that were not."""
    frozen = {"tagger", "sed"}
    return sum(count for part, count in result["parameters"].items() if part not in frozen)


def _draws(paths: Paths) -> tuple[np.ndarray, str]:
    """Means over the classes in bootstrap samples of the recordings, (draws,), and the digest of the items."""
    listed = item_lists.read_list(paths.mixtures)
    digest, rows = journal.read(paths.journal)
    scores = summary.by_label(listed, rows, "estimate")
    return summary.draw_medians(scores)[METRIC].mean(axis=0), digest


def _over_seeds(draws: np.ndarray) -> np.ndarray:
    """(seeds, draws) → (draws,): in each sample, as many seeds drawn with replacement, the same in all rows."""
    seeds, count = draws.shape
    chosen = np.random.default_rng(0).integers(seeds, size=(seeds, count))
    return np.take_along_axis(draws, chosen, axis=0).mean(axis=0)


def _compare(row: dict[str, Any], base: Mapping[str, Any] | None) -> None:
    """Adds the paired difference from the base, where both separated the same items with the same seeds."""
    if base is None or base["mixtures"] is None or row["mixtures"] != base["mixtures"]:
        return
    if row["per_seed"].keys() == base["per_seed"].keys():
        row["difference"] = row["mean"][METRIC] - base["mean"][METRIC]
        row["difference_interval"] = summary.interval(row["draws"] - base["draws"])


def markdown(collected: Mapping[str, Any]) -> str:
    """The tables of what `collect` returns."""
    parts = []
    if rows := collected["separators"]:
        names = list(rows[0]["evaluations"])
        head = ["config", "what", *(f"SDRi, {name}" for name in names), f"over `{rows[0]['name']}`"]
        parts.append(_table([*head, "trained parameters", "samples/s", "seeds"], [_cells(row, names) for row in rows]))
    if rows := collected["taggers"]:
        head = ["config", "what", "mAP", "top-1", "parameters", "samples/s"]
        parts.append(_table(head, [_tagger_cells(row) for row in rows]))
    return "\n".join(parts)


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    found = row["evaluations"]
    cells = [f"`{row['name']}`", row["about"]]
    for name in names:
        of_row = found.get(name)
        cells.append(f"{of_row['mean'][METRIC]:.2f} {_span(of_row['interval'])}" if of_row else "")
    main = found.get(names[0], {})
    cells.append(f"{main['difference']:+.2f} {_span(main['difference_interval'])}" if "difference" in main else "")
    seeds = len(main.get("per_seed", {}))
    return [*cells, f"{row['trained']:,}", f"{row['items_per_second']:.1f}", str(seeds)]


def _tagger_cells(row: Mapping[str, Any]) -> list[str]:
    scores = row["mean"]["tagging"]
    values = [f"{scores['average_precision']:.3f}", f"{scores['top1']:.3f}"]
    return [
        f"`{row['name']}`",
        row["about"],
        *values,
        f"{row['parameters']['tagger']:,}",
        f"{row['items_per_second']:.1f}",
    ]


def _span(interval: Sequence[float]) -> str:
    return f"({interval[0]:.2f} … {interval[1]:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def write(study: Study, cells: Mapping[str, Cell], seeds: Sequence[int], base: str | None, command: str) -> str:
    """Writes `table.json` and `table.md` into the workdir. Returns the latter."""
    collected = {"command": command, "per_class": study.per_class} | collect(study, cells, seeds, base)
    text = markdown(collected)
    files.write_json(Path(study.workdir) / "table.json", collected)
    files.write_text(Path(study.workdir) / "table.md", text)
    return text
