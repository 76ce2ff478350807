"""Devices and hosts: the map over all of them, and where arrays lie. Leaving pmap means changing this file alone."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from uss_jax import compiling

AXIS = "batch"


def initialise(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Joins the processes of a run, one a host; to be called before anything else touches a device.

    Args:
      coordinator: HOST:PORT of process 0; where none is given, the cluster (TPU pod, Slurm, Open MPI …) is asked.
      processes: how many there are.
      process: the number of this one.

    Raises:
      ValueError: no cluster was found, or the others did not come.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--multihost: the processes did not find each other ({reason})") from error


def leave() -> None:
    """Leaves the other processes; to be called by all of them. What follows is each one's own."""
    jax.distributed.shutdown()


def exit_at_once(status: int) -> NoReturn:
    """Ends this process without waiting for its threads, or for other hosts, which wait for it; JAX ends those."""
    sys.stderr.flush()
    os._exit(status)


def _all_devices() -> list[jax.Device]:
    """The devices of all hosts in pmap's order, host by host."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def _sharding(devices: list[jax.Device], spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,)), spec)


def replicate(tree: Any) -> Any:
    """Puts a copy of every array on each device of all hosts; every host has to hold the same."""
    sharding = _sharding(_all_devices(), PartitionSpec())
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def replicate_locally(tree: Any) -> Any:
    """Puts a copy of every array on each device of this host."""
    return jax.device_put(tree, _sharding(jax.local_devices(), PartitionSpec()))


def pmap_step(step: Callable[..., Any]) -> Any:
    """A training step `(state, batch) -> (state, metrics)` on all devices of all hosts.

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


def pmap_inference(apply: Callable[..., Any]) -> Callable[..., Any]:
    """`(variables, batch) -> result` on the devices of this host, which waits for no other.

    The variables are the same on every device (see `replicate_locally`); the batch is any tree of arrays (devices, …),
    and so is the result. Each device sees its own part alone. It is compiled for each shape of the batch.
    """
    mapped = jax.pmap(apply, in_axes=(None, 0), devices=jax.local_devices())
    compiled: dict[tuple[tuple[int, ...], ...], Callable[..., Any]] = {}

    def run(variables: Any, batch: Any) -> Any:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if shapes not in compiled:
            compiled[shapes] = mapped.lower(variables, batch).compile(compiling.options())
        return compiled[shapes](variables, batch)

    return run


def shard(batch: Any) -> Any:
    """Puts each host's part of a batch on its devices: (batch / hosts, …) → (devices of all hosts, batch / devices, …).

    As in `pmap`, the first axis is that of the devices; the array is the global one, as compiled steps take it.
    """
    sharding = _sharding(_all_devices(), PartitionSpec(AXIS))
    count = jax.local_device_count()

    def place(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, x.reshape(count, -1, *x.shape[1:]))

    return jax.tree.map(place, batch)


def jaxpr_of_step(step: Callable[..., Any], state: Any, batch: Any) -> Any:
    """What a device does in a step of `pmap_step`, as a jaxpr; of `state` and `batch` only shapes and types count."""
    whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    part = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
    trace = jax.make_jaxpr(functools.partial(step, axis_name=AXIS), axis_env=[(AXIS, jax.device_count())])
    return trace(whole, part).jaxpr


def inference_batch() -> int:
    """Segments that suit a pass of this host's first device: few on CPUs, which gain little by more."""
    return 4 if jax.default_backend() == "cpu" else 32


def check_batch(global_batch: int, accumulate: int) -> None:
    """Raises ValueError where a global batch does not divide over all devices and their accumulation steps."""
    parts = jax.device_count() * accumulate
    if global_batch % parts:
        raise ValueError(
            f"a batch of {global_batch} does not divide over {jax.device_count()} devices × {accumulate} accumulated"
        )


def is_main() -> bool:
    """Whether this process is the one that writes what only one may write."""
    return jax.process_index() == 0


def wait_for_all(point: str) -> None:
    """Returns when every process has come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(point)


def same_for_all(number: int) -> bool:
    """Whether every process has the same number here."""
    if jax.process_count() == 1:
        return True
    numbers = multihost_utils.process_allgather(np.int32(number))
    return bool((numbers == number).all())


def asked_to_stop(step: int) -> bool:
    """Whether a host has got SIGTERM: true for all of them at the same step. To be called after every step."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)
