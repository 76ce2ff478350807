"""What XLA is told when it compiles a network for a CPU."""

import functools

import jax

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}  # the list of what goes to YNNPACK: nothing


@functools.cache
def options() -> dict[str, str]:
    """Options for `jax.jit` and `Lowered.compile`; none on other devices, and where this XLA does not know them.

    By itself XLA gives a CPU's convolutions and matrix products to the library YNNPACK. Left to Eigen they take less
    time, above all the gradients of kernels (benchmarks/NOTES.md has the figures).
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=EIGEN).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # no such option
        return {}
    return EIGEN
