"""Trains and evaluates a list of configurations, and writes one table: python -m uss_jax.grid CONFIG... --workdir=W.

What was begun goes on by the same command; a configuration that fails is named, and the others go on.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from uss_jax import progress
from uss_jax.grid import cells, plan, table, workers

PROTOCOLS = ("average", "oracle", "label")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses arguments and runs the study. Returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(arguments)
    settings = {"separator": args.set, "tagger": args.set_tagger}
    try:
        found = cells.load(args.configs, args.scale, settings)
        study = plan.Study(
            workdir=args.workdir,
            dataset=args.dataset,
            benchmarks={name: Path(path) for name, path in args.benchmark} or {"folder": args.dataset},
            protocols=tuple(args.protocols),
            per_class=args.per_class,
            models=dict(args.model),
        )
        command = shlex.join(["python", "-m", "uss_jax.grid", *arguments])
        if args.base is not None and args.base not in found:
            raise ValueError(f"--base {args.base}: none of the configurations has this name")
        failed = _run(study, found, args, command)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"uss_jax.grid: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("uss_jax.grid: interrupted; the same command goes on where it stopped\n")
        return 130
    sys.stdout.write(table.write(study, found, args.seeds, args.base, command))
    return 1 if failed else 0


def _run(study: plan.Study, found: dict[str, cells.Cell], args: argparse.Namespace, command: str) -> int:
    """Does all jobs, and keeps the table up to date. Returns how many failed."""
    stages = plan.stages(study, found, args.seeds)
    failures = 0
    with progress.bar() as display:
        bar = display.add_task("study", total=sum(map(len, stages)))
        for jobs in stages:
            for job, outcome, failed in workers.run(jobs, study, min(args.processes, len(jobs))) if jobs else ():
                failures += failed
                display.advance(bar)
                sys.stdout.write(f"{job}: {outcome}\n")
                sys.stdout.flush()
                table.write(study, found, args.seeds, args.base, command)
            if failures and jobs is not stages[-1]:  # what follows needs it
                raise ValueError("a tagger or its anchors failed; see above")
    return failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m uss_jax.grid", description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG", help="files, as configs/grid/*.py")
    parser.add_argument("--workdir", type=Path, required=True, metavar="W", help="of the study; what it holds goes on")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="made by `uss-jax prepare`")
    parser.add_argument("--scale", help="given to the configurations: small or paper; default their own")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="of the separators, default 0")
    parser.add_argument("--processes", type=_positive, default=1, metavar="N", help="at once, a device each; default 1")
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
        "--per-class", type=_positive, default=100, metavar="N", help="items of each class, default 100"
    )
    parser.add_argument(
        "--model", nargs="+", type=_pair, default=[], metavar="TAGGER=NAME_OR_DIR", help="taken instead of training it"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="in all separators' configurations")
    parser.add_argument("--set-tagger", nargs="+", default=[], metavar="FIELD=VALUE", help="in all taggers'")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 1 or more")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
