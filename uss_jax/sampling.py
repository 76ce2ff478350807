"""Which item comes next: balanced rounds over the classes, as a pure function of (seed, index)."""

import functools
from collections.abc import Callable

import numpy as np

from uss_jax import audioset

PARTNER_SEARCH = 1000  # places of the order that are looked through for partners of other classes


class BalancedSampler:
    """Endless order of items in which every class comes up equally often (or by a power of its size).

    One round takes every class once, in random order; a class gives its items in random order, all of them before any
    comes again. With `power` p a class with n items comes round(n^p) times a round: 0 is the reference's balance, 1 is
    the data's own. Item `sampler[i]` depends on the seed and i alone, so any process can compute any part.
    """

    def __init__(self, item_classes: np.ndarray, seed: int, power: float = 0.0) -> None:
        """Args: item_classes: (items,), the class of each item; seed; power: see above."""
        if len(item_classes) == 0:
            raise ValueError("there are no items to sample from")
        order = np.argsort(item_classes, kind="stable")
        _, first = np.unique(item_classes[order], return_index=True)
        self._items_of_class = np.split(order, first[1:])
        sizes = np.array([len(items) for items in self._items_of_class])
        self._repeats = np.maximum(1, np.round(sizes**power)).astype(int)
        self._round = np.repeat(np.arange(len(sizes)), self._repeats)
        self._seed = seed

    def __getitem__(self, index: int) -> int:
        """The item at a place in the order, `index` ≥ 0."""
        number, place = divmod(index, len(self._round))
        classes = _shuffled(self._round.tobytes(), self._seed, 0, number)
        chosen = int(classes[place])
        earlier = int(np.count_nonzero(classes[:place] == chosen))
        items = self._items_of_class[chosen]
        epoch, turn = divmod(number * int(self._repeats[chosen]) + earlier, len(items))
        return int(_shuffled(items.astype(np.int64).tobytes(), self._seed, 1 + chosen, epoch)[turn])


def choose_sources(sampler: BalancedSampler, place: int, count: int, labels: Callable[[int], np.ndarray]) -> list[int]:
    """The items that are mixed: the one at a place, and the next ones that share no label with one another.

    Args:
      sampler: the order.
      place: of the target, the first of the mixture.
      count: sources in a mixture.
      labels: class indices of an item.

    Returns:
      `count` items, or fewer where the order has none.
    """
    chosen = [sampler[place]]
    for later in range(place + 1, place + PARTNER_SEARCH):
        if len(chosen) == count:
            break
        candidate = sampler[later]
        if all(audioset.disjoint(labels(candidate), labels(other)) for other in chosen):
            chosen.append(candidate)
    return chosen


@functools.lru_cache(maxsize=4096)
def _shuffled(values: bytes, seed: int, stream: int, number: int) -> np.ndarray:
    return np.random.default_rng((seed, stream, number)).permutation(np.frombuffer(values, np.int64))
