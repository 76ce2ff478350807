"""The model card that a training run writes."""

import platform
from typing import Any

import jax

from uss_jax import audioset
from uss_jax.model_dir import Networks


def model_card(config: Any, networks: Networks, step: int) -> str:
    """Facts of a training run as Markdown; what a person knows (licences, scores) is to be added by one."""
    went_on = []
    if config.initial_model:
        went_on = [f"- went on from `{config.initial_model}`, with its licences and what it heard in training"]
    if config.get("positive_weight", 1.0) != 1.0:
        went_on.append(f"- its probabilities are higher than the truth: positive_weight {config.positive_weight:g}")
    lines = [
        f"# {config.name}",
        "",
        f"A uss_jax {config.task}, trained by `train.py` for {step} steps of {config.batch_size} items.",
        "",
        *went_on,
        *(f"- {part}: {count:,} parameters" for part, count in networks.parameter_counts().items() if part != "sed"),
        f"- seed {config.seed}, JAX {jax.__version__}, {jax.default_backend()} ({platform.machine()})",
        f"- classes heard in training: {', '.join(audioset.class_names(networks.config['classes']))}",
        "",
    ]
    return "\n".join(lines)
