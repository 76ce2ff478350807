"""The separator's condition for each target in each block of a recording."""

import numpy as np

from uss_jax import audioset, targets
from uss_jax.inference import Inference
from uss_jax.targets import Target

BY_CLASS = ("soft", "hard")  # kinds of query whose elements stand for classes, so that any class can be asked for


def check_known(inference: Inference, target: Target) -> None:
    """Raises ValueError where no element of a query stands for a class, and the model was not told this target's."""
    networks = inference.networks
    known = networks.class_conditions is not None and set(networks.config["classes"]) & set(target.class_indices)
    kind = networks.config["query"]["kind"]
    if kind not in BY_CLASS and target.condition is None and not known:
        raise ValueError(
            f"{target.name}: the query of this model is {kind}, and it was not told this sound's; give examples"
            " of it (--query), or ask for the reference's inference (--paper)"
        )


def conditions(
    inference: Inference, wanted: list[Target], segments: np.ndarray, probabilities: np.ndarray, paper: bool = False
) -> list[np.ndarray]:
    """The condition of each target in each block.

    Args:
      inference: of the model.
      wanted: the targets.
      segments: (blocks, time), what is heard of the mixture in them, at the model's rate.
      probabilities: (blocks, classes), what the tagger says of it.
      paper: as in `Model.separate`.

    Returns:
      For each target (blocks, condition).

    Raises:
      ValueError: no element of the query stands for a class, and the model was not told a target's.
    """
    networks = inference.networks
    known = networks.config["classes"]
    means = networks.class_conditions
    kind = networks.config["query"]["kind"]
    bottlenecks = probabilities if kind == "soft" and networks.query_tagger is networks.tagger else None
    found = []
    for target in wanted:
        if target.condition is not None:
            found.append(np.broadcast_to(target.condition, (len(probabilities), len(target.condition))))
        elif kind == "hard":
            found.append(_hard(inference, target, probabilities))
        elif means is not None and not paper and set(known) & set(target.class_indices):
            found.append(targets.class_mixture(target, probabilities, known, means))
        else:
            if not paper:
                check_known(inference, target)
            if bottlenecks is None:
                bottlenecks = inference.bottlenecks(segments)
            masked = targets.masked(target, bottlenecks)
            found.append(inference.conditions_of_bottlenecks(masked))
    return found


def _hard(inference: Inference, target: Target, probabilities: np.ndarray) -> np.ndarray:
    """The condition of the target's active classes in each block, at least of the most probable: (blocks, condition).

    Zeros and ones cannot say weights: where classes have them, it is the weighted mean of each class's condition.
    """
    classes = target.class_indices
    alone = np.eye(audioset.CLASS_COUNT, dtype=np.float32)[list(classes)]
    if target.weights:
        of_each = inference.conditions_of_bottlenecks(alone)
        return targets.class_mixture(target, probabilities, classes, of_each)
    heard = probabilities[:, list(classes)]
    active = (heard >= target.least) | (heard == heard.max(axis=1, keepdims=True))
    return inference.conditions_of_bottlenecks(active.astype(np.float32) @ alone)
