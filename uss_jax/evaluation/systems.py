"""What is evaluated: a model with one of three kinds of query. (Other systems come as WAV files, see `pairs`.)

The protocols must never be compared with one another:

- average: the mean condition of the label's training sources, which is what a user has (the paper's tables);
- oracle: the condition of the very source that is to be separated, which nobody has;
- label: the AudioSet classes that the label maps to, as `uss-jax separate --classes … --together` asks for them, and
  silence where none of them is active.
"""

import collections
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uss_jax import audio, files, progress, queries, targets
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation import summary
from uss_jax.evaluation.benchmark import Benchmark, Sound, reason, signature
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.workers import Workers
from uss_jax.separation import THRESHOLD, Model
from uss_jax.targets import Target

PROTOCOLS = ("average", "oracle", "label")


class ModelSystem:
    """A model that separates the items of a benchmark by one protocol."""

    def __init__(self, model: Model, benchmark: Benchmark, protocol: str, averages: dict[str, np.ndarray]) -> None:
        """Says what separates what.

        Args:
          model: that separates.
          benchmark: whose items they will be.
          protocol: one of `PROTOCOLS`.
          averages: (condition,) of each label, for `average`.
        """
        self._model, self._benchmark, self._protocol, self._averages = model, benchmark, protocol, averages

    def separate(self, items: Sequence[Item], sounds: Sequence[Sound]) -> list[np.ndarray]:
        """The estimates of the items of one mixture, or of a batch of segments, in the shape of their mixtures."""
        if self._benchmark.whole:
            return self._recording(items, sounds)
        return self._segments(items, sounds)

    def _recording(self, items: Sequence[Item], sounds: Sequence[Sound]) -> list[np.ndarray]:
        wanted = [self._target(item, sound) for item, sound in zip(items, sounds, strict=True)]
        mixture = sounds[0].mixture
        separated = self._model.separate_targets(mixture, sounds[0].sample_rate_hz, wanted, self._benchmark.paper)
        return [separated.stems[target.name].audio for target in wanted]

    def _target(self, item: Item, sound: Sound) -> Target:
        if self._protocol == "label":
            return Target(item.label, self._benchmark.classes(item))
        if self._protocol == "average":
            return Target(item.label, condition=self._averages[item.label])
        source = audio.resample(audio.to_mono(sound.source), sound.sample_rate_hz, SAMPLE_RATE_HZ)
        loud = audio.remove_silence(source, SAMPLE_RATE_HZ)
        pieces = audio.segments(loud if loud.size else source, self._model.networks.segment_samples)
        return Target(item.label, condition=self._model.inference.conditions(pieces).mean(axis=0))

    def _segments(self, items: Sequence[Item], sounds: Sequence[Sound]) -> list[np.ndarray]:
        inference = self._model.inference
        lengths = [len(sound.mixture) for sound in sounds]
        size = inference.batch_size  # what is missing is repeated, so that one shape is compiled
        rows = [min(row, len(items) - 1) for row in range(size)]
        mixtures = np.stack([audio.fit_length(sounds[row].mixture, max(lengths)) for row in rows])
        heard = np.ones(size, bool)
        if self._protocol == "average":
            conditions = np.stack([self._averages[items[row].label] for row in rows])
        elif self._protocol == "oracle":
            sources = np.stack([audio.fit_length(sounds[row].source, max(lengths)) for row in rows])
            conditions = inference.conditions(sources)
        else:
            heard, conditions = self._by_label([items[row] for row in rows], mixtures)
        estimates = inference.separate(mixtures, conditions) * heard[:, None]
        return [estimate[:length] for estimate, length in zip(estimates, lengths, strict=False)]

    def _by_label(self, items: Sequence[Item], mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether the items' labels are active in their mixtures, (items,), and the conditions, (items, condition)."""
        probabilities = self._model.inference.probabilities(mixtures)
        of_items = [self._benchmark.classes(item) for item in items]
        wanted = {classes: Target(item.label, classes) for classes, item in zip(of_items, items, strict=True)}
        found = self._model.conditions(list(wanted.values()), mixtures, probabilities, self._benchmark.paper)
        conditions = dict(zip(wanted, found, strict=True))
        activity = [targets.activity(wanted[classes], probabilities)[row] for row, classes in enumerate(of_items)]
        rows = [conditions[classes][row] for row, classes in enumerate(of_items)]
        return np.array(activity) >= THRESHOLD, np.stack(rows)


def average_conditions(
    model: Model, fingerprint: str, workers: Workers, labels: Sequence[str], per_class: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The mean condition of each label's training sources, kept in the cache folder.

    Args:
      model: that separates.
      fingerprint: of the model.
      workers: with the benchmark as their context that has the training sources.
      labels: which are needed.
      per_class, seed: of the choice of training sources, as of the items.

    Returns:
      (condition,) of each label that has training sources, and the names of those that were left out, and why.

    Raises:
      ValueError: the training split is not laid out as expected.
    """
    benchmark: Benchmark = workers.context
    settings = {"model": fingerprint, "benchmark": benchmark.name, "per_class": per_class, "seed": seed}
    settings |= {"state": benchmark.training_state(), **summary.versions()}
    key = signature(benchmark.training_files(), benchmark.data, settings)
    path = files.cache_folder() / "queries" / f"{key}.npz"
    known, left_out = _read_cache(path)
    missing = set(labels) - set(known)
    if missing:
        plan = benchmark.plan("train", per_class, seed, workers)
        left_out[""] = plan.left_out
        wanted = collections.Counter(item.alone for item in plan.items if item.label in missing)
        sources = workers.stream(read_query_source, ((item,) for item in wanted))
        tracked = progress.track(zip(wanted, sources, strict=True), "average queries", len(wanted))
        for label, group in itertools.groupby(tracked, lambda pair: pair[0].label):
            sources_of_label = [(item, wanted[item], source) for item, source in group]
            known[label], left_out[label] = _mean(model, benchmark, sources_of_label)
        known |= {label: np.zeros(0, np.float32) for label in missing - set(known)}  # it is known that it has none
        _write_cache(path, known, left_out)
    names = {name: why for label in ("", *labels) for name, why in left_out.get(label, {}).items()}
    return {label: known[label] for label in labels if known[label].size}, names


def read_query_source(benchmark: Benchmark, item: Item) -> np.ndarray | str:
    """A training source, (time,), or why it cannot be read."""
    try:
        return benchmark.query_source(item)
    except ValueError as error:
        return reason(error, benchmark.data)


def _mean(
    model: Model, benchmark: Benchmark, sources: list[tuple[Item, int, np.ndarray | str]]
) -> tuple[np.ndarray, dict[str, str]]:
    """The mean condition of a label's sources, empty where there is none, and the sources that were left out.

    Args:
      model: that separates.
      benchmark: of the items.
      sources: items, how often they count, and their audio, (time,), or why there is none.
    """
    left_out = {item.source: source for item, _, source in sources if isinstance(source, str)}
    kept = [(item, count, source) for item, count, source in sources if not isinstance(source, str)]
    found: list[np.ndarray] = []
    counts = [count for _, count, _ in kept]
    if benchmark.whole:  # one count each: a recording is in the list once
        for item, _, source in kept:
            try:
                found.append(queries.example_condition(model.inference, [source]))
            except ValueError:
                left_out[item.source] = "silent"
        counts = [1] * len(found)
    elif kept:
        longest = max(len(source) for _, _, source in kept)
        pieces = np.stack([audio.fit_length(source, longest) for _, _, source in kept])
        found = list(model.inference.conditions(pieces))
    return np.average(found, axis=0, weights=counts) if found else np.zeros(0, np.float32), left_out


def _read_cache(path: Path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str]]]:
    """Conditions by label, and what was left out of each; nothing where there is no such file."""
    if not path.is_file():
        return {}, {}
    arrays = files.read_arrays(path, ("labels", "conditions", "offsets", "left_out"))
    pieces = np.split(arrays["conditions"], arrays["offsets"])
    return dict(zip(map(str, arrays["labels"]), pieces, strict=True)), json.loads(str(arrays["left_out"]))


def _write_cache(path: Path, known: dict[str, np.ndarray], left_out: dict[str, dict[str, str]]) -> None:
    sizes = [len(condition) for condition in known.values()]
    files.write_arrays(
        path,
        labels=np.array(list(known)),
        conditions=np.concatenate(list(known.values())),
        offsets=np.cumsum(sizes)[:-1],
        left_out=np.array(json.dumps(left_out)),
    )
