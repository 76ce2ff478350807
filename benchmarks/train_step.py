"""Time, operations and memory of a training step of ResUNet30, beside the reference's own step on the same device.

    python benchmarks/train_step.py --batch-sizes 16 32 64 --precision float32 tensorfloat32 bfloat16 --out=step.json
    python benchmarks/train_step.py --batch-sizes 1 --precision float32 --steps=1 --threads=2     where there is no GPU

Ours is the step of `configs/resunet30_soft.py` (its loss, its optimiser, a frozen Cnn14 for the query), as train.py
runs it, on random weights and noise. The reference's is its LitSeparation: its mixer, Cnn14 query net, ResUNet30, L1
loss, backward pass, and AdamW with AMSGrad. It is given segments whose anchors are known; --detect adds a row for the
step as the reference trains, which runs a second Cnn14 over the 10-s clips to find them; --compiled adds one for the
reference with separator and query net by torch.compile, as it is without options, in channels-last memory. In PyTorch,
`float32` is without TF32, `tensorfloat32` with it (the default of its convolutions), and `bfloat16` is autocast with
TF32. Its mixer is part of its step, as in its training; our mixtures come from the input pipeline, on CPUs.

Batches lie on the device already. Each side has a process of its own; they take turns, and the median counts. A step
that does not fit beside the other's is printed as such. --largest looks for the largest batch (a power of two) whose
compiled step fits into the device, or into --memory-gib, and runs none.

Printed: milliseconds a step, samples a second, the model's TFLOP/s by our count (of our step, which the reference's
is given too), their share of the device's peak where that is known, and GiB a step needs.
"""

import argparse
import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import uss_reference
from children import children
from training import CONFIG, SEGMENT_SECONDS, TAGGER, load_config, make_training, random_batch

from uss_jax import audioset, compiling, files, parallel, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.training import speed
from uss_jax.training.step import PRECISIONS

CLIP_SECONDS = 10.0
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OutOfMemoryError")


def our_step(path: Path, tagger: dict[str, Any], precision: str, rematerialise: bool, batch_size: int) -> Any:
    """A function (steps) → seconds a step; of 0 steps, what is known of the compiled step."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the other side needs memory too
    config = load_config(path, precision, rematerialise)
    state, step = make_training(config, tagger)
    state = parallel.replicate(state)
    batch = jax.device_put(parallel.shard(random_batch(batch_size)))
    begun = time.perf_counter()
    compiled = parallel.pmap_step(step).lower(state, batch).compile(compiling.options())
    device = jax.devices()[0].device_kind
    facts = {
        "device": device,
        "compile_seconds": time.perf_counter() - begun,
        "flops": speed.flops_of(parallel.jaxpr_of_step(step, state, batch)),
        "peak_flops": speed.peak_flops(device, precision),
        "memory_gib": speed.memory_gib(compiled),
    }

    def measure(steps: int) -> Any:
        nonlocal state
        if steps == 0:
            return facts
        begun = time.perf_counter()
        for _ in range(steps):
            state, metrics = compiled(state, batch)
        if not np.isfinite(float(metrics["loss"])):
            raise FloatingPointError("the loss is not finite")
        jax.block_until_ready(state)
        return (time.perf_counter() - begun) / steps

    return measure


def reference_step(
    home: Path,
    package: Path | None,
    precision: str,
    batch_size: int,
    detect: bool,
    threads: int | None,
    compiled: bool = False,
) -> Any:
    """A function (steps) → seconds a step of the reference; of 0 steps, what is known of it."""
    uss_reference.use(home, package)
    import torch
    from uss.data.anchor_segment_mixers import AnchorSegmentMixer
    from uss.losses import get_loss_function
    from uss.models.pl_modules import LitSeparation
    from uss.models.query_nets import Cnn14_Wrapper
    from uss.models.resunet import ResUNet30
    from uss.optimizers.lr_schedulers import get_lr_lambda

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cudnn.benchmark = True
    if threads:
        torch.set_num_threads(threads)
    model = LitSeparation(
        ss_model=ResUNet30(input_channels=1, output_channels=1, condition_size=audioset.CLASS_COUNT),
        anchor_segment_detector=_detector() if detect else _given_segments,
        anchor_segment_mixer=AnchorSegmentMixer(mix_num=2, match_energy=True),
        query_net=Cnn14_Wrapper("at_soft", base_checkpoint_path="", freeze_base=True),
        loss_function=get_loss_function("l1_wav"),
        optimizer_type="AdamW",
        learning_rate=1e-3,
        lr_lambda_func=get_lr_lambda("constant_warm_up", warm_up_steps=10_000, reduce_lr_steps=1_000_000),
    ).to(device)
    if compiled:
        model.to(memory_format=torch.channels_last)
        model.ss_model.compile()
        model.query_net.compile()
    optimisers = model.configure_optimizers()
    optimiser, scheduler = optimisers["optimizer"], optimisers["lr_scheduler"]["scheduler"]
    seconds = CLIP_SECONDS if detect else SEGMENT_SECONDS
    waveform = torch.from_numpy(random_batch(batch_size, seconds)["source"]).to(device)
    batch = {"waveform": waveform, "class_id": [0] * batch_size}

    def step() -> Any:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.training_step(batch, 0)
        loss.backward()
        optimiser.step()
        scheduler.step()
        return loss

    step()

    def measure(steps: int) -> Any:
        if steps == 0:
            return {"memory_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0}
        begun = time.perf_counter()
        for _ in range(steps):
            loss = step()
        if not np.isfinite(loss.item()):
            raise FloatingPointError("the reference's loss is not finite")
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / steps

    return measure


def _given_segments(waveforms: Any, class_ids: Any) -> dict[str, Any]:
    """In place of the reference's detector: what comes is segments already."""
    del class_ids
    return {"waveform": waveforms}


