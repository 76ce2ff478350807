"""Our training step on random weights and noise: what `train_step.py` times and `roofline.py` looks into."""

import runpy
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uss_jax import audioset, model_dir
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.training import tasks
from uss_jax.training.optimiser import make_optimiser, make_schedule
from uss_jax.training.step import TrainState, make_step, separator_loss

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # configurations import one another as `configs.…`
CONFIG = ROOT / "configs" / "resunet30_soft.py"
TAGGER = {"kind": "cnn14"}
SEGMENT_SECONDS = 2.0


def load_config(path: Path, precision: str, rematerialise: bool) -> Any:
    """The configuration that a file of `configs/` gives, at a precision."""
    config = runpy.run_path(str(path))["get_config"]()
    config.precision, config.rematerialise = precision, rematerialise
    return config


def random_batch(batch_size: int, seconds: float = SEGMENT_SECONDS) -> dict[str, np.ndarray]:
    """A batch of noise as the input pipeline would give it."""
    random, samples = np.random.default_rng(0), round(seconds * SAMPLE_RATE_HZ)
    source, other = random.normal(0.0, 0.1, (2, batch_size, samples)).astype(np.float32)
    query_classes = np.ones((batch_size, audioset.CLASS_COUNT), np.float32)
    return {"mixture": source + other, "source": source, "query_classes": query_classes}


def random_variables(networks: model_dir.Networks) -> Any:
    """Variables of every part of a model, drawn on the host: quicker than initialising it, and as good to time."""
    random = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if any(key.key == "batch_stats" for key in path):
            return np.ones(leaf.shape, np.float32)
        return 0.02 * random.standard_normal(leaf.shape, np.float32)

    shapes = model_dir.variable_shapes(networks)
    return jax.tree.map_with_path(draw, shapes)


def make_networks(config: Any, tagger: dict[str, Any]) -> model_dir.Networks:
    """The networks of a run, without variables.

    Args:
      config: of a separator.
      tagger: description of the frozen tagger, as in a model's configuration.
    """
    description = {
        "name": config.name,
        "segment_seconds": SEGMENT_SECONDS,
        "tagger": tagger,
        "query": config.query.to_dict(),
        "separator": config.separator.to_dict(),
        "classes": [],
    }
    return tasks.for_training(model_dir.build_networks(description, {}), config)


def make_training(config: Any, tagger: dict[str, Any]) -> tuple[TrainState, Any]:
    """Random weights on the host, and the step for `parallel.pmap_step`; arguments as for `make_networks`."""
    networks = make_networks(config, tagger)
    optimiser = make_optimiser(config.optimiser, make_schedule(config.optimiser, config.steps))
    variables = random_variables(networks)
    params = {"query": variables["query"].get("params", {}), "separator": variables["separator"]["params"]}
    state = TrainState(
        step=jnp.int32(0),
        seed=jnp.uint32(config.seed),
        params=params,
        batch_stats={"separator": variables["separator"]["batch_stats"]},
        frozen=variables["tagger"],
        opt_state=optimiser.init(params),
    )
    loss = separator_loss(networks, config.loss)
    return state, make_step(loss, optimiser, config.accumulate, config.precision)
