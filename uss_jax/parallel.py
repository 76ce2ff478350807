"""Devices: the map over all of them, and where arrays lie. Leaving pmap means changing this file alone."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def replicate(tree: Any) -> Any:
    """Puts a copy of every array on each local device."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,), axis_types=(AxisType.Auto,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def pmap_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """A training step `(state, batch) -> (state, metrics)` on all devices.

    The state is the same on every device and is not stacked; the batch is split along its first axis, as `shard` does.
    The step averages gradients and metrics over the axis `AXIS` itself. The old state's memory is reused.
    """
    return jax.pmap(
        functools.partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
    )


def shard(batch: Any) -> Any:
    """Splits a host's batch over its devices: (batch, …) → (devices, batch / devices, …)."""
    count = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)


def per_process(global_batch: int) -> int:
    """This process's share of a global batch.

    Raises:
      ValueError: it does not divide over all devices.
    """
    if global_batch % jax.device_count():
        raise ValueError(f"a batch of {global_batch} does not divide over {jax.device_count()} devices")
    return global_batch // jax.process_count()
