"""The training loop, read from top to bottom."""

import logging
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from uss_jax import mixtures, model_dir, parallel, progress
from uss_jax.training.card import model_card
from uss_jax.training.checkpoints import Checkpoints, save_config
from uss_jax.training.metrics import MetricWriter, require_finite
from uss_jax.training.optimiser import make_optimiser, make_schedule
from uss_jax.training.step import TrainState, make_step
from uss_jax.training.tasks import make_task

logger = logging.getLogger(__name__)


def train(config: Any, workdir: Path) -> Path:
    """Trains what the config says, from the newest checkpoint in the workdir if there is one.

    Args:
      config: a locked ConfigDict; `configs/` holds examples with a comment on every field.
      workdir: gets config.json, checkpoints, metrics.jsonl, TensorBoard scalars and, at the end, `model`.

    Returns:
      The model directory.

    Raises:
      ValueError: data or configuration are wrong.
      FloatingPointError: the loss is not finite.
    """
    for name in ("steps", "batch_size", "log_every", "checkpoint_every", "checkpoints_kept"):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}: expected 1 or more")

    # Task: data, model, loss.
    task = make_task(config, items=config.steps * config.batch_size)
    local_batch = parallel.per_process(config.batch_size)
    data = mixtures.batches(task.source, local_batch, config.data.workers, jax.process_index(), jax.process_count())

    # Optimiser and state.
    schedule = make_schedule(config.optimiser, config.steps)
    optimiser = make_optimiser(config.optimiser, schedule)
    state = TrainState(jnp.int32(0), task.params, task.batch_stats, task.frozen, optimiser.init(task.params))
    state = parallel.replicate(state)
    step_function = parallel.pmap_step(make_step(task.loss, optimiser, config.seed))

    # Resume.
    save_config(workdir, config)
    checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints_kept)
    state = checkpoints.restore_newest(state, data)
    first_step = int(state.step)
    if first_step:
        logger.info("resumed after step %d", first_step)
    writer = MetricWriter(workdir, first_step)

    # Train. The metrics of a step are fetched after the next is under way, so that the device never waits for the host.
    started, pending = time.monotonic(), None
    with progress.bar() as display:
        bar = display.add_task(f"training {config.name}", total=config.steps, completed=first_step)
        for step in range(first_step + 1, config.steps + 1):
            state, metrics = step_function(state, parallel.shard(next(data)))
            if pending:
                _log(writer, *pending)
                pending = None
            if step % config.log_every == 0 or step == config.steps:
                items_per_second = (step - first_step) * config.batch_size / (time.monotonic() - started)
                pending = (step, metrics, float(schedule(step - 1)), items_per_second)
            display.update(bar, completed=step)
            if step % config.checkpoint_every == 0 or step == config.steps:
                if pending:
                    _log(writer, *pending)
                    pending = None
                require_finite(step, float(metrics["loss"]))
                checkpoints.save(step, state, data)
    writer.close()
    checkpoints.close()

    # Export.
    networks = task.export(state)
    folder = workdir / "model"
    model_dir.save(folder, networks, model_card(config, networks), half=config.half_weights, overwrite=True)
    return folder


def _log(
    writer: MetricWriter, step: int, metrics: dict[str, jax.Array], learning_rate: float, items_per_second: float
) -> None:
    scalars = {name: float(value) for name, value in jax.device_get(metrics).items()}
    logger.info("step %d: loss %.4f, %.1f items/s", step, scalars["loss"], items_per_second)
    writer.write(step, scalars | {"learning_rate": learning_rate}, {"items_per_second": items_per_second})
