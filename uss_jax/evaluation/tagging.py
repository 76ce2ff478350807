"""The benchmark `tagging`: how well a model names what sounds in held-back clips."""

from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import audio, metrics, model_dir, progress
from uss_jax.dataset import Clips
from uss_jax.evaluation.clips import categories
from uss_jax.evaluation.summary import versions
from uss_jax.inference import Inference


def evaluate_tagging(networks: model_dir.Networks, data: Path) -> dict[str, Any]:
    """How well whole validation clips are tagged: average precision per class, and `top1`.

    A clip is tagged by its most probable segment, segments as in separation. `top1` is the share of clips whose most
    probable class, among the classes of the dataset, is one of their labels.
    """
    train, validation = Clips(data, "train"), Clips(data, "validation")
    inference = Inference(networks)
    found, _ = categories(train, validation)
    numbers = range(len(validation))
    probability = np.stack(
        [
            inference.probabilities(audio.segments(validation.audio(clip), networks.segment_samples)).max(axis=0)
            for clip in progress.track(numbers, "tagging", len(validation))
        ]
    )
    truth = np.zeros(probability.shape, bool)
    for clip in numbers:
        truth[clip, validation.labels(clip)] = True
    per_class = {
        category.name: {
            "average_precision": metrics.average_precision(truth[:, index], probability[:, index]),
            "n": int(truth[:, index].sum()),
        }
        for category in found
        for index in category.labels[:1]
    }
    columns = sorted({label for category in found for label in category.labels})
    best = np.array(columns)[probability[:, columns].argmax(axis=1)]
    return {
        "benchmark": "tagging",
        "model": networks.config["name"],
        "query": "none",
        "n": len(validation),
        "mean": {
            "average_precision": float(np.mean([row["average_precision"] for row in per_class.values()])),
            "top1": float(truth[np.arange(len(best)), best].mean()),
        },
        "per_class": per_class,
        "versions": versions(),
    }
