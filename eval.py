"""Evaluates a model: python eval.py --model=NAME_OR_DIR --benchmark=folder --data=DIR --out=R.json."""

import argparse
import sys
from pathlib import Path

from uss_jax import evaluation, files, model_dir, scenes


def main() -> None:
    """Parses arguments, evaluates and writes the result; one sentence and exit status 1 where the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="bundled model or model directory")
    parser.add_argument("--benchmark", required=True, choices=["folder", "scenes", "tagging"])
    parser.add_argument(
        "--data", required=True, type=Path, help="dataset of `uss-jax prepare` with held-out clips; folder of scenes"
    )
    parser.add_argument("--out", required=True, type=Path, help="JSON file for the result")
    parser.add_argument("--query", default="average", choices=["average", "oracle"], help="see README, default average")
    parser.add_argument("--per-class", default=100, type=int, help="mixtures of each class, default 100")
    parser.add_argument("--seed", default=0, type=int, help="of the choice of mixtures, default 0")
    args = parser.parse_args()
    if args.per_class < 1:
        parser.error("--per-class: expected 1 or more")
    if args.out.is_dir():
        parser.error(f"--out {args.out}: a folder, where a file was expected")
    try:
        networks = model_dir.load(args.model)
        if args.benchmark == "tagging":
            result = evaluation.evaluate_tagging(networks, args.data)
        elif args.benchmark == "scenes":
            result = scenes.evaluate_scenes(networks, args.data)
        else:
            result = evaluation.evaluate_folder(networks, args.data, args.query, args.per_class, args.seed)
        files.write_json(args.out, result)
    except (ValueError, OSError) as error:
        sys.exit(f"eval.py: {error}")
    means = ", ".join(f"{metric} {value:.2f}" for metric, value in result["mean"].items())
    sys.stdout.write(f"{result['benchmark']} ({result['query']} query), {result['n']} items: {means}\n")


if __name__ == "__main__":
    main()
