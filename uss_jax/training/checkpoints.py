"""Checkpoints of the train state and the data iterator together, through Orbax."""

from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp

from uss_jax import files
from uss_jax.training.step import TrainState


class Checkpoints:
    """The checkpoints of one run, the newest few kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: TrainState, data: grain.DatasetIterator) -> None:
        """Saves after `step` steps; `data` stands before the batch of the next step."""
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(data)),
        )

    def restore_newest(self, state: TrainState, data: grain.DatasetIterator) -> TrainState:
        """The newest state, with `data` set to where it stood; `state` itself where there is no checkpoint."""
        step = self._manager.latest_step()
        if step is None:
            return state
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state)),
                data=grain.checkpoint.CheckpointRestore(data),
            ),
        )
        return restored["state"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


def save_config(workdir: Path, config: Any) -> None:
    """Writes the run's configuration; raises ValueError where the workdir belongs to another one."""
    text = config.to_json_best_effort(indent=1) + "\n"
    path = workdir / "config.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path}: this workdir belongs to a run with another configuration; choose another one")
    if not path.exists():
        files.write_text(path, text)
