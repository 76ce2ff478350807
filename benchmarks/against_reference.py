"""Speed and memory of this project beside the PyTorch reference: same weights, same sounds, in turns; outputs compared.

    python benchmarks/against_reference.py --out=against.json                      every row: about an hour on two cores
    python benchmarks/against_reference.py --rows cnn14-8 resunet-8 --turns=5
    python benchmarks/against_reference.py --rows levels --folder=MATERIALS        makes the materials once
    python benchmarks/against_reference.py --keep-memory                           the reference at its best

Both sides get the same random weights (see `reference_weights.py`), written as checkpoints of the reference and
converted by `uss-jax convert`. Each has a process of its own; they take turns, ours, theirs, ours, theirs …, on the
same processors, and each is run once before, untimed (where nothing is compiled, on less, or its files are read). Rows:

    cnn14-1, cnn14-8        Cnn14 on so many segments of 2 s
    resunet-1, resunet-8    ResUNet30 on so many mixtures of 2 s
    training-4              a training step on 4 mixtures, in float32; no outputs, which the parity tests compare
    levels                  a scene of 60 s separated by ontology levels 1 to 3, as in the paper; models are loaded
    command                 the same by the command line, from the start of the process to its end
    memory                  the greatest memory of these processes; comes with `command`
    evaluation              SDRi of mixtures of 2 s by oracle queries, model loading included
    anchors                 anchors of clips of 10 s, one a clip

Printed: the median seconds of each side (`memory`: MiB) with the least and the greatest, their ratio (theirs / ours),
the ratio that is the goal, and the error, ‖ours − theirs‖ / ‖theirs‖ of the worst output; of anchors the share that
lies elsewhere. An error above 1e-4 is a failure: the exit status is then 1.

Linux alone: processors are chosen, and memory is counted, as it does it.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import materials
import numpy as np
import pipelines
import sides
from children import children
from materials import Materials
from sides import Outputs, Turn

from uss_jax import files, progress

MOST_ERROR = 1e-4
# glibc then keeps what is freed rather than give it back and get it anew, page by page, for every layer.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(16 << 30)}
PACKAGES = ("uss-jax", "jax", "jaxlib", "uss", "panns-inference", "torch")
QUICK_SCENE_SECONDS, QUICK_MIXTURES, QUICK_CLIPS = 3.0, 2, 2


@dataclasses.dataclass(frozen=True)
class Row:
    """What is compared.

    Attributes:
      name: of the row.
      goal: the ratio that is aimed at.
      ours, theirs: called with the materials and the number of threads, in a process of its own.
      long: a turn takes minutes.
      gpu: it is worth a GPU.
      compared: there are outputs to compare.
    """

    name: str
    goal: float
    ours: Callable[[Materials, int], sides.Side]
    theirs: Callable[[Materials, int], sides.Side]
    long: bool = False
    gpu: bool = False
    compared: bool = True


def _of_batch(
    name: str,
    goal: float,
    ours: Callable[..., sides.Side],
    theirs: Callable[..., sides.Side],
    batch_size: int,
    compared: bool = True,
) -> Row:
    """A row of networks on batches."""
    ours, theirs = (functools.partial(side, batch_size=batch_size) for side in (ours, theirs))
    return Row(f"{name}-{batch_size}", goal, ours, theirs, gpu=True, compared=compared)


ROWS = (
    _of_batch("cnn14", 1.2, sides.our_tagging, sides.their_tagging, 1),
    _of_batch("cnn14", 1.2, sides.our_tagging, sides.their_tagging, 8),
    _of_batch("resunet", 1.5, sides.our_separating, sides.their_separating, 1),
    _of_batch("resunet", 2.5, sides.our_separating, sides.their_separating, 8),
    _of_batch("training", 1.5, sides.our_training, sides.their_training, 4, compared=False),
    Row("levels", 4.0, pipelines.our_levels, pipelines.their_levels, long=True),
    Row("command", 4.0, pipelines.our_command, pipelines.their_command, long=True),
    Row("evaluation", 3.0, pipelines.our_evaluation, pipelines.their_evaluation, long=True),
    Row("anchors", 1.5, pipelines.our_anchors, pipelines.their_anchors, long=True),
)
MEMORY_GOAL = 2.0


def relative_error(ours: Outputs, theirs: Outputs) -> float:
    """‖ours − theirs‖ / ‖theirs‖ of the worst output, of whole numbers the share that differ.

    Raises:
      ValueError: there are no outputs, or the sides have outputs of other names or shapes.
    """
    shapes = [{name: output.shape for name, output in of.items()} for of in (ours, theirs)]
    if not theirs or shapes[0] != shapes[1]:
        raise ValueError(f"the outputs are other ones here and in the reference: {shapes[0]} and {shapes[1]}")
    errors = []
    for name, expected in theirs.items():
        if np.issubdtype(expected.dtype, np.integer):
            errors.append(float(np.mean(ours[name] != expected)))
        else:
            difference = np.linalg.norm(ours[name].astype(np.float64) - expected)
            errors.append(float(difference / np.linalg.norm(expected.astype(np.float64))))
    return max(errors)


def result(name: str, goal: float, ours: list[float], theirs: list[float], error: float | None) -> dict[str, Any]:
    """A row of the table: numbers of each turn, medians, and their ratio; `error` is None where nothing is compared."""
    medians = statistics.median(ours), statistics.median(theirs)
    return {
        "row": name,
        "ours": ours,
        "theirs": theirs,
        "median_ours": medians[0],
        "median_theirs": medians[1],
        "ratio": medians[1] / medians[0],
        "goal": goal,
        "error": error,
    }


def compare(row: Row, made: Materials, threads: int, turns: int) -> list[dict[str, Any]]:
    """The results of a row; of rows that are processes also that of their memory."""
    taken: dict[str, list[Turn]] = {"ours": [], "theirs": []}
    errors: list[float] = []
    with children() as start:
        running = {"ours": start(row.ours, made, threads), "theirs": start(row.theirs, made, threads)}
        order = [side for _ in range(turns) for side in running]
        outputs: dict[str, Outputs] = {}
        for side in progress.track(order, row.name, len(order)):
            turn = running[side]()
            outputs[side] = turn.outputs
            taken[side].append(turn._replace(outputs={}))
            if side == "theirs" and row.compared:
                errors.append(relative_error(**outputs))
    seconds = {side: [turn.seconds for turn in of] for side, of in taken.items()}
    results = [result(row.name, row.goal, **seconds, error=max(errors, default=None))]
    peaks = {side: [turn.peak_mib for turn in of if turn.peak_mib is not None] for side, of in taken.items()}
    if peaks["ours"]:
        results.append(result("memory", MEMORY_GOAL, **peaks, error=None))
    return results


HEADING = f"{'':12}{'ours (least–greatest)':>27}{'theirs (least–greatest)':>27}{'ratio':>8}{'goal':>6}{'error':>10}"


def line(of: dict[str, Any]) -> str:
    """A result as a line below `HEADING`."""

    def spread(side: str) -> str:
        least, median, greatest = (f"{x:.4g}" for x in (min(of[side]), of[f"median_{side}"], max(of[side])))
        return f"{median} ({least}–{greatest})"

    error = "" if of["error"] is None else f"{of['error']:.1e}"
    return f"{of['row']:12}{spread('ours'):>27}{spread('theirs'):>27}{of['ratio']:8.2f}{of['goal']:6.1f}{error:>10}"


def failures(results: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the outputs, a phrase for each row whose error is too great."""
    wrong = [of for of in results if of["error"] is not None and not of["error"] <= MOST_ERROR]
    return [f"{of['row']} differs from the reference by {of['error']:.1e}, at most {MOST_ERROR:.0e}" for of in wrong]