def _detector() -> Any:
    """The reference's detector of anchors, with random weights."""
    from uss.data.anchor_segment_detectors import AnchorSegmentDetector
    from uss.utils import load_pretrained_panns

    tagger = load_pretrained_panns("Cnn14_DecisionLevelMax", checkpoint_path="", freeze=True)
    return AnchorSegmentDetector(tagger, CLIP_SECONDS, SEGMENT_SECONDS, 100, SAMPLE_RATE_HZ, "max_area")


def compare(args: argparse.Namespace, home: Path, precision: str, batch_size: int) -> list[dict[str, Any]]:
    """Rows of all sides at one precision and batch size."""
    sides: dict[str, tuple[Any, ...]] = {
        "this project": (our_step, args.config, args.tagger, precision, args.rematerialise, batch_size)
    }
    if not args.alone:
        sides["reference"] = (reference_step, home, args.reference_source, precision, batch_size, False, args.threads)
        if args.detect:
            detecting = (reference_step, home, args.reference_source, precision, batch_size, True, args.threads)
            sides["reference, detecting"] = detecting
        if args.compiled:
            sides["reference, compiled"] = (*sides["reference"], True)  # the argument `compiled`
    rows: dict[str, dict[str, Any]] = {}
    with children() as start:
        running = {}
        for name, arguments in sides.items():
            rows[name] = {"side": name, "precision": precision, "batch_size": batch_size}
            try:
                running[name] = start(*arguments)
                running[name](args.warm_up)
                rows[name] |= running[name](0)
            except RuntimeError as error:
                if not any(word in str(error) for word in OUT_OF_MEMORY):
                    raise
                running.pop(name, None)
        turns = [name for _ in range(args.repetitions) for name in running]
        seconds: dict[str, list[float]] = {name: [] for name in running}
        for name in progress.track(turns, f"{precision}, batch {batch_size}", len(turns)):
            seconds[name].append(running[name](args.steps))
    ours = rows["this project"]
    for name, times in seconds.items():
        row, median = rows[name], statistics.median(times)
        row |= {"seconds": times, "seconds_per_step": median, "samples_per_second": batch_size / median}
        if "flops" in ours:
            row |= {"device": ours["device"], "tflops": ours["flops"] / median / 1e12}
            if ours["peak_flops"]:
                row["share_of_peak"] = row["tflops"] * 1e12 / ours["peak_flops"]
    return list(rows.values())


