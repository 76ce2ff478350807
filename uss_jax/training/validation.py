"""Evaluation during training, on held-back clips: a fixed list of items, shared out over the hosts.

A separator is evaluated with the reference's oracle query, the condition of the very source; a tagger by average
precision. Scores are a pure function of the data and the weights, and the same on every host.
"""

from collections.abc import Callable, Sequence
from typing import SupportsIndex

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils

from uss_jax import audio, metrics, mixing, progress
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips
from uss_jax.evaluation import summary
from uss_jax.inference import Inference
from uss_jax.model_dir import Networks
from uss_jax.sampling import BalancedSampler, choose_places

BATCH_SIZE = 8  # of every pass, whatever the number of hosts, for it changes the last bits
READERS = 2  # threads

Arrays = tuple[np.ndarray, ...]


class SeparatorValidation:
    """SDR improvement of a separator on mixtures of anchors, each with its own source as the query.

    The targets are up to `per_class` anchors of every class; the partner is the next anchor of the balanced order
    whose clip shares no label with the target's, rescaled to the target's energy. A target that has none is left out.

    Attributes:
      mixtures: (mixtures, 2), the numbers of the anchors that are mixed, target first.
    """

    def __init__(self, clips: Clips, anchors: Anchors, segment_samples: int, per_class: int) -> None:
        """Says what to separate.

        Args:
          clips: of the split that was held back.
          anchors: of these clips.
          segment_samples: samples of a mixture.
          per_class: most targets of a class.

        Raises:
          ValueError: the split has no anchors, or no two clips without a common label.
        """
        if not len(anchors.label):
            raise ValueError(f"{clips.folder}: the split {clips.split!r} has no anchors")
        self._clips, self._anchors, self._segment_samples = clips, anchors, segment_samples
        sampler = BalancedSampler(anchors.label, seed=0)
        chosen: dict[int, list[int]] = {}  # by target: a class with few anchors comes to them again
        for place in range(per_class * len(np.unique(anchors.label))):  # in each round every class comes up once
            if sampler[place] not in chosen:
                places = choose_places(sampler, place, 2, lambda anchor: clips.labels(int(anchors.clip[anchor])))
                chosen[sampler[place]] = [sampler[chosen_place] for chosen_place in places]
        pairs = [anchor_pair for anchor_pair in chosen.values() if len(anchor_pair) == 2]
        if not pairs:
            raise ValueError(f"{clips.folder}: the split {clips.split!r} has no two clips without a common label")
        self.mixtures = np.array(pairs)

    def __call__(self, networks: Networks) -> dict[str, float]:
        """Means over the classes of the median `sdr` and `sdri` of a class's mixtures, in dB."""
        inference = Inference(networks, BATCH_SIZE)

        def score(mixture: np.ndarray, source: np.ndarray) -> np.ndarray:
            estimate = inference.separate(mixture, inference.conditions(source))
            found = metrics.sdr(source, estimate), metrics.sdr_improvement(source, estimate, mixture)
            return np.stack(found, axis=-1)

        scores = on_all_hosts(self._mixture, score, len(self.mixtures))
        labels = self._anchors.label[self.mixtures[:, 0]]
        by_class = {}
        for label in np.unique(labels):
            sdr, sdri = scores[labels == label].T
            by_class[str(label)] = summary.Scores({"sdr": sdr, "sdri": sdri}, np.arange(len(sdr)))
        return summary.mean(summary.medians(by_class))

    def _mixture(self, index: int) -> Arrays:
        """A mixture and its target, each (time,)."""
        target, partner = (self._segment(int(anchor)) for anchor in self.mixtures[index])
        return mixing.add(mixing.scaled([target, partner])), target

    def _segment(self, anchor: int) -> np.ndarray:
        clip, start = int(self._anchors.clip[anchor]), int(self._anchors.start[anchor])
        return audio.fit_length(self._clips.audio(clip, start, self._segment_samples), self._segment_samples)


class TaggerValidation:
    """Average precision of a tagger on whole clips, meaned over the classes.

    Attributes:
      numbers: (clips,), the clips that are tagged: up to `per_class` for each label, ascending.
    """

    def __init__(self, clips: Clips, clip_samples: int, per_class: int) -> None:
        """Says what to tag.

        Args:
          clips: of the split that was held back.
          clip_samples: length to which they are cut, or padded with zeros.
          per_class: most clips that are taken for the sake of a class.

        Raises:
          ValueError: no clip has a label.
        """
        pair_clips, labels = clips.label_pairs()
        if not len(labels):
            raise ValueError(f"{clips.folder}: no clip of the split {clips.split!r} has a label")
        self._clips, self._clip_samples = clips, clip_samples
        sampler = BalancedSampler(labels, seed=0)
        places = range(per_class * len(np.unique(labels)))
        self.numbers = np.unique(pair_clips[[sampler[place] for place in places]])

    def __call__(self, networks: Networks) -> dict[str, float]:
        """The `average_precision`, 0…1."""
        inference = Inference(networks, BATCH_SIZE)
        probability = on_all_hosts(self._clip, inference.probabilities, len(self.numbers))
        truth = np.zeros(probability.shape, bool)
        for row, clip in enumerate(self.numbers):
            truth[row, self._clips.labels(int(clip))] = True
        classes = np.flatnonzero(truth.any(axis=0))
        precisions = [metrics.average_precision(truth[:, label], probability[:, label]) for label in classes]
        return {"average_precision": float(np.mean(precisions))}

    def _clip(self, index: int) -> Arrays:
        return (audio.fit_length(self._clips.audio(int(self.numbers[index])), self._clip_samples),)


class _Batches:
    """Grain source of full batches of the items of some indices; the last one is filled up with its last item."""

    def __init__(self, read: Callable[[int], Arrays], indices: Sequence[int]) -> None:
        self._read, self._indices = read, indices

    def __len__(self) -> int:
        return -(-len(self._indices) // BATCH_SIZE)

    def __getitem__(self, record_key: SupportsIndex) -> Arrays:
        first = int(record_key) * BATCH_SIZE
        items = [self._read(index) for index in self._indices[first : first + BATCH_SIZE]]
        items += items[-1:] * (BATCH_SIZE - len(items))
        return tuple(np.stack(arrays) for arrays in zip(*items, strict=True))


def on_all_hosts(read: Callable[[int], Arrays], score: Callable[..., np.ndarray], count: int) -> np.ndarray:
    """Scores items, each on one host, and gathers the scores on all of them.

    Args:
      read: the arrays of an item, the same in all items but for their content.
      score: of a batch of items, arrays (batch, …) → (batch, scores).
      count: of items.

    Returns:
      (items, scores), float32.
    """
    process, processes = jax.process_index(), jax.process_count()
    # A host with an item less than others has the last one again, so that all of them gather as many.
    indices = [min(first + process, count - 1) for first in range(0, count, processes)]
    batches = _Batches(read, indices)
    stream = grain.MapDataset.source(batches).to_iter_dataset(grain.ReadOptions(READERS, 2 * READERS))
    found = [score(*batch) for batch in progress.track(stream, "validating", len(batches))]
    own = np.concatenate(found)[: len(indices)].astype(np.float32)
    if processes == 1:
        return own
    gathered = np.asarray(multihost_utils.process_allgather(own))  # (processes, items of each, scores)
    return gathered.swapaxes(0, 1).reshape(-1, own.shape[-1])[:count]
