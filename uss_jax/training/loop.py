"""The training loop, read from top to bottom."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uss_jax import compiling, files, mixtures, model_dir, parallel, processes, progress
from uss_jax.training import speed, workdir
from uss_jax.training.card import model_card
from uss_jax.training.checkpoints import Checkpoints
from uss_jax.training.evaluations import Evaluations
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
      folder: the workdir; gets run.json, checkpoints, metrics.jsonl, evaluations.jsonl, speed.jsonl, TensorBoard
        scalars and, at the end, `model`, and `best` where the run was evaluated.
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
    task = make_task(config, items=config.steps * config.batch_size)
    with workdir.lock(folder), Stopping() as stopping:
        return _train(config, task, folder, profile, stopping)


def _train(config: Any, task: Task, folder: Path, profile: bool, stopping: Stopping) -> Path:
    workdir.claim(folder, config.to_dict(), task.inputs)

    # Optimiser and state: the newest of the checkpoints, if there are any.
    schedule = make_schedule(config.optimiser, config.steps)
    optimiser = make_optimiser(config.optimiser, schedule)
    initial = TrainState(
        step=jnp.int32(0),
        seed=jnp.uint32(config.seed),
        params=task.params,
        batch_stats=task.batch_stats,
        frozen={},
        opt_state=optimiser.init(task.params),
    )
    initial = jax.device_get(initial)
    checkpoints = Checkpoints(folder / "checkpoints", config.checkpoints_kept)
    resumed = checkpoints.restore_newest(initial) or initial
    shapes = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), initial)  # holds no memory
    first_step = int(resumed.step)
    if first_step:
        logger.info("resumed after step %d", first_step)
    evaluations = Evaluations(folder, first_step, task.score)
    checkpoints.best_step = evaluations.best_step
    writer = MetricWriter(folder, first_step, active=parallel.is_main())
    state = parallel.replicate(dataclasses.replace(resumed, frozen=task.frozen))
    del initial, resumed

    def evaluate(step: int, host: TrainState) -> None:
        """Scores the state after a step, if it is to be and was not yet."""
        if task.validate and step and step % config.evaluation.every == 0 and not evaluations.has(step):
            scores = task.validate(task.networks(host))
            evaluations.add(step, scores)
            writer.write(step, evaluations=scores)
            checkpoints.best_step = evaluations.best_step

    evaluate(first_step, _on_host(state))  # where the run was stopped between a checkpoint and its evaluation
    if first_step < config.steps:
        data = mixtures.batches(
            task.source,
            config.batch_size,
            start=first_step,
            workers=config.data.workers,
            process=jax.process_index(),
            process_count=jax.process_count(),
        )

        # Compile.
        make = make_step(task.loss, optimiser, config.accumulate, config.precision)
        with processes.deaf():
            first = next(data)
        batch = parallel.shard(first)
        step_function = parallel.pmap_step(make).lower(state, batch).compile(compiling.options())
        logger.info(speed.memory_report(step_function, config.batch_size // jax.device_count()))
        meter = speed.Meter(
            config.batch_size, speed.flops_of(parallel.jaxpr_of_step(make, state, batch)), config.precision
        )
        trace = speed.Trace(folder / "profile" if profile else None, config.steps - first_step)

        def finish(step: int, metrics: Any, rates: dict[str, float]) -> None:
            """Looks at the metrics of a step, and logs them if there are rates to go with them."""
            scalars = {name: float(value) for name, value in jax.device_get(metrics).items()}
            try:
                require_finite(step, scalars)
            except FloatingPointError as error:
                raise FloatingPointError(f"{error}; {_clips_of_step(task, config, step, folder)}") from error
            if rates:
                writer.write(step, metrics=scalars | {"learning_rate": float(schedule(step - 1))}, speed=rates)

        # Train. The metrics of a step are fetched when the next is under way, so that devices never wait for the host.
        pending: tuple[int, Any, dict[str, float]] | None = None
        with progress.bar() as display:
            bar = display.add_task(f"training {config.name}", total=config.steps, completed=first_step)
            source = itertools.chain([first], data)
            for step in range(first_step + 1, config.steps + 1):
                trace.before(step - first_step)
                state, metrics = step_function(state, parallel.shard(meter.wait_for(source)))
                trace.after(step - first_step, metrics)
                if pending:
                    finish(*pending)
                logged = step % config.log_every == 0 or step == config.steps
                pending = (step, metrics, meter.rates() if logged else {})
                display.update(bar, completed=step)
                signal = stopping.after(step)
                evaluated = task.validate and step % config.evaluation.every == 0
                if signal or evaluated or step % config.checkpoint_every == 0 or step == config.steps:
                    finish(*pending)
                    pending = None
                    writer.sync()
                    host = _on_host(state)
                    checkpoints.save(step, host)
                    if signal:
                        writer.close()
                        raise Stopped(step, signal)
                    evaluate(step, host)
                    meter.restart()
            trace.close(metrics)

    # Export.
    last, best = _on_host(state), _best(checkpoints, evaluations, shapes)
    if parallel.is_main():
        _export(config, task, last, folder / "model")
        if best is not None:
            _export(config, task, best, folder / "best")
    writer.close()
    checkpoints.close()
    parallel.wait_for_all("model written")
    return folder / "model"


def _on_host(state: TrainState) -> TrainState:
    """What changes of a state, as host arrays."""
    return jax.device_get(dataclasses.replace(state, frozen={}))


def _export(config: Any, task: Task, state: TrainState, folder: Path) -> None:
    networks = task.complete(task.networks(state))
    card = model_card(config, networks, int(state.step))
    model_dir.save(folder, networks, card, half=config.half_weights, overwrite=True)


def _best(checkpoints: Checkpoints, evaluations: Evaluations, shapes: TrainState) -> TrainState | None:
    """The state of the best evaluation whose checkpoint can be read."""
    for step in evaluations.ranked():
        if checkpoints.has(step):
            try:
                return checkpoints.restore(step, shapes)
            except ValueError as error:
                logger.warning("%s", error)
    return None


def _check(config: Any) -> None:
    """Raises ValueError where a number or a name of the configuration cannot be."""
    for name in ("steps", "batch_size", "log_every", "checkpoint_every", "checkpoints_kept", "accumulate"):
        if config[name] < 1:
            raise ValueError(f"{name} is {config[name]}: expected 1 or more")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed is {config.seed}: expected 0 or more, and less than 2³²")
    if config.evaluation.every < 0 or config.evaluation.per_class < 1:
        raise ValueError("evaluation: expected `every` of 0 (never) or more, and `per_class` of 1 or more")
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
