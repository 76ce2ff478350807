"""How far every stage of ResUNet30 is from the device's floor: operations and bytes counted, and time measured.

    python benchmarks/roofline.py --batch-size 32 --precision tensorfloat32 bfloat16 --training --out=roofline.json
    python benchmarks/roofline.py --batch-size 1 --precision float32           a forward pass, where there is no GPU

A stage is a level of the network, down or up. Counted are its products (convolutions, matrix products, transforms):
operations from their shapes, and bytes as if each read its operands once and wrote its result once, everything else
being part of them. Its floor is the larger of operations over the device's greatest rate and bytes over its bandwidth,
product by product; both are measured here: products of large matrices of the same type, and copies.

On a GPU (the first, if there are several) its time is what the profiler saw of the kernels that bear its name; a fused
one counts where its last part belongs. What has no level is `rest`: pooling and joining of levels, spectra, first and
last convolution, losses, optimiser; `unnamed` are kernels of no operation. On a CPU the profiler does not see
convolutions, and there is but the time of the whole.

Printed for each stage: GFLOP, GB, milliseconds at least and measured, and their ratio; then the whole by the clock,
with how many times faster than the sound it is (--training: samples/s).
"""

import argparse
import collections
import dataclasses
import functools
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from training import (
    CONFIG,
    SEGMENT_SECONDS,
    TAGGER,
    load_config,
    make_networks,
    make_training,
    random_batch,
    random_variables,
)

from uss_jax import compiling, files, parallel
from uss_jax.training import speed
from uss_jax.training.step import PRECISIONS

LEVELS = 6
# Kernels that are started as one graph do not tell the profiler which operation they are.
NO_GRAPHS = {"xla_gpu_enable_command_buffer": ""}
STAGES = (
    *(f"encoder{level}" for level in range(LEVELS)),
    "middle",
    *(f"decoder{level}" for level in reversed(range(LEVELS))),
    "tagger",
    "rest",
    "unnamed",
)


@dataclasses.dataclass
class Count:
    """What a stage does at least: operations, bytes, and seconds at the device's greatest rates."""

    flops: float = 0.0
    size: float = 0.0
    floor: float = 0.0


def stage_of(name: str) -> str:
    """The stage to which an operation belongs, by the names of the modules that made it."""
    if found := re.search(r"\b(?:(encoder|decoder)|up_norm|up)(\d)\b", name):
        return f"{found[1] or 'decoder'}{found[2]}"
    if re.search(r"\bmiddle\b", name):
        return "middle"
    return "tagger" if "Cnn14" in name else "rest"


def count(products: Iterable[speed.Product], peak_flops: dict[str, float], bandwidth: float) -> dict[str, Count]:
    """Operations, bytes and floor of every stage, by the peak of each product's type."""
    counts: dict[str, Count] = collections.defaultdict(Count)
    for product in products:
        of = counts[stage_of(product.modules)]
        of.flops += product.flops
        of.size += product.size
        of.floor += max(product.flops / peak_flops.get(product.dtype, peak_flops["float32"]), product.size / bandwidth)
    return counts


def measured(run: Callable[[], Any], compiled: Any, turns: int) -> dict[str, float]:
    """Seconds of every stage in a call of a compiled program on a GPU, by the profiler."""
    names = dict(re.findall(r'%?([\w.\-]+) = [^\n]*?op_name="([^"]*)"', compiled.as_text()))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(turns):
                jax.block_until_ready(run())
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    seconds: dict[str, float] = collections.defaultdict(float)
    lines = [line for plane in data.planes if plane.name.startswith("/device:GPU:0") for line in plane.lines]
    for event in (event for line in lines if line.name.startswith("Stream") for event in line.events):
        operation = str(dict(event.stats).get("hlo_op", ""))
        stage = stage_of(names[operation]) if operation in names else "unnamed"
        seconds[stage] += event.duration_ns / 1e9 / turns
    return seconds


def median_seconds(run: Callable[[], Any], turns: int, calls: int = 1) -> float:
    """Seconds of a call: the median of some turns of so many calls, after one that is not counted."""
    jax.block_until_ready(run())
    times = []
    for _ in range(turns):
        begun = time.perf_counter()
        jax.block_until_ready([run() for _ in range(calls)])
        times.append((time.perf_counter() - begun) / calls)
    return float(np.median(times))


def peak_flops(dtype: str, matmul: str, gpu: bool) -> float:
    """Operations a second in products of large matrices of a type, at a precision as JAX calls them."""
    size = 8192 if gpu else 2048
    with jax.default_matmul_precision(matmul):
        matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
        product = jax.jit(jnp.matmul, compiler_options=compiling.options())
        return 2.0 * size**3 / median_seconds(lambda: product(matrix, matrix), 5, calls=5)


