"""Checkpoints of a training state through Orbax: written whole, checked when read, the newest and the best kept."""

import hashlib
import logging
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from uss_jax import files, parallel

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint holds host arrays, so that it is read on any number of hosts and devices, and a digest of them. The
    data need no state of their own: which items a step reads is a function of the step.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Args: folder; keep: how many of the newest are kept, besides the one with the highest score."""
        options = ocp.CheckpointManagerOptions(
            create=True,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,  # what was being written when a run was killed
            best_fn=_score,
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep),
                    policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
        )
        self._folder = folder.resolve()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any, score: float | None = None) -> None:
        """Saves after `step` steps.

        Args:
          step: its number.
          state: a tree of arrays.
          score: of the evaluation after this step, if there was one; the higher the better.

        Raises:
          OSError: it cannot be written; the message names the checkpoint, and the earlier ones are as they were.
        """
        host = jax.tree.map(np.asarray, jax.device_get(state))
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(host), digest=ocp.args.JsonSave({"sha256": digest(host)})
                ),
                metrics={"score": score},
                force=True,
            )
        except Exception as error:  # of Orbax, TensorStore or the system, of many types
            raise OSError(
                f"{self._folder / str(step)}: the checkpoint could not be written ({_line(error)})"
            ) from error

    def restore_newest(self, state: Any) -> Any:
        """The newest state that can be read; broken ones are put aside, by name, and told of.

        Args:
          state: a tree of host arrays of the shapes and types to be read.

        Returns:
          The tree of host arrays, or None where there is no checkpoint.

        Raises:
          ValueError: there are checkpoints, and none can be read.
        """
        broken: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self.restore(step, state)
            except ValueError as error:
                logger.warning("%s", error)
                broken[step] = str(error)
                continue
            self._put_aside(broken)
            return restored
        if broken:
            raise ValueError(f"no checkpoint can be read; {broken[max(broken)]}")
        return None

    def restore(self, step: int, state: Any) -> Any:
        """The state after `step` steps, as host arrays. Raises ValueError where it is missing or broken."""
        shapes = jax.tree.map(np.asarray, state)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes), digest=ocp.args.JsonRestore()),
            )
            host = jax.tree.map(np.asarray, restored["state"])
            intact = digest(host) == restored["digest"]["sha256"]
        except Exception as error:  # of Orbax, TensorStore or the system, of many types
            raise ValueError(f"{self._folder / str(step)}: not a whole checkpoint ({_line(error)})") from error
        if not intact:
            raise ValueError(f"{self._folder / str(step)}: not a whole checkpoint (its content was changed)")
        return host

    def best_step(self) -> int | None:
        """The step with the highest score; None where none was evaluated."""
        step = self._manager.best_step()
        return None if step is None or self._manager.metrics(step)["score"] is None else step

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _put_aside(self, steps: dict[int, str]) -> None:
        """Renames the folders of broken checkpoints, so that these steps can be saved again."""
        if parallel.is_main():
            for step in steps:
                aside = files.unused(self._folder.parent / f"broken-checkpoint-{step}")
                os.replace(self._folder / str(step), aside)
                logger.warning("moved to %s", aside)
        parallel.wait_for_all("broken checkpoints put aside")
        if steps:
            self._manager.reload()


def digest(tree: Any) -> str:
    """SHA-256 over the names, types, shapes and bytes of a tree's host arrays."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _score(metrics: Any) -> float:
    """What checkpoints are ranked by; those that were not evaluated come last."""
    return -math.inf if metrics["score"] is None else float(metrics["score"])


def _line(error: Exception) -> str:
    """The beginning of an error's message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) < 300 else f"{text[:300]} …"
