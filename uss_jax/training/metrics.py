"""Scalars of a run, to `metrics.jsonl`, `speed.jsonl` and TensorBoard."""

import json
import logging
import math
import os
from pathlib import Path

import tensorboardX

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
        path = workdir / "metrics.jsonl"
        files.write_text(path, "".join(_kept_lines(path, first_step)))
        self._metrics = path.open("a", encoding="utf-8")
        self._speed = (workdir / "speed.jsonl").open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step)

    def write(self, step: int, scalars: dict[str, float], rates: dict[str, float]) -> None:
        """Logs a step.

        Args:
          step: how many steps were taken.
          scalars: a function of the run's configuration, the same each time it is run: to `metrics.jsonl`.
          rates: of the machine: to `speed.jsonl`, so that `metrics.jsonl` repeats to the bit.
        """
        if not self._active:
            return
        for file, values in ((self._metrics, scalars), (self._speed, rates)):
            file.write(json.dumps({"step": step} | values) + "\n")
            file.flush()
        for name, value in (scalars | rates).items():
            self._board.add_scalar(name, value, step)
        logger.info("step %d: %s", step, ", ".join(f"{name} {value:.4g}" for name, value in (scalars | rates).items()))

    def sync(self) -> None:
        """Returns when what was logged is on the disk: a checkpoint must not outlive the lines before it."""
        if self._active:
            os.fsync(self._metrics.fileno())

    def close(self) -> None:
        """Closes the files."""
        if self._active:
            self._metrics.close()
            self._speed.close()
            self._board.close()


def _kept_lines(path: Path, first_step: int) -> list[str]:
    """The lines of steps up to the restart, whole ones."""
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
