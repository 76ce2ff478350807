"""The table of a study: a row for each cell, over its seeds, with intervals, and how far it is from a base."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import files
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import journal, summary
from uss_jax.evaluation.compare import Paths
from uss_jax.grid import results
from uss_jax.grid.plan import Job, Study

METRIC = "sdri"


def collect(study: Study, jobs: Iterable[Job], base: str | None) -> dict[str, Any]:
    """What the finished runs among these jobs say; the base comes first, and the others are compared with it.

    Returns:
      `taggers` and `separators`, a row for each cell of which something is done, in JSON's types.
    """
    taggers: list[dict[str, Any]] = []
    runs: dict[str, dict[int, dict[str, Any]]] = {}  # results by cell and seed
    for job in jobs:
        result = _finished(job, study)
        if result and job.kind == "tagger":
            taggers.append(_tagger_row(result))
        elif result:
            runs.setdefault(job.name, {})[job.seed] = result
    separators = [_separator_row(study, of_cell) for of_cell in runs.values()]
    separators.sort(key=lambda row: row["name"] != base)
    compared = bool(separators) and separators[0]["name"] == base
    for row in separators[1:] if compared else ():
        for name, of_row in row["evaluations"].items():
            _compare(of_row, separators[0]["evaluations"][name])
    for row in separators:
        for of_row in row["evaluations"].values():
            del of_row["draws"]
    return {"base": base if compared else None, "taggers": taggers, "separators": separators}


def _finished(job: Job, study: Study) -> dict[str, Any] | None:
    """The result of a job; None where it has none, or another run's is in its place, which doing it tells."""
    try:
        return results.read(job, study) if job.kind != "anchors" else None
    except ValueError:
        return None


