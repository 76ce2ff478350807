"""Average queries: the mean condition of each label's training sources, kept in the cache folder."""

import collections
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from uss_jax import audio, files, progress, queries
from uss_jax.evaluation import summary
from uss_jax.evaluation.benchmark import Benchmark, reason, signature
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.workers import Workers
from uss_jax.inference import Inference
from uss_jax.queries import CLIPS_OF_CLASS
from uss_jax.separation import Model


def state(benchmark: Benchmark, model: Model, fingerprint: str, seed: int) -> str:
    """A digest of all that the average queries of a model on a benchmark's training sources depend on."""
    settings = {
        "benchmark": benchmark.name,
        "state": benchmark.training_state(),
        "model": fingerprint,
        "seed": seed,
        "batch_size": model.inference.batch_size,  # it changes the last bits
        "backend": jax.default_backend(),
        **summary.versions(),
    }
    return signature(benchmark.training_files(), benchmark.data, settings)


def average_conditions(
    model: Model, key: str, workers: Workers, labels: Sequence[str], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The mean condition of each label's training sources: 100 segments at most, or all whole recordings.

    Args:
      model: that separates.
      key: `state` of model and benchmark.
      workers: with the benchmark as their context that has the training sources.
      labels: which are needed.
      seed: of the choice of training sources, as of the items.

    Returns:
      (condition,) of each label that has training sources, from the cache where it is there; and the names of the
      sources that were left out, and why.

    Raises:
      ValueError: the training split is not laid out as expected.
    """
    folder = files.cache_folder() / "queries" / key
    if not all(_path(folder, label).is_file() for label in labels):
        _make(model, workers, {label: _path(folder, label) for label in labels}, seed)
    known = {label: files.read_arrays(_path(folder, label), ("condition", "names", "why")) for label in labels}
    left_out = {str(name): str(why) for x in known.values() for name, why in zip(x["names"], x["why"], strict=True)}
    return {label: x["condition"] for label, x in known.items() if x["condition"].size}, left_out


def _path(folder: Path, label: str) -> Path:
    return folder / f"{hashlib.sha256(label.encode()).hexdigest()[:16]}.npz"


def _make(model: Model, workers: Workers, paths: dict[str, Path], seed: int) -> None:
    """Writes a file for each label that has none yet, so that what was interrupted goes on there."""
    plan = workers.context.plan("train", CLIPS_OF_CLASS, seed, workers)
    missing: dict[str, collections.Counter[Item]] = {
        label: collections.Counter() for label, path in paths.items() if not path.is_file()
    }
    for item in plan.items:
        if item.label in missing:
            missing[item.label][item.alone] += 1  # a source that stands in several mixtures counts as often
    with progress.bar() as display:
        task = display.add_task("average queries", total=sum(map(len, missing.values())))
        for label, counts in missing.items():
            left_out = dict(plan.left_out)
            sources = _sources(workers, counts, left_out, lambda: display.advance(task))
            if workers.context.whole:
                condition = _mean_of_recordings(model.inference, sources, left_out)
            else:
                condition = _mean_of_segments(model.inference, sources)
            names, why = (np.array(list(texts), str) for texts in (left_out.keys(), left_out.values()))
            files.write_arrays(paths[label], condition=condition, names=names, why=why)


def _sources(
    workers: Workers, counts: Mapping[Item, int], left_out: dict[str, str], advance: Callable[[], None]
) -> Iterator[tuple[Item, int, np.ndarray]]:
    """Items, how often they count, and their sources, (time,); those that cannot be read are noted in `left_out`."""
    sources = workers.stream(read_query_source, ((item,) for item in counts))
    for (item, count), source in zip(counts.items(), sources, strict=True):
        advance()
        if isinstance(source, str):
            left_out[item.source] = source
        else:
            yield item, count, source


def read_query_source(benchmark: Benchmark, item: Item) -> np.ndarray | str:
    """A training source, (time,), or why it cannot be read."""
    try:
        return benchmark.query_source(item)
    except ValueError as error:
        return reason(error, benchmark.data)


def _mean_of_segments(inference: Inference, sources: Iterable[tuple[Item, int, np.ndarray]]) -> np.ndarray:
    """The weighted mean condition of segments: (condition,), or empty where there is none."""
    kept = list(sources)
    if not kept:
        return np.zeros(0, np.float32)
    longest = max(len(source) for _, _, source in kept)
    conditions = inference.conditions(np.stack([audio.fit_length(source, longest) for _, _, source in kept]))
    return np.average(conditions, axis=0, weights=[count for _, count, _ in kept])


def _mean_of_recordings(
    inference: Inference, sources: Iterable[tuple[Item, int, np.ndarray]], left_out: dict[str, str]
) -> np.ndarray:
    """The mean condition of whole recordings without their silence: (condition,), or empty where there is none."""
    found = []
    for item, _, source in sources:
        try:
            found.append(queries.example_condition(inference, [source]))
        except ValueError:
            left_out[item.source] = "silent"
    return np.mean(found, axis=0) if found else np.zeros(0, np.float32)
