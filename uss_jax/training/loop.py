"""The training loop, read from top to bottom."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from uss_jax import files, mixtures, model_dir, parallel, progress
from uss_jax.training import speed, workdir
from uss_jax.training.card import model_card
from uss_jax.training.checkpoints import Checkpoints
from uss_jax.training.metrics import MetricWriter, require_finite
from uss_jax.training.optimiser import make_optimiser, make_schedule
from uss_jax.training.step import PRECISIONS, TrainState, make_step
from uss_jax.training.stopping import Stopped, Stopping
from uss_jax.training.tasks import Task, make_task

CLIPS_SHOWN = 5  # in the message about a loss that is not finite

logger = logging.getLogger(__name__)


def train(config: Any, folder: Path, profile: bool = False) -> Path:
    """Trains what the config says, from the newest checkpoint in the workdir if there is one.

    Every process of a run calls it, with one and the same workdir.

    Args:
      config: a locked ConfigDict; `configs/` holds examples with a comment on every field.
      folder: the workdir; gets run.json, checkpoints, metrics.jsonl, TensorBoard scalars and, at the end, `model`,
        and `best` where the run was evaluated.
      profile: write an XLA trace of a few steps to the workdir's `profile`.

    Returns:
      The model directory.

    Raises:
      ValueError: data or configuration are wrong.
      OSError: something could not be written.
      FloatingPointError: the loss, or a norm, is not finite.
      Stopped: SIGINT or SIGTERM came; what was reached is saved.
    """
    _check(config)

    # Task: data, model, loss.
    task = make_task(config, items=config.steps * config.batch_size)
    workdir.claim(folder, config.to_dict(), task.inputs)

    # Optimiser and state: the newest of the checkpoints, if there are any.
    schedule = make_schedule(config.optimiser, config.steps)
    optimiser = make_optimiser(config.optimiser, schedule)
    initial = TrainState(jnp.int32(0), task.params, task.batch_stats, {}, optimiser.init(task.params))
    initial = jax.device_get(initial)
    checkpoints = Checkpoints(folder / "checkpoints", config.checkpoints_kept)
    resumed = checkpoints.restore_newest(initial) or initial
    first_step = int(resumed.step)
    if first_step:
        logger.info("resumed after step %d", first_step)
    state = parallel.replicate(dataclasses.replace(resumed, frozen=task.frozen))

    if first_step < config.steps:
        data = mixtures.batches(
            task.source,
            config.batch_size,
            start=first_step,
            workers=config.data.workers,
            process=jax.process_index(),
            process_count=jax.process_count(),
        )
        writer = MetricWriter(folder, first_step, active=parallel.is_main())

        # Compile.
        make = make_step(task.loss, optimiser, config.seed, config.accumulate, config.precision)
        first = next(data)
        lowered = parallel.pmap_step(make).lower(state, parallel.shard(first))
        step_function = lowered.compile()
        logger.info(speed.memory_report(step_function, config.batch_size // jax.device_count()))
        meter = speed.Meter(config.batch_size, speed.flops_of(lowered), config.precision)
        trace = speed.Trace(folder / "profile" if profile else None)

        def finish(step: int, metrics: Any, rates: dict[str, float], scores: dict[str, float]) -> None:
            """Looks at the metrics of a step, and logs them if there are rates to go with them, or scores."""
            scalars = {name: float(value) for name, value in jax.device_get(metrics).items()}
            try:
                require_finite(step, scalars)
            except FloatingPointError as error:
                raise FloatingPointError(f"{error}; {_clips_of_step(task, config, step, folder)}") from error
            if rates or scores:
                scalars |= {"learning_rate": float(schedule(step - 1))} | scores
                writer.write(step, scalars, rates)

        # Train. The metrics of a step are fetched when the next is under way, so that devices never wait for the host.
        pending: tuple[int, Any, dict[str, float]] | None = None
        with Stopping() as stopping, progress.bar() as display:
            bar = display.add_task(f"training {config.name}", total=config.steps, completed=first_step)
            source = itertools.chain([first], data)
            for step in range(first_step + 1, config.steps + 1):
                trace.before(step - first_step)
                state, metrics = step_function(state, parallel.shard(meter.wait_for(source)))
                trace.after(step - first_step, metrics)
                if pending:
                    finish(*pending, {})
                logged = step % config.log_every == 0 or step == config.steps
                pending = (step, metrics, meter.rates() if logged else {})
                display.update(bar, completed=step)
                signal = stopping.after(step)
                evaluated = task.validate is not None and step % config.evaluation.every == 0
                if signal or evaluated or step % config.checkpoint_every == 0 or step == config.steps:
                    host = jax.device_get(dataclasses.replace(state, frozen={}))
                    scores = task.validate(task.networks(host)) if task.validate and evaluated else {}
                    finish(*pending, scores)
                    pending = None
                    writer.sync()
                    checkpoints.save(step, host, scores.get(task.score))
                    meter.restart()
                if signal:
                    raise Stopped(step, signal)
        writer.close()

    # Export.
    last = dataclasses.replace(jax.device_get(state), frozen={})
    best_step = checkpoints.best_step()
    exports = {"model": last} | ({} if best_step is None else {"best": checkpoints.restore(best_step, initial)})
    checkpoints.close()
    if parallel.is_main():
        for name, exported in exports.items():
            networks = task.complete(task.networks(exported))
            card = model_card(config, networks, int(exported.step))
            model_dir.save(folder / name, networks, card, half=config.half_weights, overwrite=True)
    parallel.wait_for_all("model written")
    return folder / "model"


def _check(config: Any) -> None:
    """Raises ValueError where a number or a name of the configuration cannot be."""
    for name in ("steps", "batch_size", "log_every", "checkpoint_every", "checkpoints_kept", "accumulate"):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}: expected 1 or more")
    if config.precision not in PRECISIONS:
        raise ValueError(f"precision {config.precision!r}: expected one of {', '.join(PRECISIONS)}")
    parallel.check_batch(config.batch_size, config.accumulate)


def _clips_of_step(task: Task, config: Any, step: int, folder: Path) -> str:
    """Writes which clips were in a step's batch to a file, and says where."""
    items = range((step - 1) * config.batch_size, step * config.batch_size)
    clips = [task.clip_ids(index) for index in items]
    path = folder / f"not-finite-{step}.json"
    if parallel.is_main():
        files.write_json(path, {"step": step, "items": dict(zip(map(str, items), clips, strict=True))})
    shown = ", ".join(" + ".join(ids) for ids in clips[:CLIPS_SHOWN])
    return f"the clips of its batch are in {path}, the first {shown}"
