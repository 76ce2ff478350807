"""How fast a run goes: items and model operations a second, share of the device's peak, and waiting for input."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

PROFILED = range(11, 15)  # steps of a process that are traced; compilation and warming up lie before

logger = logging.getLogger(__name__)

# Operations a second of one device, dense, by the type that the matrix products are made in (makers' data sheets).
PEAK_FLOPS = {
    "NVIDIA A100": {"float32": 19.5e12, "tensorfloat32": 156e12, "bfloat16": 312e12},
    "NVIDIA H100": {"float32": 67e12, "tensorfloat32": 494e12, "bfloat16": 989e12},
    "NVIDIA H200": {"float32": 67e12, "tensorfloat32": 494e12, "bfloat16": 989e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5p": {"bfloat16": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12},
}


def peak_flops(device_kind: str, precision: str) -> float | None:
    """Peak operations a second of a device, or None where it is not known."""
    known = [peaks for kind, peaks in PEAK_FLOPS.items() if device_kind.startswith(kind)]
    return known[0].get(precision) if known else None


class Product(NamedTuple):
    """A convolution, a product of matrices or a Fourier transform in a program.

    Attributes:
      modules: names of the modules that it belongs to, from the outermost on, with slashes between.
      flops: operations that it takes, by its shapes.
      size: bytes of its operands and its result together.
      dtype: of its operands.
    """

    modules: str
    flops: float
    size: float
    dtype: str


def products(jaxpr: Any, modules: str = "") -> Iterator[Product]:
    """Every product that a program makes; those of a scan as often as it goes round.

    XLA counts too, but not what a GPU's libraries do, which is all that matters here. Zeros count as numbers, what is
    made again in the backward pass counts again, and so do all branches of a condition.
    """
    for equation in jaxpr.eqns:
        inside = f"{modules}/{equation.source_info.name_stack}"
        programs = [getattr(leaf, "jaxpr", leaf) for leaf in jax.tree.leaves(equation.params)]
        for program in (program for program in programs if hasattr(program, "eqns")):
            for _ in range(equation.params["length"] if equation.primitive.name == "scan" else 1):
                yield from products(program, inside)
        if flops := _flops(equation):
            arrays = [variable.aval for variable in (*equation.invars, *equation.outvars)]
            size = sum(array.size * array.dtype.itemsize for array in arrays)
            yield Product(inside, flops, float(size), str(arrays[0].dtype))


def _flops(equation: Any) -> float:
    """Operations of a product; 0 for what is none."""
    params, outs = equation.params, [variable.aval for variable in equation.outvars]
    match equation.primitive.name:
        case "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            return 2.0 * outs[0].size * math.prod(kernel) / kernel[params["dimension_numbers"].rhs_spec[0]]
        case "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            return 2.0 * outs[0].size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        case "fft":  # of N points: 5 N log2(N), as is the custom
            points = math.prod(params["fft_lengths"])
            return 5.0 * max(equation.invars[0].aval.size, outs[0].size) * math.log2(points)
    return 0.0


def flops_of(jaxpr: Any) -> float:
    """Operations that a program takes, as `products` counts them."""
    return sum(product.flops for product in products(jaxpr))


def memory_gib(compiled: Any) -> float:
    """Memory that a compiled step needs on a device, in GiB; 0 where the backend does not tell."""
    found = compiled.memory_analysis()
    if found is None:
        return 0.0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return float(kept + found.temp_size_in_bytes) / 2**30


def device_gib() -> float | None:
    """Memory of a device in GiB, or None where the backend does not tell."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] / 2**30 if stats and "bytes_limit" in stats else None


class Meter:
    """Measures between two logged steps."""

    def __init__(self, batch_size: int, flops_of_step: float, precision: str) -> None:
        """Args: batch_size over all devices; flops_of_step of one device; precision of the configuration."""
        self._batch_size, self._flops = batch_size, flops_of_step
        self._peak = peak_flops(jax.devices()[0].device_kind, precision)
        self.restart()

    def restart(self) -> None:
        """Begins to measure anew: after a checkpoint, say, which is not to count."""
        self._begun, self._steps, self._waited = time.monotonic(), 0, 0.0

    def wait_for(self, batches: Iterator[Any]) -> Any:
        """The next batch; counts how long it took to come."""
        asked = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - asked
        self._steps += 1
        return batch

    def rates(self) -> dict[str, float]:
        """Rates since the last call. Begins to measure anew."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        flops = self._steps * self._flops / seconds
        rates = {
            "items_per_second": self._steps * self._batch_size / seconds,
            "seconds_per_step": seconds / max(self._steps, 1),
            "input_wait_share": self._waited / seconds,
            "model_tflops_per_device": flops / 1e12,
        }
        if self._peak:
            rates["share_of_peak"] = flops / self._peak
        self.restart()
        return rates


def memory_report(compiled: Any, batch_per_device: int) -> str:
    """A sentence on the memory of a compiled step."""
    needed, whole = memory_gib(compiled), device_gib()
    report = f"a step needs {needed:.2f} GiB on each device, at {batch_per_device} items"
    return report + (f", of {whole:.1f} GiB" if whole else "")


class Trace:
    """An XLA trace of a few steps, for TensorBoard or Perfetto."""

    def __init__(self, folder: Path | None, steps: int) -> None:
        """Args: folder: where to, None for no trace; steps: how many this process will take."""
        self._folder, self._first, self._count = folder, min(PROFILED.start, max(1, steps - 1)), len(PROFILED)
        self._running = False

    def before(self, count: int) -> None:
        """To be called before the `count`-th step that this process takes."""
        if self._folder is not None and count == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, count: int, result: Any) -> None:
        """To be called after it, with what it returned."""
        if count == self._first + self._count - 1:
            self.close(result)

    def close(self, result: Any) -> None:
        """Writes the trace, if one is under way, when `result` is there."""
        if self._running:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            self._running = False
            logger.info("trace written to %s", self._folder)
