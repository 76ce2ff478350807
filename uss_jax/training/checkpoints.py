"""Checkpoints of a training state through Orbax: written whole, checked when read, the newest and the best kept."""

import contextlib
import hashlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from orbax.checkpoint import checkpoint_managers as policies

from uss_jax import files, parallel

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run: the newest few, and the best.

    A checkpoint holds host arrays, so that it is read on any number of hosts and devices, and a digest of them. The
    data need no state of their own: which items a step reads is a function of the step.

    Attributes:
      best_step: the step whose checkpoint is kept besides the newest, to be set by the owner; None for none.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Args: folder; keep: how many of the newest are kept."""
        self.best_step: int | None = None
        options = ocp.CheckpointManagerOptions(
            create=True,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,  # what was being written when a run was killed
            preservation_policy=_NewestAndBest(self, keep),
        )
        self._folder = folder.resolve()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any) -> None:
        """Saves a tree of host arrays after `step` steps.

        Raises:
          OSError: it cannot be written; the message names the checkpoint, and the earlier ones are as they were.
        """
        host = jax.tree.map(np.asarray, state)
        try:
            with _quiet():
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(host), digest=ocp.args.JsonSave({"sha256": digest(host)})
                    ),
                    force=True,
                )
        except Exception as error:  # of Orbax, TensorStore or the system, of many types
            sys.unraisablehook = _but_closed_loops(sys.unraisablehook)
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
        found, restored = 0, None
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found, restored = step, self.restore(step, state)
                break
            except ValueError as error:
                logger.warning("%s", error)
                broken[step] = str(error)
        if restored is None and broken:
            raise ValueError(f"no checkpoint can be read; {broken[max(broken)]}")
        if not parallel.same_for_all(found):
            raise ValueError(f"{self._folder}: the hosts do not read the same newest checkpoint (here: {found})")
        self._put_aside(broken)
        return restored

    def restore(self, step: int, state: Any) -> Any:
        """The state after `step` steps, as host arrays. Raises ValueError where it is missing or broken."""
        shapes = jax.tree.map(np.asarray, state)
        try:
            with _quiet():
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

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint after this step."""
        return step in self._manager.all_steps()

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _put_aside(self, steps: Iterable[int]) -> None:
        """Renames the folders of broken checkpoints, so that these steps can be saved again."""
        steps = list(steps)
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


class _NewestAndBest(policies.PreservationPolicy):
    """What Orbax keeps: the newest few, and the checkpoint that its owner calls the best."""

    def __init__(self, owner: Checkpoints, keep: int) -> None:
        self._owner, self._keep = owner, keep

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """For each checkpoint, from the oldest to the newest."""
        del context
        old = len(checkpoints) - self._keep
        return [i >= old or info.step == self._owner.best_step for i, info in enumerate(checkpoints)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs what it raises, and its threads print it, besides passing it on."""
    in_threads, unraisable, verbosity = threading.excepthook, sys.unraisablehook, absl_logging.get_verbosity()
    threading.excepthook = lambda arguments: None
    sys.unraisablehook = lambda arguments: None
    absl_logging.set_verbosity(absl_logging.FATAL)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = in_threads, unraisable
        absl_logging.set_verbosity(verbosity)


def _but_closed_loops(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The hook for all but reports to a closed event loop.

    When a write fails, Orbax closes the loop to which TensorStore's other writes then report, up to the process's end.
    """

    def told(unraisable: Any) -> None:
        if not (unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"):
            hook(unraisable)

    return told


def _line(error: Exception) -> str:
    """What an error tells, on one line: the system's reason where TensorStore quotes it."""
    text = " ".join(str(error).split()) or type(error).__name__
    reason = re.search(r"([^:\[\]]+) \[os_error_code", text)
    if reason:
        return reason[1].strip()
    return text if len(text) < 300 else f"{text[:300]} …"
