"""Scalars of a run, to `metrics.jsonl` and TensorBoard."""

import json
import math
from pathlib import Path

import tensorboardX

from uss_jax import files


def require_finite(step: int, loss: float) -> None:
    """Raises FloatingPointError, which names the step, where a loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {step}")


class MetricWriter:
    """Writes one JSON object a logged step. Opened again after a restart, it drops what lies beyond the restart."""

    def __init__(self, workdir: Path, first_step: int) -> None:
        """Args: workdir; first_step: the step at which the run begins or resumes. Raises ValueError."""
        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if not line.endswith("\n"):  # cut off by a crash
                    break
                try:
                    if json.loads(line)["step"] <= first_step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}: a line is no logged step: {line.strip()[:80]!r}") from error
        files.write_text(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step)

    def write(self, step: int, scalars: dict[str, float], rates: dict[str, float]) -> None:
        """Logs a step.

        Args:
          step: how many steps were taken.
          scalars: a function of the run's configuration, the same each time it is run.
          rates: of the machine; to TensorBoard only, so that `metrics.jsonl` repeats to the bit.

        Raises:
          FloatingPointError: the loss is not finite.
        """
        require_finite(step, scalars["loss"])
        self._file.write(json.dumps({"step": step} | scalars) + "\n")
        self._file.flush()
        for name, value in (scalars | rates).items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._board.close()
