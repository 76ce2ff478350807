"""One benchmark from beginning to end: items, queries, run, result."""

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import dataset, files, mining, model_dir, progress
from uss_jax.anchors import Anchors
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import pairs, report, summary, systems
from uss_jax.evaluation.benchmark import PER_CLASS, Benchmark, signature
from uss_jax.evaluation.clips import AnchorMixtures, Folder
from uss_jax.evaluation.compare import ESTIMATES, Paths
from uss_jax.evaluation.fsd import Fsd50k, FsdKaggle2018
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.musdb18 import Musdb18
from uss_jax.evaluation.run import Options, run
from uss_jax.evaluation.slakh2100 import Slakh2100
from uss_jax.evaluation.voicebank import Voicebank
from uss_jax.evaluation.workers import Workers
from uss_jax.separation import Model

BENCHMARKS: dict[str, type[Benchmark]] = {
    "fsdkaggle2018": FsdKaggle2018,
    "fsd50k": Fsd50k,
    "slakh2100": Slakh2100,
    "musdb18": Musdb18,
    "voicebank": Voicebank,
    "folder": Folder,
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be evaluated, as the options of eval.py say it.

    Attributes:
      benchmark: a name of `BENCHMARKS`, or `audioset`.
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


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model, what it is called, and the SHA-256 of its files."""

    model: Model
    name: str
    fingerprint: str


def evaluate(request: Request) -> tuple[dict[str, Any], int]:
    """Evaluates, and writes the result and its further files.

    Returns:
      The result, empty where pairs were only exported, and how many items this call did (the others were done before).

    Raises:
      ValueError: the model, the data or what is asked for is wrong.
    """
    loaded = load_model(request.model, request.options.batch_size) if request.model is not None else None
    benchmark = open_benchmark(request, request.data, request.anchors, loaded)
    if request.out is None:
        assert request.export is not None
        listed, _ = make_list(request, benchmark)
        return {}, export(request, benchmark, listed)
    paths = Paths(request.out)
    settings = _settings(request, benchmark, loaded)
    journal = Journal(paths.journal, settings, request.overwrite)
    if journal.listed is None:
        listed, left_out = make_list(request, benchmark)
        files.write_text(paths.mixtures, item_lists.to_csv(listed))
        journal.begin(item_lists.digest(listed), left_out)
    else:
        listed, left_out = item_lists.read_list(paths.mixtures), dict(journal.listed["left_out"])
        if journal.listed["list"] != item_lists.digest(listed):
            raise ValueError(
                f"{paths.mixtures}: not the list that {paths.journal} was begun with; begin anew (--overwrite)"
            )
    if request.export is not None:
        export(request, benchmark, listed)
    system = None
    if loaded is not None:
        system, unasked, names = _system(request, benchmark, loaded, listed)
        left_out |= names
        journal.write([{"item": place, "left_out": why} for place, why in unasked.items() if place not in journal.rows])
    with Workers(request.workers, benchmark) as workers:
        count = run(benchmark, listed, system, journal, workers, request.options)
    heading = {name: settings[name] for name in ("benchmark", "model", "query")}
    result = summary.summarise(listed, journal.rows, left_out, heading, benchmark.group_name)
    result["settings"] = {name: value for name, value in settings.items() if name not in heading and name != "data"}
    result["settings"]["mixtures"] = item_lists.digest(listed)
    result["versions"] = result["settings"].pop("versions")
    files.write_text(paths.table, report.markdown(result))
    try:
        report.plot(result, benchmark.headline, paths.picture)
    except ImportError:
        logging.warning("no picture: matplotlib is not installed (pip install 'uss-jax[eval]')")
    files.write_json(paths.result, result)
    return result, count


def load_model(name: str, batch_size: int) -> Loaded:
    """Reads a model. Raises ValueError where it does not separate, or as `model_dir.load` does."""
    networks = model_dir.load(name)
    if networks.separator is None:
        raise ValueError(f"the model {networks.config['name']!r} tags and does not separate")
    folder = model_dir.find(name)
    content = b"".join((folder / file).read_bytes() for file in ("config.json", "weights.safetensors"))
    return Loaded(Model(networks, batch_size), networks.config["name"], hashlib.sha256(content).hexdigest())


def open_benchmark(request: Request, data: Path, anchors: Path | None, loaded: Loaded | None) -> Benchmark:
    """The benchmark on a folder.

    Raises:
      ValueError: there is no such folder, or its clips have no anchors and there is no model to mine them.
    """
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder")
    if request.benchmark != "audioset":
        return BENCHMARKS[request.benchmark](data, request.paper)
    if pairs.is_pairs(data):
        return pairs.Pairs(data, request.paper)
    folder = dataset.find_folder(data)
    if anchors is not None:
        found = {split: Anchors.load(mining.anchors_path(anchors, split)) for split in dataset.splits(folder)}
    elif loaded is not None:
        found = _mined(folder, loaded)
    elif request.mixtures is not None:
        found = {}
    else:
        raise ValueError(f"{data}: needs the anchors of its clips (--anchors), or a list of mixtures (--mixtures)")
    return AnchorMixtures(folder, request.paper, found)


def _mined(folder: Path, loaded: Loaded) -> dict[str, Anchors]:
    """The anchors of every split, mined with the model's own tagger and kept in the cache folder."""
    key = signature(folder.glob("*"), folder, {"model": loaded.fingerprint})
    found = {}
    for split in dataset.splits(folder):
        path = mining.anchors_path(files.cache_folder() / "anchors" / key, split)
        if not path.is_file():
            mining.mine(dataset.Clips(folder, split), loaded.model.networks).save(path)
        found[split] = Anchors.load(path)
    return found


def make_list(request: Request, benchmark: Benchmark) -> tuple[list[Item], dict[str, str]]:
    """The items, and what had to be left out and why."""
    if request.mixtures is not None:
        return item_lists.spread(item_lists.read_list(request.mixtures), request.limit), {}
    seed = benchmark.seed if request.seed is None else request.seed
    with Workers(request.workers, benchmark) as workers:
        plan = benchmark.plan("test", request.per_class, seed, workers)
    if not plan.items:
        name, why = next(iter(plan.left_out.items()))
        raise ValueError(f"{benchmark.data}: all items had to be left out; the first: {name}: {why}")
    return item_lists.spread(plan.items, request.limit), plan.left_out


def export(request: Request, benchmark: Benchmark, listed: list[Item]) -> int:
    """Writes the mixtures and sources of items. Returns how many could be read."""
    assert request.export is not None
    pairs.check_names(benchmark, listed)
    with Workers(request.workers, benchmark) as workers:
        written = workers.stream(pairs.export, ((item, request.export) for item in listed))
        return sum(progress.track(written, "exporting", len(listed)))


def _system(
    request: Request, benchmark: Benchmark, loaded: Loaded, listed: list[Item]
) -> tuple[systems.ModelSystem, dict[int, str], dict[str, str]]:
    """What separates, the places of items that it cannot be asked for, and training sources left out; both with why."""
    averages: dict[str, np.ndarray] = {}
    unasked: dict[int, str] = {}
    names: dict[str, str] = {}
    if request.query == "label":
        for place, item in enumerate(listed):
            try:
                benchmark.classes(item)
            except ValueError as error:
                unasked[place] = str(error)
    if request.query == "average":
        training = benchmark
        if request.query_data is not None:
            training = open_benchmark(request, request.query_data, None, loaded)
        elif not benchmark.has_training():
            raise ValueError(
                f"{benchmark.data}: no training sources for average queries here; name their folder (--query-data),"
                " or take another protocol (--query=oracle or label)"
            )
        labels = list(dict.fromkeys(item.label for item in listed))
        seed = benchmark.seed if request.seed is None else request.seed
        averages, names = systems.average_conditions(
            loaded.model, loaded.fingerprint, training, labels, request.per_class, seed, request.workers
        )
        why = "no training source for an average query"
        unasked = {place: why for place, item in enumerate(listed) if item.label not in averages}
    return systems.ModelSystem(loaded.model, benchmark, request.query, averages), unasked, names


def _settings(request: Request, benchmark: Benchmark, loaded: Loaded | None) -> dict[str, Any]:
    """What the scores depend on, in JSON's types."""
    options = request.options
    if loaded is not None:
        system = {"model": loaded.name, "query": request.query, "model_sha256": loaded.fingerprint}
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
        "seed": benchmark.seed if request.seed is None else request.seed,
        "given_mixtures": given,
        "anchors": str(request.anchors) if request.anchors else None,
        "paper": request.paper,
        "oracle_masks": options.oracle_masks,
        "batch_size": options.batch_size,
        "versions": summary.versions(),
    }
