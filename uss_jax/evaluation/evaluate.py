"""One benchmark from beginning to end: items, queries, run, result."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import files, progress
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import pairs, report, summary, systems
from uss_jax.evaluation.benchmark import PER_CLASS, Benchmark, signature
from uss_jax.evaluation.compare import ESTIMATES, Paths
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.registry import NamedModel, load_model, open_benchmark
from uss_jax.evaluation.run import Options, run
from uss_jax.evaluation.workers import Workers


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be evaluated, as the options of eval.py say it.

    Attributes:
      benchmark: a name of `registry.BENCHMARKS`, or `audioset`.
      data: its folder.
      out: JSON file of the result; further files have its name; None where pairs are only exported.
      model: name or directory; None where another system's estimates are scored, or pairs are only exported.
      query: protocol, see `systems`.
      per_class: items of each class, at most; whole recordings are always all taken.
      limit: items in all, at most, from all classes in turn.
      seed: of the choice of items; the benchmark's own unless given.
      mixtures: list of items to be taken instead.
      anchors: folder of the anchors of an `audioset` dataset; mined with the model unless given.
      query_data: folder with the training sources, where `data` has none.
      paper: separate recordings as the reference does: mono, at 32 kHz, in hard two-second blocks.
      export: folder for mixtures and sources.
      workers: processes that read and score.
      overwrite: begin anew, whatever there is of an earlier run.
      options: how it is run.
    """

    benchmark: str
    data: Path
    out: Path | None = None
    model: str | None = None
    query: str = "average"
    per_class: int = PER_CLASS
    limit: int | None = None
    seed: int | None = None
    mixtures: Path | None = None
    anchors: Path | None = None
    query_data: Path | None = None
    paper: bool = False
    export: Path | None = None
    workers: int = 2
    overwrite: bool = False
    options: Options = dataclasses.field(default_factory=Options)


def evaluate(request: Request) -> tuple[dict[str, Any], int]:
    """Evaluates, and writes the result and its further files.

    Returns:
      The result, empty where pairs were only exported, and how many items this call did (the others were done before).

    Raises:
      ValueError: the model, the data or what is asked for is wrong.
    """
    model = load_model(request.model, request.options.batch_size) if request.model is not None else None
    benchmark = open_benchmark(
        request.benchmark, request.data, paper=request.paper, anchors=request.anchors, model=model
    )
    with Workers(request.workers, benchmark) as workers:
        if request.out is None:
            assert request.export is not None
            listed, _ = make_list(request, workers)
            pairs.check_names(benchmark, listed, request.export)
            return {}, export(benchmark, listed, request.export, workers)
        paths = Paths(request.out)
        settings = _settings(request, benchmark, model)
        journal = Journal(paths.journal, settings, request.overwrite)
        if journal.listed is None and paths.result.exists() and not request.overwrite:
            raise ValueError(f"{paths.result}: exists already; choose another --out, or begin anew (--overwrite)")
        listed, left_out = _begin(request, paths, journal, workers)
        pairs.check_names(benchmark, listed, request.export)
        if request.export is not None:
            export(benchmark, listed, request.export, workers)
        system = None
        ruled_out: dict[int, str] = {}
        if model is not None:
            system, ruled_out, names = _system(request, model, listed, workers)
            left_out |= names
        count = run(benchmark, listed, system, journal, workers, request.options, ruled_out)
    heading = {name: settings[name] for name in ("benchmark", "model", "query")}
    result = summary.summarise(listed, journal.rows, left_out, heading, benchmark.group_name)
    result["settings"] = {name: value for name, value in settings.items() if name not in (*heading, "data", "versions")}
    result["settings"]["mixtures"] = item_lists.digest(listed)
    result["versions"] = settings["versions"]
    files.write_text(paths.table, report.markdown(result))
    try:
        report.plot(result, benchmark.headline, paths.picture)
    except ImportError:
        logging.warning("no picture: matplotlib is not installed (pip install 'uss-jax[eval]')")
    files.write_json(paths.result, result)
    return result, count


