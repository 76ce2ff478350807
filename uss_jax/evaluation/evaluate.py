"""One benchmark from beginning to end: items, queries, run, result."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uss_jax import files, progress
from uss_jax.evaluation import averages, pairs, report, summary, systems
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation.benchmark import PER_CLASS, Benchmark, reason, signature
from uss_jax.evaluation.compare import ESTIMATES, Paths
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.registry import NamedModel, load_model, open_benchmark
from uss_jax.evaluation.run import Options, run
from uss_jax.evaluation.workers import Workers

# What a result does not tell, for it depends on where files lie and when they were written.
OF_PLACE = ("data", "query_data", "anchors", "query_anchors", "export_estimates", "queries", "estimates_state")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be evaluated, as the options of eval.py say it.

    Attributes:
      benchmark: a name of `registry.BENCHMARKS`, or `audioset`.
      data: its folder.
      out: JSON file of the result; further files have its name; not needed by `export_items`.
      model: name or directory; None where another system's estimates are scored.
      query: protocol, see `systems`.
      per_class: items of each class, at most; whole recordings are always all taken.
      limit: items in all, at most, from all classes in turn.
      seed: of the choice of items; the benchmark's own unless given.
      mixtures: list of items to be taken instead.
      anchors: folder of the anchors of an `audioset` dataset; mined with the model unless given.
      query_data: folder with the training sources, where `data` has none.
      query_anchors: as `anchors`, of `query_data`.
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
    query_anchors: Path | None = None
    paper: bool = False
    export: Path | None = None
    workers: int = 2
    overwrite: bool = False
    options: Options = dataclasses.field(default_factory=Options)


def export_items(request: Request) -> int:
    """Writes the mixtures and sources of a benchmark's items to `request.export`, and nothing else.

    Returns:
      How many could be read.

    Raises:
      ValueError: the data are not as expected.
    """
    assert request.export is not None
    with Workers(request.workers, _open(request, None)) as workers:
        listed, _ = make_list(request, workers)
        return export(listed, request.export, workers)


class Done(NamedTuple):
    """How many items a call did, others having been done before, and in how many seconds."""

    items: int
    seconds: float


def evaluate(request: Request) -> tuple[dict[str, Any], Done]:
    """Evaluates, and writes the result and its further files.

    Returns:
      The result, and what this call did of it.

    Raises:
      ValueError: the model, the data or what is asked for is wrong.
    """
    assert request.out is not None
    model = load_model(request.model, request.options.batch_size) if request.model is not None else None
    benchmark = _open(request, model)
    with Workers(request.workers, benchmark) as workers, _training(request, model, workers) as training:
        paths = Paths(request.out)
        settings = _settings(request, benchmark, model)
        if training is not None and model is not None:
            settings["queries"] = averages.state(training.context, model.model, model.fingerprint, settings["seed"])
        journal = Journal(paths.journal, settings, request.overwrite)
        listed, left_out = _begin(request, paths, journal, workers)
        if request.export is not None:
            export(listed, request.export, workers)
        if request.options.estimates_to is not None or request.options.estimates_from is not None:
            pairs.check_names(benchmark, listed)
        system = None
        ruled_out: dict[int, str] = {}
        if model is not None:
            conditions: dict[str, np.ndarray] = {}
            if training is not None:
                labels = list(dict.fromkeys(item.label for item in listed))
                conditions, names = averages.average_conditions(
                    model.model, settings["queries"], training, labels, settings["seed"]
                )
                left_out |= names
            ruled_out = _ruled_out(request, benchmark, conditions, listed)
            system = systems.ModelSystem(model.model, benchmark, request.query, conditions)
        began = time.monotonic()
        count = run(benchmark, listed, system, journal, workers, request.options, ruled_out)
        seconds = time.monotonic() - began
    heading = {name: settings[name] for name in ("benchmark", "model", "query")}
    result = summary.summarise(listed, journal.rows, left_out, heading, benchmark.group_name)
    result["settings"] = {name: x for name, x in settings.items() if name not in (*heading, *OF_PLACE, "versions")}
    result["settings"]["mixtures"] = item_lists.digest(listed)
    result["versions"] = settings["versions"]
    files.write_text(paths.table, report.markdown(result))
    try:
        report.plot(result, benchmark.headline, paths.picture)
    except ImportError:
        logging.warning("no picture: matplotlib is not installed (pip install 'uss-jax[eval]')")
    files.write_json(paths.result, result)
    return result, Done(count, seconds)


def _open(request: Request, model: NamedModel | None) -> Benchmark:
    own_queries = request.query == "average" and request.query_data is None
    needed = {"test": request.mixtures is None, "train": model is not None and own_queries}
    return open_benchmark(
        request.benchmark,
        request.data,
        paper=request.paper,
        anchors=request.anchors,
        model=model,
        splits=[split for split, wanted in needed.items() if wanted],
    )


@contextlib.contextmanager
def _training(request: Request, model: NamedModel | None, workers: Workers) -> Iterator[Workers | None]:
    """The workers that read the training sources of average queries; None where there are no such queries."""
    if model is None or request.query != "average":
        yield None
    elif request.query_data is not None:
        anchors = request.query_anchors
        training = open_benchmark(request.benchmark, request.query_data, anchors=anchors, model=model, splits=["train"])
        with Workers(request.workers, training) as own:
            yield own
    elif workers.context.has_training():
        yield workers
    else:
        raise ValueError(
            f"{request.data}: no training sources for average queries here; name their folder (--query-data),"
            " or take another protocol (--query=oracle or label)"
        )


def _begin(request: Request, paths: Paths, journal: Journal, workers: Workers) -> tuple[list[Item], dict[str, str]]:
    """The items, from the earlier run that is gone on with or anew, and what had to be left out and why."""
    if journal.listed is None:
        others = (paths.result, paths.table, paths.picture, paths.mixtures)
        found = next((path for path in others if path.exists()), None)
        if found and not paths.journal.exists() and not request.overwrite:  # not made by a run that did nothing yet
            raise ValueError(f"{found}: exists already; choose another --out, or begin anew (--overwrite)")
        listed, left_out = make_list(request, workers)
        for path in others:  # they would stand beside the journal of another run
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


def export(listed: list[Item], folder: Path, workers: Workers) -> int:
    """Writes the mixtures and sources of items. Returns how many could be read."""
    pairs.check_names(workers.context, listed, folder)
    written = workers.stream(pairs.export, ((item, folder) for item in listed))
    return sum(progress.track(written, "exporting", len(listed)))


def _seed(request: Request, benchmark: Benchmark) -> int:
    return benchmark.seed if request.seed is None else request.seed


def _ruled_out(
    request: Request, benchmark: Benchmark, conditions: Mapping[str, np.ndarray], listed: list[Item]
) -> dict[int, str]:
    """The places of the items that the protocol cannot ask for, and why."""
    found: dict[int, str] = {}
    for place, item in enumerate(listed):
        if request.query == "average" and item.label not in conditions:
            found[place] = "no training source for an average query"
        elif request.query == "label":
            try:
                benchmark.classes(item)
            except ValueError as error:
                found[place] = reason(error, benchmark.data)
    return found


def _settings(request: Request, benchmark: Benchmark, model: NamedModel | None) -> dict[str, Any]:
    """What the scores depend on, in JSON's types."""
    options = request.options
    if model is not None:
        system = {"model": model.name, "query": request.query, "model_sha256": model.fingerprint}
    else:
        assert options.estimates_from is not None
        if not options.estimates_from.is_dir():
            raise ValueError(f"{options.estimates_from}: no such folder")
        made = options.estimates_from.glob("*/*,estimate.wav")
        state = signature(made, options.estimates_from, {})
        system = {"model": options.estimates_from.name, "query": ESTIMATES, "estimates_state": state}
    given = item_lists.digest(item_lists.read_list(request.mixtures)) if request.mixtures else None
    return {
        "benchmark": benchmark.name,
        **system,
        "data": str(request.data),
        "query_data": str(request.query_data) if request.query_data else None,
        "query_anchors": str(request.query_anchors) if request.query_anchors else None,
        "per_class": request.per_class,
        "limit": request.limit,
        "seed": _seed(request, benchmark),
        "given_mixtures": given,
        "anchors": str(request.anchors) if request.anchors else None,
        "paper": request.paper,
        "least": systems.least_of(benchmark.paper) if request.query == "label" else None,
        "oracle_masks": options.oracle_masks,
        "batch_size": options.batch_size,
        "export_estimates": str(options.estimates_to) if options.estimates_to else None,
        "versions": summary.versions(),
    }
