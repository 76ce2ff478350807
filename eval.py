"""Evaluates a model: python eval.py --model=NAME_OR_DIR --benchmark=NAME --data=DIR --out=R.json.

Or compares two results: python eval.py --compare A.json B.json.
"""

import argparse
import sys
from pathlib import Path

BENCHMARKS = ("audioset", "fsdkaggle2018", "fsd50k", "slakh2100", "musdb18", "voicebank", "folder", "scenes", "tagging")


def main() -> None:
    """Parses arguments, evaluates and writes the result; one sentence and exit status 1 where the input is wrong."""
    parser = _parser()
    args = parser.parse_args()
    _check(parser, args)
    try:
        if args.compare:
            from uss_jax.evaluation import compare

            sys.stdout.write(compare.compare(*args.compare))
        elif args.benchmark in ("scenes", "tagging"):
            _evaluate_tagger(args)
        else:
            _evaluate(args)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"eval.py: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("eval.py: interrupted; the same command goes on where it stopped\n")
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=BENCHMARKS, help="see README")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set as its authors distribute it")
    parser.add_argument("--out", type=Path, metavar="R.json", help="the result; further files get its name")
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--model", metavar="NAME_OR_DIR", help="bundled or installed model, or model directory")
    system.add_argument("--estimates", type=Path, metavar="DIR", help="score …,estimate.wav of another system instead")
    system.add_argument("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help="compare two results")
    parser.add_argument("--query", default="average", choices=["average", "oracle", "label"], help="default average")
    parser.add_argument("--query-data", type=Path, metavar="DIR", help="training sources, where --data has none")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N items in all, from all classes in turn")
    parser.add_argument("--per-class", default=100, type=int, metavar="N", help="items of each class, default 100")
    parser.add_argument("--seed", type=int, help="of the choice of items; default the reference's, 0 for `folder`")
    parser.add_argument("--mixtures", type=Path, metavar="LIST.csv", help="the items of another run")
    parser.add_argument("--anchors", type=Path, metavar="DIR", help="made by `uss-jax anchors`; default: by the model")
    parser.add_argument("--query-anchors", type=Path, metavar="DIR", help="as --anchors, of --query-data")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write mixtures and sources as WAV files")
    parser.add_argument("--export-estimates", type=Path, metavar="DIR", help="write estimates as WAV files")
    parser.add_argument("--oracle-masks", action="store_true", help="score the ideal ratio mask, too")
    parser.add_argument("--paper", action="store_true", help="recordings: mono, 32 kHz, hard cuts, as the reference")
    parser.add_argument("--batch-size", default=8, type=int, metavar="N", help="segments at once, default 8")
    parser.add_argument("--workers", default=2, type=int, metavar="N", help="processes that read and score, default 2")
    parser.add_argument("--overwrite", action="store_true", help="begin anew, whatever --out holds")
    return parser


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exits with status 2 where options do not fit together."""
    if args.compare:
        return
    if not args.benchmark or not args.data:
        parser.error("--benchmark and --data are needed, or --compare")
    if not (args.model or args.estimates) and (args.out or not args.export):
        parser.error("--model, --estimates or, without --out, --export is needed")
    if (args.model or args.estimates) and not args.out:
        parser.error("--out is needed")
    if args.out and (args.out.is_dir() or args.out.suffix != ".json"):
        parser.error(f"--out {args.out}: expected the name of a .json file")
    if args.export and args.export == args.export_estimates:
        parser.error("--export and --export-estimates need folders of their own")
    for name in ("per_class", "limit", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')}: expected 1 or more")
    if args.workers < 0:
        parser.error("--workers: expected 0 or more")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        parser.error("--seed: expected a number from 0 to 2³² − 1")
    if args.benchmark in ("scenes", "tagging"):
        given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
        if "model" not in given:
            parser.error(f"--benchmark={args.benchmark} needs --model")
        if unused := sorted(given - {"benchmark", "data", "out", "model"}):
            parser.error(f"--{unused[0].replace('_', '-')} has no meaning for --benchmark={args.benchmark}")


def _evaluate_tagger(args: argparse.Namespace) -> None:
    from uss_jax import files, model_dir
    from uss_jax.evaluation import scenes, tagging

    networks = model_dir.load(args.model)
    evaluate = tagging.evaluate_tagging if args.benchmark == "tagging" else scenes.evaluate_scenes
    result = evaluate(networks, args.data)
    files.write_json(args.out, result)
    sys.stdout.write(_line(result))


def _evaluate(args: argparse.Namespace) -> None:
    from uss_jax.evaluation.evaluate import Request, evaluate, export_items
    from uss_jax.evaluation.run import Options

    request = Request(
        benchmark=args.benchmark,
        data=args.data,
        out=args.out,
        model=args.model,
        query=args.query,
        per_class=args.per_class,
        limit=args.limit,
        seed=args.seed,
        mixtures=args.mixtures,
        anchors=args.anchors,
        query_data=args.query_data,
        query_anchors=args.query_anchors,
        paper=args.paper,
        export=args.export,
        workers=args.workers,
        overwrite=args.overwrite,
        options=Options(args.batch_size, args.oracle_masks, args.export_estimates, args.estimates),
    )
    if args.out is None:
        sys.stdout.write(f"{export_items(request)} items exported to {args.export}\n")
        return
    result, done = evaluate(request)
    rate = f"{done.items} done now, {done.items / max(done.seconds, 1e-9):.1f} items/s" if done.items else "done before"
    sys.stdout.write(f"{_line(result).rstrip()}; {rate}; left out: {result['left_out']['items']}\n")


def _line(result: dict) -> str:
    means = ", ".join(f"{metric} {value:.2f}" for metric, value in result["mean"].items())
    return f"{result['benchmark']} ({result['query']} query), {result['n']} items: {means}\n"


if __name__ == "__main__":
    main()