def memory_of(config: Any, tagger: dict[str, Any], batch_size: int) -> float:
    """GiB that a compiled step of a batch size needs on a device; nothing is run."""
    state, step = make_training(config, tagger)
    batch = jax.eval_shape(lambda: parallel.shard(random_batch(batch_size * jax.local_device_count())))
    return speed.memory_gib(parallel.pmap_step(step).lower(state, batch).compile(compiling.options()))


def largest_batch(memory: Callable[[int], float], limit_gib: float, first: int = 1) -> tuple[int, dict[int, float]]:
    """The largest batch that fits, of `first` and its doubles; 0 if none does.

    Args:
      memory: GiB that a batch needs, a growing function.
      limit_gib: what there is.
      first: the smallest batch that is tried.

    Returns:
      The batch, and the GiB of each that was tried.
    """
    tried: dict[int, float] = {}
    batch_size = first
    while True:
        tried[batch_size] = memory(batch_size)
        if tried[batch_size] > limit_gib:
            return (batch_size // 2 if batch_size > first else 0), tried
        batch_size *= 2


def largest(args: argparse.Namespace, precision: str) -> dict[str, Any]:
    """The largest batch of a device, at a precision. Raises ValueError where its memory is not known."""
    limit = args.memory_gib or speed.device_gib()
    if limit is None:
        raise ValueError("the device does not tell how much memory it has: give --memory-gib")
    config = load_config(args.config, precision, args.rematerialise)
    memory = functools.partial(memory_of, config, args.tagger)
    batch_size, tried = largest_batch(memory, limit, min(args.batch_sizes))
    return {"precision": precision, "limit_gib": limit, "largest_batch": batch_size, "gib": tried}


HEADING = (
    f"{'':20} {'precision':>13} {'batch':>5} {'ms/step':>8} {'samples/s':>9} {'TFLOP/s':>8} {'peak':>5} {'GiB':>6}"
)


def line(row: dict[str, Any]) -> str:
    """A row as a line below `HEADING`."""
    start = f"{row['side']:20} {row['precision']:>13} {row['batch_size']:5d} "
    if "seconds_per_step" not in row:
        return start + "does not fit"
    peak = f"{row['share_of_peak']:5.0%}" if "share_of_peak" in row else f"{'':5}"
    memory = f"{row['memory_gib']:6.2f}" if row["memory_gib"] else f"{'':6}"
    return (
        f"{start}{1000 * row['seconds_per_step']:8.1f} {row['samples_per_second']:9.1f} "
        f"{row.get('tflops', 0.0):8.2f} {peak} {memory}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64], help="of all devices together")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rematerialise", action="store_true", help="make activations again in the backward pass")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the separator; default: resunet30_soft.py")
    parser.add_argument("--alone", action="store_true", help="without the reference")
    parser.add_argument("--detect", action="store_true", help="also the reference's step with its search for anchors")
    parser.add_argument("--compiled", action="store_true", help="also the reference's step compiled, channels last")
    parser.add_argument(
        "--largest", action="store_true", help="look for the largest batch per device, and time nothing"
    )
    parser.add_argument("--memory-gib", type=float, help="memory of a device, where it does not tell itself")
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before the first turn")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each side")
    parser.add_argument("--threads", type=int, help="of PyTorch on a CPU")
    parser.add_argument("--reference-source", type=Path, help="folder with the package `uss`, if not the installed one")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.set_defaults(tagger=TAGGER)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if args.largest:
        for precision in args.precision:
            rows.append(found := largest(args, precision))
            sizes = ", ".join(f"{batch}: {gib:.2f}" for batch, gib in found["gib"].items())
            print(f"{precision}: batch {found['largest_batch']} fits into {found['limit_gib']:.1f} GiB ({sizes})")
        if args.out:
            files.write_json(args.out, rows)
    else:
        with tempfile.TemporaryDirectory() as home:
            uss_reference.make_home(Path(home))
            print(HEADING)
            for precision, batch_size in itertools.product(args.precision, args.batch_sizes):
                compared = compare(args, Path(home), precision, batch_size)
                print(*map(line, compared), sep="\n", flush=True)
                rows += compared
                if args.out:  # after each, for the next may take long
                    files.write_json(args.out, rows)


if __name__ == "__main__":
    main()