def environment(threads: int) -> dict[str, Any]:
    """What figures depend on beside the code."""
    cpu_facts = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [fact.partition(":")[2].strip() for fact in cpu_facts if fact.startswith("model name")]
    return {
        "command": sys.argv,
        "cpu": names[0] if names else platform.machine(),
        "threads": threads,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def gpu_finder() -> Callable[[], bool]:
    """A function that tells whether both libraries see a GPU."""

    def found() -> bool:
        import jax
        import torch

        return torch.cuda.is_available() and jax.default_backend() == "gpu"

    return found


def _prepare(args: argparse.Namespace) -> None:
    """Chooses processors and devices for all processes that are started from now on."""
    processors = sorted(os.sched_getaffinity(0))
    if not 1 <= args.threads <= len(processors):
        sys.exit(f"against_reference.py: --threads={args.threads}: there are {len(processors)} processors here")
    os.sched_setaffinity(0, processors[: args.threads])
    if args.keep_memory:
        os.environ |= KEEP_MEMORY
    if args.device == "cpu":
        os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        return
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the other side needs memory too
    with children() as start:
        if not start(gpu_finder)():
            sys.exit("against_reference.py: --device=gpu: there is no GPU here that both PyTorch and JAX see")


def run(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Makes the materials in a folder, and compares row by row; prints the table meanwhile."""
    made = Materials(folder.resolve(), mixtures=args.mixtures)
    if args.quick:
        made = Materials(made.folder, QUICK_SCENE_SECONDS, QUICK_MIXTURES, QUICK_CLIPS)
    os.environ["USS_JAX_CACHE"] = str(made.cache)
    chosen = [row for row in ROWS if row.name in args.rows]
    with children() as start:
        heard = start(materials.maker, made, "anchors" in args.rows)()
    print(
        f"scene: {heard['blocks']} blocks, {heard['nodes']} active nodes, {heard['pairs']} active (node, block) pairs"
    )
    print(HEADING, flush=True)
    facts = environment(args.threads) | {"device": args.device, "keep_memory": args.keep_memory, "scene": heard}
    results: list[dict[str, Any]] = []
    for row in chosen:
        for of in compare(row, made, args.threads, args.long_turns if row.long else args.turns):
            results.append(of)
            print(line(of), flush=True)
        if args.out:  # after every row, for the next may take long
            files.write_json(args.out, facts | {"rows": results})
    return results


def main() -> None:
    """The command line."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", help="default all that suit the device")
    parser.add_argument("--turns", type=int, default=3, help="of each side in rows of networks")
    parser.add_argument("--long-turns", type=int, default=1, help="of each side in the other rows")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch, and processors of both sides")
    parser.add_argument("--mixtures", type=int, default=200, help="of the evaluation")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="gpu: rows of networks alone")
    parser.add_argument("--keep-memory", action="store_true", help="let both sides keep the memory that they free")
    parser.add_argument("--quick", action="store_true", help="tiny materials, to see whether all works")
    parser.add_argument("--folder", type=Path, help="for the materials (3 GB), to be kept and used again")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    suitable = [row.name for row in ROWS if row.gpu or args.device == "cpu"]
    args.rows = args.rows or suitable
    if unsuitable := [name for name in args.rows if name not in suitable]:
        parser.error(f"--rows {' '.join(unsuitable)}: not on a GPU")
    _prepare(args)
    try:
        if args.folder is None:
            with tempfile.TemporaryDirectory() as folder:
                results = run(args, Path(folder))
        else:
            results = run(args, args.folder)
    except ValueError as error:
        sys.exit(f"against_reference.py: {error}")
    if wrong := failures(results):
        sys.exit(f"against_reference.py: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
