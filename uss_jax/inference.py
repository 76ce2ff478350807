"""Compiled forward passes over any number of segments, always in full batches of one shape."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uss_jax.model_dir import Networks
from uss_jax.models.cnn14 import Tags


class Inference:
    """The passes of one model.

    Attributes:
      networks: the model.
      batch_size: of every pass; what is missing in the last batch is filled up and thrown away.
    """

    def __init__(self, networks: Networks, batch_size: int = 8) -> None:
        self.networks, self.batch_size = networks, batch_size

        def framewise(variables: Any, audio: jax.Array) -> jax.Array:
            return networks.sed.apply(variables, audio).framewise

        def separate(variables: dict[str, Any], mixture: jax.Array, condition: jax.Array) -> jax.Array:
            return networks.separator.apply(variables, mixture, condition)

        def condition(variables: dict[str, Any], tags: Tags) -> jax.Array:
            assert networks.query is not None
            return networks.query.apply(variables, tags)

        self._tag = jax.jit(networks.tagger.apply)
        self._framewise, self._separate, self._condition = map(jax.jit, (framewise, separate, condition))

    def probabilities(self, segments: np.ndarray) -> np.ndarray:
        """Class probabilities: (segments, time) → (segments, classes)."""
        return self._batched(lambda x: self._tag(self.networks.variables["tagger"], x).clipwise, segments)

    def framewise(self, clips: np.ndarray) -> np.ndarray:
        """Probabilities over time: (clips, time) → (clips, frames, classes). Needs a model with `sed`."""
        return self._batched(functools.partial(self._framewise, self.networks.variables["sed"]), clips)

    def conditions(self, segments: np.ndarray) -> np.ndarray:
        """The query net's condition of each segment: (segments, time) → (segments, condition)."""
        variables = self.networks.variables

        def run(x: jax.Array) -> jax.Array:
            return self._condition(variables["query"], self._tag(variables["tagger"], x))

        return self._batched(run, segments)

    def conditions_of_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Conditions of a soft query given as class probabilities: (queries, classes) → (queries, condition)."""

        def run(x: jax.Array) -> jax.Array:
            return self._condition(self.networks.variables["query"], Tags(logits=x, clipwise=x))

        return self._batched(run, probabilities)

    def separate(self, mixtures: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """One target of each mixture: (segments, time) and (segments, condition) → (segments, time)."""
        run = functools.partial(self._separate, self.networks.variables["separator"])
        return self._batched(run, mixtures, conditions)

    def _batched(self, run: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
        count = len(arrays[0])
        if count == 0:
            raise ValueError("there are no segments to work on")
        results = []
        for start in range(0, count, self.batch_size):
            pieces = [array[start : start + self.batch_size] for array in arrays]
            missing = self.batch_size - len(pieces[0])
            full = [jnp.asarray(np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])) for piece in pieces]
            results.append(run(*full))
        return np.concatenate([np.asarray(result) for result in results])[:count]
