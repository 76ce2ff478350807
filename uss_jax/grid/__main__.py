"""Trains and evaluates a list of configurations, and writes one table: python -m uss_jax.grid CONFIG... --workdir=W.

What was begun goes on by the same command; a configuration that fails is named, and the others go on.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from uss_jax import arguments, dataset, progress
from uss_jax.evaluation.registry import BENCHMARKS
from uss_jax.grid import cells, plan, table, workers

PROTOCOLS = ("average", "oracle", "label")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses arguments and runs the study. Returns the exit status."""
    parser = _parser()
    given = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: runs are saved
    try:
        study = plan.Study(
            workdir=args.workdir,
            dataset=args.dataset,
            benchmarks={name: Path(path) for name, path in args.benchmark} or {"folder": args.dataset},
            protocols=tuple(args.protocols),
            per_class=args.per_class,
            models=dict(args.model),
        )
        found = cells.load(args.configs, args.scale, {"separator": args.set, "tagger": args.set_tagger})
        _check(args, study, found)
        stages = plan.stages(study, found, list(dict.fromkeys(args.seeds)))
        command = shlex.join(["python", "-m", "uss_jax.grid", *given])
        text, failed = _run(study, stages, args, command)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"uss_jax.grid: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("uss_jax.grid: interrupted; the same command goes on where it stopped\n")
        return 130
    sys.stdout.write(text)
    return 1 if failed else 0


def _check(args: argparse.Namespace, study: plan.Study, found: Mapping[str, cells.Cell]) -> None:
    """Raises ValueError where something is wrong that would else show after hours."""
    if args.base is not None and (args.base not in found or found[args.base].config["task"] != "separator"):
        raise ValueError(f"--base {args.base}: none of the separators' configurations has this name")
    dataset.find_folder(study.dataset)
    for name, folder in study.benchmarks.items():
        if name not in BENCHMARKS:
            raise ValueError(f"--benchmark {name}: expected one of {', '.join(BENCHMARKS)}")
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")


def _run(study: plan.Study, stages: list[list[plan.Job]], args: argparse.Namespace, command: str) -> tuple[str, int]:
    """Does all jobs, and keeps the table up to date. Returns it, and how many failed.

    Where a tagger or anchors failed, so do the cells that need them, and say so; the others do not.
    """
    jobs = [job for stage in stages for job in stage]
    failures = 0
    with workers.Workers(study, args.processes) as processes, progress.bar() as display:
        bar = display.add_task("study", total=len(jobs))
        for stage in stages:
            for job, outcome in processes.run(stage):
                failures += outcome.failed
                display.advance(bar)
                sys.stdout.write(f"{job}: {outcome.said}\n")
                sys.stdout.flush()
                table.write(study, jobs, args.base, command)
    return table.write(study, jobs, args.base, command), failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m uss_jax.grid", description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG", help="files, as configs/grid/*.py")
    parser.add_argument("--workdir", type=Path, required=True, metavar="W", help="of the study; what it holds goes on")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="made by `uss-jax prepare`")
    parser.add_argument("--scale", help="given to the configurations: small or paper; default their own")
    parser.add_argument("--seeds", nargs="+", type=_seed, default=[0], metavar="N", help="of the separators, default 0")
    parser.add_argument(
        "--processes",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="at once, each with a GPU or a share of one, or, without GPUs, of the cores; default 1, with all",
    )
    parser.add_argument(
        "--benchmark",
        nargs="+",
        type=_pair,
        default=[],
        metavar="NAME=DIR",
        help="to evaluate on, as of eval.py; default `folder` on the dataset's held-back clips",
    )
    parser.add_argument("--base", metavar="NAME", help="the configuration that others are compared with")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=["average", "oracle"], help="of queries")
    parser.add_argument(
        "--per-class", type=arguments.positive, default=100, metavar="N", help="items of each class, default 100"
    )
    parser.add_argument(
        "--model", nargs="+", type=_pair, default=[], metavar="TAGGER=NAME_OR_DIR", help="taken instead of training it"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="in all separators' configurations")
    parser.add_argument("--set-tagger", nargs="+", default=[], metavar="FIELD=VALUE", help="in all taggers'")
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more, less than 2³²")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