def _begin(request: Request, paths: Paths, journal: Journal, workers: Workers) -> tuple[list[Item], dict[str, str]]:
    """The items, from the earlier run that is gone on with or anew, and what had to be left out and why."""
    if journal.listed is None:
        listed, left_out = make_list(request, workers)
        for path in (paths.result, paths.table, paths.picture):  # of another run: they would stand beside this journal
            path.unlink(missing_ok=True)
        files.write_text(paths.mixtures, item_lists.to_csv(listed))
        journal.begin(item_lists.digest(listed), left_out)
        return listed, left_out
    listed = item_lists.read_list(paths.mixtures)
    if journal.listed["list"] != item_lists.digest(listed):
        raise ValueError(f"{paths.mixtures}: not the list that {paths.journal} has; begin anew (--overwrite)")
    return listed, dict(journal.listed["left_out"])


def make_list(request: Request, workers: Workers) -> tuple[list[Item], dict[str, str]]:
    """The items, and what had to be left out and why."""
    if request.mixtures is not None:
        return item_lists.spread(item_lists.read_list(request.mixtures), request.limit), {}
    benchmark: Benchmark = workers.context
    plan = benchmark.plan("test", request.per_class, _seed(request, benchmark), workers)
    if not plan.items:
        first = next((f"{name}: {why}" for name, why in plan.left_out.items()), "there are none")
        raise ValueError(f"{benchmark.data}: no item could be made; the first: {first}")
    unwritable = [item for item in plan.items if not item_lists.is_text(item)]
    left_out = plan.left_out | {ascii(item.source): "its name is no text" for item in unwritable}
    return item_lists.spread([item for item in plan.items if item not in unwritable], request.limit), left_out


def export(benchmark: Benchmark, listed: list[Item], folder: Path, workers: Workers) -> int:
    """Writes the mixtures and sources of items. Returns how many could be read."""
    written = workers.stream(pairs.export, ((item, folder) for item in listed))
    return sum(progress.track(written, "exporting", len(listed)))


def _seed(request: Request, benchmark: Benchmark) -> int:
    return benchmark.seed if request.seed is None else request.seed


def _system(
    request: Request, model: NamedModel, listed: list[Item], workers: Workers
) -> tuple[systems.ModelSystem, dict[int, str], dict[str, str]]:
    """What separates, the places of items that it cannot be asked for, and training sources left out; both with why."""
    benchmark: Benchmark = workers.context
    averages: dict[str, np.ndarray] = {}
    ruled_out: dict[int, str] = {}
    names: dict[str, str] = {}
    if request.query == "label":
        for place, item in enumerate(listed):
            try:
                benchmark.classes(item)
            except ValueError as error:
                ruled_out[place] = str(error)
    if request.query == "average":
        training: contextlib.AbstractContextManager[Workers] = contextlib.nullcontext(workers)
        if request.query_data is not None:
            training = Workers(request.workers, open_benchmark(request.benchmark, request.query_data, model=model))
        elif not benchmark.has_training():
            raise ValueError(
                f"{benchmark.data}: no training sources for average queries here; name their folder (--query-data),"
                " or take another protocol (--query=oracle or label)"
            )
        labels = list(dict.fromkeys(item.label for item in listed))
        with training as reading:
            averages, names = systems.average_conditions(
                model.model, model.fingerprint, reading, labels, request.per_class, _seed(request, benchmark)
            )
        why = "no training source for an average query"
        ruled_out = {place: why for place, item in enumerate(listed) if item.label not in averages}
    return systems.ModelSystem(model.model, benchmark, request.query, averages), ruled_out, names


def _settings(request: Request, benchmark: Benchmark, model: NamedModel | None) -> dict[str, Any]:
    """What the scores depend on, in JSON's types."""
    options = request.options
    if model is not None:
        system = {"model": model.name, "query": request.query, "model_sha256": model.fingerprint}
    else:
        assert options.estimates_from is not None
        made = options.estimates_from.glob("*/*,estimate.wav")
        state = signature(made, options.estimates_from, {})
        system = {"model": options.estimates_from.name, "query": ESTIMATES, "estimates_state": state}
    given = item_lists.digest(item_lists.read_list(request.mixtures)) if request.mixtures else None
    return {
        "benchmark": benchmark.name,
        **system,
        "data": str(request.data),
        "query_data": str(request.query_data) if request.query_data else None,
        "per_class": request.per_class,
        "limit": request.limit,
        "seed": _seed(request, benchmark),
        "given_mixtures": given,
        "anchors": str(request.anchors) if request.anchors else None,
        "paper": request.paper,
        "oracle_masks": options.oracle_masks,
        "batch_size": options.batch_size,
        "export_estimates": str(options.estimates_to) if options.estimates_to else None,
        "versions": summary.versions(),
    }