def _tagger_row(result: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("name", "about", "parameters", "items_per_second", "mean", "device", "versions")
    return {"steps": result["config"]["steps"]} | {key: result[key] for key in kept}


def _separator_row(study: Study, by_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    one = next(iter(by_seed.values()))
    evaluations: dict[str, Any] = {}
    for name in study.evaluations:
        found = {str(seed): _draws_of(Paths(study.result(one["name"], seed, name))) for seed in by_seed}
        draws = {seed: of_seed for seed, (of_seed, _) in found.items()}
        scored = {digest for _, digest in found.values()}
        per_seed = {str(seed): result["mean"][name] for seed, result in by_seed.items()}
        evaluations[name] = {
            "mean": {key: float(np.mean([x[key] for x in per_seed.values()])) for key in one["mean"][name]},
            "interval": summary.interval(_over_seeds(np.stack(list(draws.values())))),
            "per_seed": per_seed,
            "scored": next(iter(scored)) if len(scored) == 1 else None,
            "draws": draws,
        }
    return {
        "name": one["name"],
        "about": one["about"],
        "steps": one["config"]["steps"],
        "batch_size": one["config"]["batch_size"],
        "parameters": one["parameters"],
        "trained": _trained(one),
        "items_per_second": float(np.median([result["items_per_second"] for result in by_seed.values()])),
        "device": " and ".join(sorted({result["device"] for result in by_seed.values()})),
        "versions": one["versions"],
        "evaluations": evaluations,
    }


def _trained(result: Mapping[str, Any]) -> int:
    """Parameters that were trained: all but those of the taggers that were not."""
    return sum(count for part, count in result["parameters"].items() if part not in ("tagger", "sed"))


def _draws_of(paths: Paths) -> tuple[np.ndarray, str]:
    """See `_draws`; of each result it is made once, or the table would take longer after every run."""
    return _draws(paths, paths.journal.stat().st_mtime_ns)


@functools.cache
def _draws(paths: Paths, written: int) -> tuple[np.ndarray, str]:
    """Means over the classes in bootstrap samples of the recordings, (draws,), and a digest of what was scored.

    Args:
      paths: of the result.
      written: when its scores were, so that newer ones are read.
    """
    del written
    listed = item_lists.read_list(paths.mixtures)
    _, rows = journal.read(paths.journal)
    places = item_lists.firsts(listed)
    scored = [item for item, place in zip(listed, places, strict=True) if "estimate" in rows[place]]
    scores = summary.by_label(listed, rows, "estimate")
    return summary.draw_medians(scores)[METRIC].mean(axis=0), item_lists.digest(scored)


def _over_seeds(draws: np.ndarray) -> np.ndarray:
    """(seeds, draws) → (draws,): in each sample, as many seeds drawn with replacement, the same ones in all rows.

    What is drawn from n seeds varies by n − 1 n-ths of what seeds do, and is spread by as much. Of a single seed
    nothing is known of others: intervals are over recordings alone.
    """
    seeds, count = draws.shape
    chosen = np.random.default_rng(0).integers(seeds, size=(seeds, count))
    mean = draws.mean(axis=0)
    deviation = np.take_along_axis(draws, chosen, axis=0).mean(axis=0) - mean
    return mean + deviation * (seeds / max(1, seeds - 1)) ** 0.5


def _compare(row: dict[str, Any], base: Mapping[str, Any]) -> None:
    """Adds the paired difference from the base over the seeds that both have, where the same items were scored."""
    seeds = [seed for seed in row["per_seed"] if seed in base["per_seed"]]
    if seeds and base["scored"] is not None and row["scored"] == base["scored"]:
        means = [row["per_seed"][seed][METRIC] - base["per_seed"][seed][METRIC] for seed in seeds]
        draws = np.stack([row["draws"][seed] - base["draws"][seed] for seed in seeds])
        row["difference"] = float(np.mean(means))
        row["difference_interval"] = summary.interval(_over_seeds(draws))


def markdown(collected: Mapping[str, Any]) -> str:
    """The tables of what `collect` returns."""
    parts = []
    if rows := collected["separators"]:
        names = list(rows[0]["evaluations"])
        head = ["config", "what", *(f"SDRi, {name}" for name in names)]
        head += [f"over `{collected['base']}`"] if collected["base"] else []
        head += ["trained parameters", "samples/s", "on", "seeds"]
        parts.append(_table(head, [_cells(row, names, bool(collected["base"])) for row in rows]))
    if rows := collected["taggers"]:
        head = ["config", "what", "mAP", "top-1", "parameters", "samples/s", "on"]
        parts.append(_table(head, [_tagger_cells(row) for row in rows]))
    return "\n".join(parts)


def _cells(row: Mapping[str, Any], names: Sequence[str], compared: bool) -> list[str]:
    found = row["evaluations"]
    cells = [f"`{row['name']}`", row["about"]]
    cells += [f"{found[name]['mean'][METRIC]:.2f} {_span(found[name]['interval'])}" for name in names]
    main = found[names[0]]
    if compared:
        known = "difference" in main
        cells.append(f"{main['difference']:+.2f} {_span(main['difference_interval'])}" if known else "")
    return [*cells, f"{row['trained']:,}", f"{row['items_per_second']:.1f}", row["device"], str(len(main["per_seed"]))]


def _tagger_cells(row: Mapping[str, Any]) -> list[str]:
    scores = row["mean"]["tagging"]
    values = [f"{scores['average_precision']:.3f}", f"{scores['top1']:.3f}"]
    return [
        f"`{row['name']}`",
        row["about"],
        *values,
        f"{row['parameters']['tagger']:,}",
        f"{row['items_per_second']:.1f}",
        row["device"],
    ]


def _span(interval: Sequence[float]) -> str:
    return f"({interval[0]:.2f} … {interval[1]:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def write(study: Study, jobs: Iterable[Job], base: str | None, command: str) -> str:
    """Writes `table.json` and `table.md` into the workdir. Returns the latter."""
    collected = {"command": command, "per_class": study.per_class} | collect(study, jobs, base)
    text = markdown(collected)
    files.write_json(Path(study.workdir) / "table.json", collected)
    files.write_text(Path(study.workdir) / "table.md", text)
    return text