def bandwidth(gpu: bool) -> float:
    """Bytes a second in copies of a large array, those read and those written."""
    array = jnp.ones((2**30 if gpu else 2**27) // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1.0)
    return 2.0 * array.nbytes / median_seconds(lambda: add(array), 5, calls=5)


def program(precision: str, batch_size: int, training: bool) -> tuple[Any, Callable[[], Any], Any]:
    """The jaxpr of a training step or a forward pass, a function that runs it, and the compiled program."""
    config = load_config(CONFIG, precision, rematerialise=False)
    batch = random_batch(batch_size)
    if training:
        state, step = make_training(config, TAGGER)
        holder = [parallel.replicate(state)]
        batch = jax.device_put(parallel.shard(batch))
        jaxpr = parallel.jaxpr_of_step(step, holder[0], batch)
        compiled = parallel.pmap_step(step).lower(holder[0], batch).compile({**compiling.options(), **NO_GRAPHS})

        def run() -> Any:
            holder[0], metrics = compiled(holder[0], batch)  # the old state is given away
            return metrics

        return jaxpr, run, compiled
    networks = make_networks(config, TAGGER)
    variables = jax.device_put(random_variables(networks)["separator"])
    given = jax.device_put((batch["mixture"], batch["query_classes"]))
    apply = functools.partial(networks.separator.apply, variables)
    with jax.default_matmul_precision(PRECISIONS[precision][1]):
        jaxpr = jax.make_jaxpr(apply)(*given)
        compiled = jax.jit(apply).lower(*given).compile({**compiling.options(), **NO_GRAPHS})
    return jaxpr.jaxpr, lambda: compiled(*given), compiled


def roofline(precision: str, batch_size: int, training: bool, turns: int) -> dict[str, Any]:
    """Everything that is printed of a precision."""
    gpu = jax.default_backend() == "gpu"
    dtypes = {"float32", jnp.dtype(PRECISIONS[precision][0]).name}  # in every precision some products are float32
    flops = {dtype: peak_flops(dtype, PRECISIONS[precision][1], gpu) for dtype in sorted(dtypes)}
    moved = bandwidth(gpu)
    jaxpr, run, compiled = program(precision, batch_size, training)
    seconds = median_seconds(run, turns)
    counts, times = count(speed.products(jaxpr), flops, moved), measured(run, compiled, turns) if gpu else {}
    return {
        "device": jax.devices()[0].device_kind,
        "precision": precision,
        "batch_size": batch_size,
        "training": training,
        "peak_tflops": {dtype: peak / 1e12 for dtype, peak in flops.items()},
        "bandwidth_gb_per_second": moved / 1e9,
        "seconds": seconds,
        "stages": {
            stage: dataclasses.asdict(counts.get(stage, Count())) | {"seconds": times.get(stage, 0.0)}
            for stage in STAGES
            if stage in counts or stage in times
        },
    }


def table(of: dict[str, Any]) -> str:
    """A precision's figures as text."""
    what = "a training step" if of["training"] else "forward"
    peaks = " or ".join(f"{peak:.3g} TFLOP/s in {dtype}" for dtype, peak in of["peak_tflops"].items())
    rates = f"{peaks}, and {of['bandwidth_gb_per_second']:.4g} GB/s"
    lines = [
        f"{of['device']}, {of['precision']}, batch {of['batch_size']}, {what}; at most {rates}",
        f"{'':12}{'GFLOP':>9}{'GB':>8}{'floor ms':>10}{'ms':>9}{'ratio':>7}",
    ]
    stages = of["stages"]
    whole = {key: sum(stage[key] for stage in stages.values()) for key in ("flops", "size", "floor", "seconds")}
    for name, stage in (stages | {"all": whole}).items():
        ratio = f"{stage['seconds'] / stage['floor']:7.1f}" if stage["floor"] else ""
        took = f"{1e3 * stage['seconds']:9.3f}{ratio}" if stage["seconds"] else ""
        lines.append(
            f"{name:12}{stage['flops'] / 1e9:9.1f}{stage['size'] / 1e9:8.2f}{1e3 * stage['floor']:10.3f}{took}"
        )
    rate = of["batch_size"] / of["seconds"]
    pace = f"{rate:.1f} samples/s" if of["training"] else f"{SEGMENT_SECONDS * rate:.3g} × real time"
    return "\n".join([*lines, f"by the clock {1e3 * of['seconds']:.2f} ms: {pace}\n"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["tensorfloat32", "bfloat16"])
    parser.add_argument("--training", action="store_true", help="a training step rather than a forward pass")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    found = []
    for precision in args.precision:
        found.append(roofline(precision, args.batch_size, args.training, args.turns))
        print(table(found[-1]), flush=True)
        if args.out:
            files.write_json(args.out, found)


if __name__ == "__main__":
    main()
