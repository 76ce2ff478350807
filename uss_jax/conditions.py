"""The separator's condition for each target in each block of a recording."""

import numpy as np

from uss_jax import targets
from uss_jax.inference import Inference
from uss_jax.targets import Target

THRESHOLD = 0.2  # a sound is active in a block where its probability reaches this (reference)


def check_known(inference: Inference, target: Target) -> None:
    """Raises ValueError where a query is latent, and the model does not know this target's."""
    networks = inference.networks
    known = networks.class_conditions is not None and set(networks.config["classes"]) & set(target.class_indices)
    if networks.config["query"]["kind"] != "soft" and target.condition is None and not known:
        raise ValueError(
            f"{target.name}: the query of this model is latent, and it was not told this sound's; give examples"
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
      ValueError: the query is latent, and the model does not know a target's.
    """
    networks = inference.networks
    known = networks.config["classes"]
    means = networks.class_conditions
    soft = networks.config["query"]["kind"] == "soft"
    bottlenecks = probabilities if soft and networks.query_tagger is networks.tagger else None
    found = []
    for target in wanted:
        if target.condition is not None:
            found.append(np.broadcast_to(target.condition, (len(probabilities), len(target.condition))))
        elif means is not None and not paper and set(known) & set(target.class_indices):
            found.append(targets.class_mixture(target, probabilities, known, means, THRESHOLD))
        else:
            if not paper:
                check_known(inference, target)
            if bottlenecks is None:
                bottlenecks = inference.bottlenecks(segments)
            masked = targets.masked(target, bottlenecks)
            found.append(inference.conditions_of_bottlenecks(masked))
    return found
