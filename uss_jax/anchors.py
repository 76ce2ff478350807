"""Anchors: the two seconds of a clip in which a class really sounds (paper, section III-B).

A tagger that hears when a class sounds is run over each weakly labelled clip; the anchor is where its probability,
averaged over a segment, is highest.
"""

import dataclasses
from pathlib import Path

import numpy as np

from uss_jax import files
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Anchors of one split of a dataset; as mined, one for each (clip, label) pair, in the order of the clips.

    Attributes:
      clip: (anchors,) int32, clip numbers.
      label: (anchors,) int16, class indices.
      start: (anchors,) int32, first sample of each anchor.
      confidence: (anchors,) float16, mean probability of the class in the anchor.
    """

    clip: np.ndarray
    label: np.ndarray
    start: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of_pairs(cls, clips: Clips, start: np.ndarray, confidence: np.ndarray) -> "Anchors":
        """The anchors of every (clip, label) pair of a dataset, in its order; labels are the dataset's own array."""
        clip, label = clips.label_pairs()
        return cls(
            clip.astype(np.int32, copy=False),
            label.astype(np.int16, copy=False),
            start.astype(np.int32, copy=False),
            confidence.astype(np.float16, copy=False),
        )

    def save(self, path: Path, clips: Clips) -> None:
        """Writes an .npz file of at most six bytes an anchor: clips and labels are in the dataset's index already.

        Raises:
          ValueError: these are not the anchors of every (clip, label) pair of this dataset.
        """
        if not all(map(np.array_equal, (self.clip, self.label), clips.label_pairs())):
            raise ValueError(f"{path}: not every label of every clip of {clips.folder} has its anchor")
        arrays = {"start": self.start, "confidence": self.confidence}
        files.write_arrays(path, **arrays, dataset=np.array(clips.fingerprint()))

    def at_least(self, confidence: float) -> "Anchors":
        """The anchors of which the tagger is this sure, and the surest one of every class."""
        keep = self.confidence >= confidence
        if keep.all():
            return self
        surest = np.full(int(self.label.max()) + 1, -np.inf, self.confidence.dtype)
        np.maximum.at(surest, self.label, self.confidence)
        as_sure = np.flatnonzero(self.confidence == surest[self.label])
        _, first = np.unique(self.label[as_sure], return_index=True)
        keep[as_sure[first]] = True
        return self._kept(keep)

    def of_clips(self, wanted: np.ndarray) -> "Anchors":
        """The anchors of some clips, (clips,) bool."""
        return self._kept(wanted[self.clip])

    def of_few_clips(self, per_class: int) -> "Anchors":
        """The anchors of at most so many clips of each class: always the same ones, chosen at random."""
        rank = np.random.default_rng(0).permutation(int(self.clip.max()) + 1)[self.clip]
        order = np.lexsort((rank, self.label))
        first = np.searchsorted(self.label[order], self.label[order])
        keep = np.sort(order[np.arange(len(order)) - first < per_class])
        return self._kept(keep)

    def _kept(self, keep: np.ndarray) -> "Anchors":
        """Some of the anchors, by a mask or by their numbers."""
        return Anchors(self.clip[keep], self.label[keep], self.start[keep], self.confidence[keep])


def anywhere(clips: Clips, segment_samples: int, seed: int) -> Anchors:
    """A random part of the clip for every (clip, label) pair, with confidence 1: anchors that no tagger found."""
    clip, _ = clips.label_pairs()
    room = np.maximum(0, clips.samples[clip].astype(np.int64) - segment_samples)
    start = np.random.default_rng(seed).integers(0, room + 1)
    return Anchors.of_pairs(clips, start, np.ones(len(clip)))


def anchors_path(folder: str | Path, split: str) -> Path:
    """Where the anchors of a split are kept in a folder."""
    return Path(folder) / f"anchors-{split}.npz"


def note_path(folder: str | Path, split: str) -> Path:
    """Where it stands what the anchors of a split were mined from."""
    return Path(folder) / f"anchors-{split}.json"


def check_length(folder: str | Path, clips: Clips, samples: int) -> None:
    """Raises ValueError where anchors were mined that are longer or shorter than those asked for."""
    for split in clips.split.split("+"):
        note = note_path(folder, split)
        mined = files.read_json(note)["segment_seconds"] if note.is_file() else None  # a store has none
        if mined is not None and round(mined * SAMPLE_RATE_HZ) != samples:
            seconds = samples / SAMPLE_RATE_HZ
            raise ValueError(
                f"{note}: these anchors are {mined:g} s long, and data.anchor_seconds is {seconds:g}; "
                f"mine others (`uss-jax anchors … --seconds {seconds:g}`)"
            )


def load_anchors(folder: str | Path, clips: Clips) -> Anchors:
    """The anchors of clips, one for each (clip, label) pair; of a sum of splits, those of each split's file in turn.

    Raises:
      ValueError: there are none, or they are of another dataset.
    """
    found = []
    for split in clips.split.split("+"):
        path = anchors_path(folder, split)
        arrays = files.read_arrays(path, ("start", "confidence", "dataset"))
        if str(arrays["dataset"]) != _fingerprint(clips, split):
            raise ValueError(f"{path}: these anchors are of another dataset than {clips.folder}")
        found.append((arrays["start"], arrays["confidence"]))
    starts, confidences = zip(*found, strict=True)
    return Anchors.of_pairs(clips, np.concatenate(starts), np.concatenate(confidences))


def _fingerprint(clips: Clips, split: str) -> str:
    """Of a split of clips; nothing that is read for it is kept."""
    return (clips if split == clips.split else Clips(clips.folder, split)).fingerprint()


def moving_average(probability: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over `width` frames, ends replicated: (frames, …) → (frames, …). `width` is odd."""
    half = width // 2
    padded = np.pad(probability, [(half, half)] + [(0, 0)] * (probability.ndim - 1), mode="edge").astype(np.float64)
    total = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0)
    return (total[width:] - total[:-width]) / width


def find(probability: np.ndarray, segment_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a class sounds surest.

    Args:
      probability: (frames, classes), framewise.
      segment_frames: hops in a segment (200 for 2 s).

    Returns:
      First frame of the best segment, (classes,), clamped so that the segment fits into the clip, and the mean
      probability around its centre, (classes,).
    """
    score = moving_average(probability, segment_frames // 2 * 2 + 1)
    centre = np.argmax(score, axis=0)
    confidence = np.take_along_axis(score, centre[None], axis=0)[0]
    last = max(0, len(probability) - 1 - segment_frames)
    return np.clip(centre - segment_frames // 2, 0, last), confidence
