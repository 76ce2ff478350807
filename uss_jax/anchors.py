"""Anchors: the two seconds of a clip in which a class really sounds (paper, section III-B).

A tagger that hears when a class sounds is run over each weakly labelled clip; the anchor is where its probability,
averaged over a segment, is highest.
"""

import dataclasses
from pathlib import Path

import numpy as np

from uss_jax import files


@dataclasses.dataclass(frozen=True)
class Anchors:
    """The anchors of one split of a dataset, one for each (clip, label) pair.

    Attributes:
      clip: (anchors,), clip numbers.
      label: (anchors,), class indices.
      start: (anchors,), first sample of each anchor.
      confidence: (anchors,), mean probability of the class in the anchor.
    """

    clip: np.ndarray
    label: np.ndarray
    start: np.ndarray
    confidence: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        files.write_arrays(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Anchors":
        """Raises ValueError where the file is missing or incomplete."""
        return cls(**files.read_arrays(path, tuple(field.name for field in dataclasses.fields(cls))))

    def at_least(self, confidence: float) -> "Anchors":
        """The anchors of which the tagger is surer than this, and the surest one of every class."""
        keep = self.confidence >= confidence
        for label in np.unique(self.label):
            of_class = np.flatnonzero(self.label == label)
            keep[of_class[np.argmax(self.confidence[of_class])]] = True
        return Anchors(self.clip[keep], self.label[keep], self.start[keep], self.confidence[keep])


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
