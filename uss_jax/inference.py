"""Compiled forward passes over any number of segments, always in full batches."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from uss_jax import compiling
from uss_jax.model_dir import Networks
from uss_jax.models.cnn14 import Tags

COMPILED_KEPT = 16  # modules


@functools.lru_cache(COMPILED_KEPT)
def compiled(module: nn.Module, method: str | None = None) -> Callable[..., Any]:
    """`exact(module)`, compiled once for all modules with the same fields, whatever their weights."""
    return jax.jit(exact(module, method), compiler_options=compiling.options())


def exact(module: nn.Module, method: str | None = None) -> Callable[..., Any]:
    """`module.apply` in float32: GPUs and TPUs make matrix products of fewer bits unless told not to."""

    def apply(*arguments: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return module.apply(*arguments, method=method)

    return apply


class Inference:
    """The passes of one model.

    Attributes:
      networks: the model, with its variables on the device.
      batch_size: of every pass, or less where there is less to do; what is missing in the last batch is filled up and
        thrown away.
    """

    def __init__(self, networks: Networks, batch_size: int = 8) -> None:
        self.networks = dataclasses.replace(networks, variables=_placed(networks.variables))
        self.batch_size = batch_size

        self._tag = compiled(networks.tagger)
        self._tag_query = compiled(networks.query_tagger)
        self._condition = compiled(networks.query) if networks.query is not None else None
        self._separate = compiled(networks.separator) if networks.separator is not None else None
        self._masks = None
        if (separator := networks.separator) is not None:
            # Magnitudes are brought to one level before (see `masking.seen`), over more than a block.
            on_blocks = separator if separator.on_waveforms else separator.clone(normalise_level=False)
            self._masks = compiled(on_blocks, "masks")

    def probabilities(self, segments: np.ndarray) -> np.ndarray:
        """Class probabilities: (segments, time) → (segments, classes)."""
        return self._batched(lambda x: self._tag(self.networks.variables["tagger"], x).clipwise, segments)

    def bottlenecks(self, segments: np.ndarray) -> np.ndarray:
        """What the query net makes its condition of: (segments, time) → (segments, classes or embedding).

        The name is the reference's.
        """
        variables, query = self.networks.variables["query_tagger"], _needed(self.networks.query, "a query net")
        return self._batched(lambda x: query.bottleneck(self._tag_query(variables, x)), segments)

    def conditions_of_bottlenecks(self, bottlenecks: np.ndarray) -> np.ndarray:
        """(queries, size) → (queries, condition)."""
        variables, condition = self.networks.variables["query"], _needed(self._condition, "a query net")
        return self._batched(lambda x: condition(variables, Tags(logits=x, clipwise=x, embedding=x)), bottlenecks)

    def conditions(self, segments: np.ndarray) -> np.ndarray:
        """The query net's condition of each segment: (segments, time) → (segments, condition)."""
        return self.conditions_of_bottlenecks(self.bottlenecks(segments))

    def separate(self, mixtures: np.ndarray, conditions: np.ndarray) -> np.ndarray:
        """One target of each mixture: (segments, time) and (segments, condition) → (segments, time)."""
        separate = _needed(self._separate, "a separator")
        return self._batched(functools.partial(separate, self.networks.variables["separator"]), mixtures, conditions)

    def masks(self, seen: Sequence[np.ndarray], conditions: Sequence[np.ndarray]) -> np.ndarray:
        """Complex masks of blocks, of a condition each.

        Args:
          seen: of each block its magnitudes, (frames, bins), see `masking.seen`; or, for a separator that is
            `on_waveforms`, its samples, ((frames − 1)·hop + window,).
          conditions: of each (condition,).

        Returns:
          (rows, frames, bins).
        """
        masks = _needed(self._masks, "a separator")
        run = functools.partial(masks, self.networks.variables["separator"])
        return self.full_batches(run, seen, conditions)

    def full_batches(self, run: Callable[..., jax.Array], *columns: Sequence[np.ndarray]) -> np.ndarray:
        """Runs rows in batches of one size, whatever their number: the last one is filled up with its last row.

        Args:
          run: of a batch of each column.
          columns: arrays of one shape each, as many in each column, at least one.

        Returns:
          (rows, …).
        """
        results = []
        for start in range(0, len(columns[0]), self.batch_size):
            batch = [list(column[start : start + self.batch_size]) for column in columns]
            missing = self.batch_size - len(batch[0])
            results.append(np.asarray(run(*(jnp.asarray(np.stack(rows + rows[-1:] * missing)) for rows in batch))))
        return np.concatenate(results)[: len(columns[0])]

    def _batched(self, run: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
        count = len(arrays[0])
        if count == 0:
            raise ValueError("there are no segments to work on")
        size = min(self.batch_size, 1 << (count - 1).bit_length())  # a power of two, so that there are few shapes
        results = []
        for start in range(0, count, size):
            pieces = [array[start : start + size] for array in arrays]
            missing = size - len(pieces[0])
            full = [jnp.asarray(np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])) for piece in pieces]
            results.append(run(*full))
        return np.concatenate([np.asarray(result) for result in results])[:count]


def _placed(variables: dict[str, Any]) -> dict[str, Any]:
    """Variables by part on the device, once: NumPy's would be copied there for every pass, which can take as long."""
    placed = jax.device_put({id(tree): tree for tree in variables.values()})  # parts that share a tree go on doing so
    return {part: placed[id(tree)] for part, tree in variables.items()}


def _needed(part: Any, what: str) -> Any:
    """The part; raises ValueError where the model lacks it."""
    if part is None:
        raise ValueError(f"this model has no part that is needed here: {what}")
    return part
