"""Scalars of a run, to `metrics.jsonl`, `evaluations.jsonl`, `speed.jsonl` and TensorBoard."""

import json
import logging
import math
import os
import sys
from pathlib import Path
from typing import Any

import jax

from uss_jax import files

logger = logging.getLogger(__name__)


def require_finite(step: int, scalars: dict[str, float]) -> None:
    """Raises FloatingPointError, which names the step, where the loss, or a norm, is NaN or infinite."""
    for name, value in scalars.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} at step {step}")


class MetricWriter:
    """Writes one JSON object a logged step. Opened again after a restart, it drops what lies beyond the restart."""

    def __init__(self, workdir: Path, first_step: int, active: bool = True) -> None:
        """Opens the files.

        Args:
          workdir: of the run.
          first_step: the step at which the run begins or resumes.
          active: false in the processes of a run that write nothing.

        Raises:
          ValueError: `metrics.jsonl` holds something else.
        """
        self._active = active
        if not active:
            return
        self._files = {}
        for name in ("metrics", "evaluations", "speed"):
            path = workdir / f"{name}.jsonl"
            files.write_text(path, "".join(kept_lines(path, first_step)))
            self._files[name] = path.open("a", encoding="utf-8")
        self._board = _tensorboard(workdir / "tensorboard", first_step)

    def write(self, step: int, **content: dict[str, float]) -> None:
        """Logs a step.

        Args:
          step: how many steps were taken.
          **content: scalars for each file, by its name. What goes to `metrics` and `evaluations` must be a function of
            the run's configuration, so that these files repeat to the bit; rates of the machine go to `speed`, which
            names the device, too.
        """
        if not self._active:
            return
        for name, scalars in content.items():
            device = {"device": jax.devices()[0].device_kind} if name == "speed" else {}
            self._files[name].write(json.dumps({"step": step} | device | scalars) + "\n")
            self._files[name].flush()
            for scalar, value in scalars.items():
                self._board.add_scalar(scalar, value, step)
        said = (f"{scalar} {value:.4g}" for scalars in content.values() for scalar, value in scalars.items())
        logger.info("step %d: %s", step, ", ".join(said))

    def sync(self) -> None:
        """Returns when what was logged is on the disk: a checkpoint must not outlive the lines before it."""
        if self._active:
            for file in self._files.values():
                os.fsync(file.fileno())

    def close(self) -> None:
        """Closes the files."""
        if self._active:
            for file in self._files.values():
                file.close()
            self._board.close()


def _tensorboard(folder: Path, first_step: int) -> Any:
    """The writer of TensorBoard's files, which begin anew after `first_step`.

    tensorboardX imports PyTorch where it is installed, which takes seconds, and only tensors would need it. A module
    that is None cannot be imported.
    """
    absent = "torch" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX
    finally:
        if absent:
            del sys.modules["torch"]
    return tensorboardX.SummaryWriter(str(folder), purge_step=first_step + 1)


def kept_lines(path: Path, first_step: int) -> list[str]:
    """The lines of steps up to the restart, whole ones; raises ValueError where a line is of no step."""
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []:
        if not line.endswith("\n"):  # cut off by a crash
            break
        try:
            if json.loads(line)["step"] <= first_step:
                kept.append(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: a line is no logged step: {line.strip()[:80]!r}") from error
    return kept
