"""What is evaluated: a model with one of three kinds of query. (Other systems come as WAV files, see `pairs`.)

The protocols must never be compared with one another:

- average: the mean condition of the label's training sources, which is what a user has (the paper's tables);
- oracle: the condition of the very source that is to be separated, which nobody has;
- label: the AudioSet classes that the label maps to, as `uss-jax separate --classes … --together` asks for them, and
  silence where none of them is active.
"""

from collections.abc import Sequence

import numpy as np

from uss_jax import audio, targets
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.conditions import conditions as conditions_of
from uss_jax.evaluation.benchmark import Benchmark, Sound
from uss_jax.evaluation.items import Item
from uss_jax.separation import Model
from uss_jax.targets import Target


def least_of(paper: bool) -> float | list[float]:
    """Probability from which on a label that is asked for by name is active: the reference's, or most and least here.

    See `targets.at_best`.
    """
    return targets.THRESHOLD if paper else [targets.EXPECTED, targets.FAINT]


class ModelSystem:
    """A model that separates the items of a benchmark by one protocol."""

    def __init__(self, model: Model, benchmark: Benchmark, protocol: str, averages: dict[str, np.ndarray]) -> None:
        """Says what separates what.

        Args:
          model: that separates.
          benchmark: whose items they will be.
          protocol: `average`, `oracle` or `label`.
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
            return self._named(item)
        if self._protocol == "average":
            return Target(item.label, condition=self._averages[item.label])
        source = audio.resample(audio.to_mono(sound.source), sound.sample_rate_hz, SAMPLE_RATE_HZ)
        loud = audio.remove_silence(source, SAMPLE_RATE_HZ)
        pieces = audio.segments(loud if loud.size else source, self._model.networks.segment_samples)
        return Target(item.label, condition=self._model.inference.conditions(pieces).mean(axis=0))

    def _named(self, item: Item) -> Target:
        """The item's classes, asked for by name."""
        least = targets.THRESHOLD if self._benchmark.paper else targets.EXPECTED
        return Target(item.label, self._benchmark.classes(item), least=least)

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
        of_items = [self._named(item) for item in items]
        if not self._benchmark.paper:  # each mixture is a recording
            of_items = [targets.at_best(*pair) for pair in zip(of_items, probabilities[:, None], strict=True)]
        wanted = list(dict.fromkeys(of_items))
        found = conditions_of(self._model.inference, wanted, mixtures, probabilities, self._benchmark.paper)
        conditions = dict(zip(wanted, found, strict=True))
        heard = [targets.activity(target, probabilities)[row] >= target.least for row, target in enumerate(of_items)]
        rows = [conditions[target][row] for row, target in enumerate(of_items)]
        return np.array(heard), np.stack(rows)
