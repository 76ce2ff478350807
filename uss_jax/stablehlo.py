"""The separator alone: as a pure function for other JAX programs, and as a StableHLO program that needs no package.

`uss_jax.export` is the function `export` here, so that no module may have that name.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

from uss_jax import files
from uss_jax.inference import exact
from uss_jax.model_dir import Networks

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def function(networks: Networks) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The separator as a pure function, to be used within `jax.jit`, `jax.vmap` and `jax.grad`.

    Returns:
      `separate(mixtures, conditions)`: (batch, time) samples at 32 kHz and (batch, condition) → (batch, time). It
      computes in float32, matrix products included. `time` may be any that the spectrogram's window allows.

    Raises:
      ValueError: the model does not separate.
    """
    if networks.separator is None:
        raise ValueError(f"the model {networks.config['name']!r} tags and does not separate")
    apply, variables = exact(networks.separator), networks.variables["separator"]

    def separate(mixtures: jax.Array, conditions: jax.Array) -> jax.Array:
        return apply(variables, mixtures, conditions)

    return separate


def export(networks: Networks, samples: int | None = None) -> jax.export.Exported:
    """The separator as one StableHLO program with its weights, for CPUs, GPUs and TPUs.

    Its `call` takes float32 arrays (batch, samples) at 32 kHz and (batch, condition), and returns (batch, samples),
    for any batch; it computes in float32, matrix products included. `mlir_module()` is its text and
    `mlir_module_serialized` its bytecode, whose `main` takes the number of the platform in `platforms` first.

    Args:
      networks: the model.
      samples: of each mixture; a segment's unless given.

    Raises:
      ValueError: the model does not separate, or the mixture is no longer than half a window of its spectrogram.
    """
    separate = function(networks)
    samples = networks.segment_samples if samples is None else samples
    (batch,) = jax.export.symbolic_shape("batch")
    arguments = [jax.ShapeDtypeStruct((batch, size), jnp.float32) for size in (samples, networks.condition_size)]
    return jax.export.export(jax.jit(separate), platforms=PLATFORMS)(*arguments)


def write(path: Path, exported: jax.export.Exported) -> None:
    """Writes a program, whole or not at all: `jax.export.deserialize(path.read_bytes())` reads it."""
    with files.new_file(path) as temporary:
        temporary.write_bytes(exported.serialize())
