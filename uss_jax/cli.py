"""The command line `uss-jax`: its arguments. What they do is in `uss_jax.commands`."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from uss_jax import arguments, commands

FORMATS = ("wav", "flac", "ogg", "mp3")
SUBTYPES = ("FLOAT", "PCM_16", "PCM_24", "PCM_32")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command. Returns 0, or 1 where the input was wrong; wrong usage exits with 2."""
    args = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA warns of programs that were compiled by an earlier run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text, nor terminals UTF-8
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"uss-jax: {commands.one_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("uss-jax: interrupted\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uss-jax", description="Finds the sounds in a recording, and separates them.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        command = subparsers.add_parser(name, help=about, description=about)
        command.set_defaults(run=run, usage_error=command.error)
        return command

    _add_separate(add("separate", commands.separate, "separate the sounds of recordings"))

    command = add("tag", commands.tag, "tell which sounds are active when")
    command.add_argument("audio", nargs="+", type=Path, metavar="AUDIO")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("embed", commands.embed, "write the query of example recordings")
    command.add_argument("audio", nargs="+", type=Path, metavar="AUDIO_OR_DIR")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    command.add_argument("--out", type=Path, required=True, metavar="F.npy")

    command = add(
        "convert", commands.convert, "make a model of PyTorch weights (PANNs, uss), or PyTorch weights of a model"
    )
    command.add_argument("--separator", type=Path, metavar="F.ckpt", help="checkpoint of uss")
    command.add_argument("--tagger", type=Path, metavar="F.pth", help="Cnn14; default: the one in --separator")
    command.add_argument("--sed", type=Path, metavar="F.pth", help="Cnn14_DecisionLevelMax, for mining anchors")
    command.add_argument("--to-torch", metavar="NAME_OR_DIR", help="the other way: files that the reference loads")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")

    command = add(
        "retag", commands.retag, "make a model of one that separates and another tagger, which tells what is active"
    )
    command.add_argument("model", metavar="NAME_OR_DIR", help="whose separator and queries to keep")
    command.add_argument("--tagger", required=True, metavar="NAME_OR_DIR")
    command.add_argument("--half", action="store_true", help="store weights as 16-bit floats")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")

    command = add("fetch", commands.fetch, "download a released model and convert it")
    command.add_argument("name", metavar="NAME", help="as listed by `uss-jax models`")

    add("models", commands.models, "list the models at hand, and those to fetch")

    command = add("demo", commands.demo, "a local page: drop a file, see and hear its sounds")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    command.add_argument("--host", default="127.0.0.1", help="to listen on; default this machine alone")
    command.add_argument("--port", type=int, default=7860, help="default 7860; 0 for any that is free")

    command = add("prepare", commands.prepare, "store weakly labelled recordings as a dataset")
    command.add_argument("name", help="of the dataset, lower-case")
    command.add_argument("--audio", nargs="+", type=Path, required=True, metavar="DIR", help="folders of recordings")
    command.add_argument(
        "--labels",
        nargs="+",
        type=Path,
        required=True,
        metavar="CSV",
        help="a table for each folder; AudioSet's own tables may share one",
    )
    command.add_argument(
        "--meta", nargs="+", type=Path, default=[], metavar="CSV", help="tables with --held-out's column"
    )
    command.add_argument("--held-out", metavar="COLUMN=VALUE", help="rows that go to the split `validation`, as fold=4")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    engine = command.add_mutually_exclusive_group()
    engine.add_argument("--workers", type=arguments.positive, metavar="N", help="processes; default one for each CPU")
    engine.add_argument("--beam", metavar="OPTIONS", help='run by Apache Beam, as --beam="--runner=FlinkRunner"')

    command = add("anchors", commands.anchors, "mine the anchors of a dataset")
    command.add_argument("dataset", type=Path)
    command.add_argument("--model", required=True, metavar="NAME_OR_DIR")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--splits", nargs="+", metavar="SPLIT", help="default all")
    command.add_argument(
        "--batch-size", type=arguments.positive, default=8, metavar="N", help="clips on each device at once"
    )
    command.add_argument(
        "--workers", type=arguments.positive, default=2, metavar="N", help="threads or processes that read"
    )
    command.add_argument("--seconds", type=arguments.length, metavar="S", help="of an anchor; default the model's, 2 s")
    command.add_argument("--store", action="store_true", help="also write DIR/store, a dataset of the anchors alone")
    command.add_argument(
        "--margin", type=arguments.seconds, default=0.0, metavar="S", help="seconds stored on either side"
    )
    command.add_argument("--overwrite", action="store_true", help="replace anchors of another dataset or model")
    command.add_argument("--multihost", action="store_true", help="this process is one of several, each on its host")
    command.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, where no cluster tells it")
    command.add_argument("--processes", type=arguments.positive, metavar="N", help="of all hosts")
    command.add_argument("--process", type=int, metavar="I", help="this one, 0 to N − 1")
    return parser


def _add_separate(command: argparse.ArgumentParser) -> None:
    command.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help="sound files, and folders of them")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    wanted = command.add_argument_group("what to separate; all of it in one go, levels 1 2 3 unless something is said")
    wanted.add_argument("--levels", nargs="+", type=int, choices=range(1, 7), default=[], help="of the ontology")
    wanted.add_argument(
        "--classes", nargs="+", default=[], metavar="X", help="AudioSet names, indices or mids, a stem each"
    )
    wanted.add_argument("--together", action="store_true", help="one stem of all --classes; X=0.5 weighs one")
    wanted.add_argument("--not", nargs="+", default=[], dest="excluded", metavar="X", help="classes to keep out")
    wanted.add_argument(
        "--query", nargs="+", type=Path, default=[], metavar="AUDIO_OR_DIR", help="examples of it, a stem each"
    )
    wanted.add_argument("--embedding", type=Path, metavar="F.npy", help="a query made by `uss-jax embed`")
    wanted.add_argument(
        "--span",
        nargs="+",
        type=arguments.span,
        default=[],
        metavar="A-B",
        help="one stem of what sounds from second A to B",
    )
    how = command.add_argument_group("how")
    how.add_argument(
        "--channels",
        choices=("shared", "each"),
        default="shared",
        help="find masks for all channels together (default), or for each by itself",
    )
    how.add_argument(
        "--sum",
        choices=("residual", "consistent"),
        default="residual",
        help="what no stem has goes to the residual (default), or is shared among the stems of a level",
    )
    how.add_argument("--paper", action="store_true", help="the reference's inference: hard cuts, mono 32 kHz")
    out = command.add_argument_group("output")
    out.add_argument("--out", type=Path, default=Path("separated"), metavar="DIR", help="default ./separated")
    existing = out.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace results of the same name")
    existing.add_argument("--skip", action="store_true", help="leave out recordings that have results")
    out.add_argument("--format", choices=FORMATS, default="wav", help="of the stems, default wav")
    out.add_argument("--subtype", choices=SUBTYPES, help="default FLOAT for wav, PCM_24 for flac")
    out.add_argument("--no-report", action="store_true", help="no report.html")


if __name__ == "__main__":
    sys.exit(main())
