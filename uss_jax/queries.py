"""Queries from recordings: the mean condition of examples (paper, section III-F)."""

from typing import TYPE_CHECKING

import numpy as np

from uss_jax import audio, progress
from uss_jax.audioset import CLASS_COUNT
from uss_jax.inference import Inference
from uss_jax.model_dir import Networks

if TYPE_CHECKING:  # what reads datasets takes long to import, and separating needs none
    from uss_jax.anchors import Anchors
    from uss_jax.dataset import Clips

CLIPS_OF_CLASS = 100  # at most so many sources make the mean condition of a class (paper's evaluation)


def example_condition(inference: Inference, recordings: list[np.ndarray]) -> np.ndarray:
    """The query of example recordings, as in the reference.

    Silence is removed, and what remains cut into segments, whose conditions are averaged over each recording, then over
    the recordings. A recording that holds nothing else to the reference, as one that is soft or shorter than 0.1 s, is
    taken whole, and made louder.

    Args:
      inference: of a model with a separator.
      recordings: each (time,), at the model's sample rate.

    Returns:
      (condition,).

    Raises:
      ValueError: all recordings are silent.
    """
    networks = inference.networks
    means = []
    for recording in recordings:
        pieces = audio.segments(_loud(recording), networks.segment_samples)
        if len(pieces):
            means.append(inference.conditions(pieces).mean(axis=0))
    if not means:
        raise ValueError("the example recordings are silent")
    return np.mean(means, axis=0)


def _loud(recording: np.ndarray) -> np.ndarray:
    """What the reference hears of an example: (time,) → (time,); of a softer or shorter one all, made louder."""
    loud = audio.remove_silence(recording, audio.SAMPLE_RATE_HZ)
    if not len(loud) and recording.any():
        return recording * (0.5 / np.abs(recording).max())
    return loud


def class_conditions(networks: Networks, clips: "Clips", anchors: "Anchors", anchor_samples: int) -> np.ndarray:
    """The mean condition of each class's anchors, up to 100 of the surest; of a hard query, that of the class alone.

    Args:
      networks: a model that separates; the classes are those of `networks.config["classes"]`, in that order.
      clips: the clips that the anchors lie in.
      anchors: with at least one of each class.
      anchor_samples: length of each anchor.

    Returns:
      (classes, condition).
    """
    inference = Inference(networks)
    labels = networks.config["classes"]
    if networks.config["query"]["kind"] == "hard":  # what is heard in an anchor may be another class
        return inference.conditions_of_bottlenecks(np.eye(CLASS_COUNT, dtype=np.float32)[labels])
    rows = []
    for label in progress.track(labels, "averaging queries", len(labels)):
        of_class = np.flatnonzero(anchors.label == label)
        surest = of_class[np.argsort(-anchors.confidence[of_class], kind="stable")][:CLIPS_OF_CLASS]
        pieces = [
            audio.fit_length(clips.audio(int(anchors.clip[i]), int(anchors.start[i]), anchor_samples), anchor_samples)
            for i in surest
        ]
        rows.append(inference.conditions(np.stack(pieces)).mean(axis=0))
    return np.stack(rows)
