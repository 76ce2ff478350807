"""Which item comes next: balanced rounds over the classes, as a pure function of (seed, index)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from uss_jax import audioset

PARTNER_SEARCH = 1000  # places of the order that are looked through for partners of other classes
ROUNDS_KEPT = 4  # an item's partners may lie in the next round


class BalancedSampler:
    """Endless order of items in which every class comes up equally often (or by a power of its size).

    One round takes every class once, in random order; a class gives its items in random order, all of them before any
    comes again. With `power` p a class with n items comes round(n^p) times a round: 0 is the reference's balance, 1 is
    the data's own. Item `sampler[i]` depends on the seed and i alone, so any process can compute any part.

    Orders in use are kept: about eight bytes an item, and nothing when it is pickled.
    """

    def __init__(self, item_classes: np.ndarray, seed: int, power: float = 0.0) -> None:
        """Args: item_classes: (items,), the class of each item; seed; power: see above."""
        if len(item_classes) == 0:
            raise ValueError("there are no items to sample from")
        self._items = np.argsort(item_classes, kind="stable").astype(np.int32)
        sizes = np.bincount(item_classes)
        self._sizes = sizes[sizes > 0]
        self._bounds = np.cumsum([0, *self._sizes])
        self._repeats = np.maximum(1, np.round(self._sizes**power)).astype(np.int64)
        self._round_length = int(self._repeats.sum())
        self._seed = seed
        self._rounds = _Kept()
        self._epochs: dict[int, _Kept] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rounds": _Kept(), "_epochs": {}}

    def __getitem__(self, index: int) -> int:
        """The item at a place in the order, `index` ≥ 0."""
        number, place = divmod(index, self._round_length)
        classes, earlier = self._rounds.get(number, ROUNDS_KEPT, lambda: self._round(number))
        chosen = int(classes[place])
        epoch, turn = divmod(number * int(self._repeats[chosen]) + int(earlier[place]), int(self._sizes[chosen]))
        kept = self._epochs.setdefault(chosen, _Kept())
        return int(kept.get(epoch, 2, lambda: self._epoch(chosen, epoch))[turn])

    def _round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes of a round in their order, and how often each came before in it."""
        classes = np.repeat(np.arange(len(self._sizes), dtype=np.int32), self._repeats)
        classes = np.random.default_rng((self._seed, 0, number)).permutation(classes)
        order = np.argsort(classes, kind="stable")
        earlier = np.empty(len(classes), np.int32)
        earlier[order] = np.arange(len(classes)) - np.repeat(np.cumsum(self._repeats) - self._repeats, self._repeats)
        return classes, earlier

    def _epoch(self, chosen: int, epoch: int) -> np.ndarray:
        """The items of a class in the order of one pass through them."""
        items = self._items[self._bounds[chosen] : self._bounds[chosen + 1]]
        return np.random.default_rng((self._seed, 1 + chosen, epoch)).permutation(items)


class _Kept:
    """The last few values that were computed, by key."""

    def __init__(self) -> None:
        self._values: OrderedDict[int, Any] = OrderedDict()

    def get(self, key: int, most: int, compute: Callable[[], Any]) -> Any:
        value = self._values.get(key)
        if value is None:
            value = self._values[key] = compute()
            while len(self._values) > most:
                self._values.popitem(last=False)
        return value


def choose_places(sampler: BalancedSampler, place: int, count: int, labels: Callable[[int], np.ndarray]) -> list[int]:
    """The places of the order whose items are mixed: a target, and the next ones that share no label with one another.

    Args:
      sampler: the order.
      place: of the target, the first of the mixture.
      count: sources in a mixture.
      labels: class indices of an item.

    Returns:
      `count` places, or fewer where the order has none.
    """
    chosen = [place]
    of_chosen = [labels(sampler[place])]
    for later in range(place + 1, place + PARTNER_SEARCH):
        if len(chosen) == count:
            break
        candidate = labels(sampler[later])
        if all(audioset.disjoint(candidate, other) for other in of_chosen):
            chosen.append(later)
            of_chosen.append(candidate)
    return chosen
