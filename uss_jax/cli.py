"""The command line `uss-jax`. Each command imports what it needs, so that --help is quick."""

import argparse
import collections
import dataclasses
import io
import itertools
import json
import logging
import os
import shlex
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uss_jax import arguments

if TYPE_CHECKING:
    import numpy as np

    from uss_jax.targets import Wish

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
        sys.stderr.write(f"uss-jax: {one_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("uss-jax: interrupted\n")
        return 130
    return 0


def one_line(said: object) -> str:
    """A message or name without line breaks and control characters, which names of files may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(said).split()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uss-jax", description="Finds the sounds in a recording, and separates them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=run, usage_error=command.error)
        return command

    _add_separate(add("separate", separate, "separate the sounds of recordings"))

    command = add("tag", tag, "tell which sounds are active when")
    command.add_argument("audio", nargs="+", type=Path, metavar="AUDIO")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("embed", embed, "write the query of example recordings")
    command.add_argument("audio", nargs="+", type=Path, metavar="AUDIO_OR_DIR")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    command.add_argument("--out", type=Path, required=True, metavar="F.npy")

    command = add("convert", convert, "make a model of PyTorch weights (PANNs, uss), or PyTorch weights of a model")
    command.add_argument("--separator", type=Path, metavar="F.ckpt", help="checkpoint of uss")
    command.add_argument("--tagger", type=Path, metavar="F.pth", help="Cnn14; default: the one in --separator")
    command.add_argument("--sed", type=Path, metavar="F.pth", help="Cnn14_DecisionLevelMax, for mining anchors")
    command.add_argument("--to-torch", metavar="NAME_OR_DIR", help="the other way: files that the reference loads")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")

    command = add("retag", retag, "make a model of one that separates and another tagger, which tells what is active")
    command.add_argument("model", metavar="NAME_OR_DIR", help="whose separator and queries to keep")
    command.add_argument("--tagger", required=True, metavar="NAME_OR_DIR")
    command.add_argument("--half", action="store_true", help="store weights as 16-bit floats")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")

    command = add("fetch", fetch, "download a released model and convert it")
    command.add_argument("name", metavar="NAME", help="as listed by `uss-jax models`")

    add("models", models, "list the models at hand, and those to fetch")

    command = add("demo", demo, "a local page: drop a file, see and hear its sounds")
    command.add_argument("--model", default="tiny", metavar="NAME_OR_DIR")
    command.add_argument("--host", default="127.0.0.1", help="to listen on; default this machine alone")
    command.add_argument("--port", type=int, default=7860, help="default 7860; 0 for any that is free")

    command = add("prepare", prepare, "store weakly labelled recordings as a dataset")
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

    command = add("anchors", anchors, "mine the anchors of a dataset")
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


def separate(args: argparse.Namespace) -> None:
    """Writes `OUT/<audio stem>/` for each recording."""
    from uss_jax import results

    if args.together and not args.classes:
        args.usage_error("--together goes with --classes")
    if args.excluded and not (args.levels or args.classes or args.query or args.embedding or args.span):
        args.usage_error("--not says what to keep out of stems: ask for some (the rest of a class is its residual.wav)")
    if args.paper and (args.span or args.excluded or args.channels == "each" or args.sum == "consistent"):
        args.usage_error("--paper goes without --span, --not, --channels and --sum")
    read = [*args.query, *([args.embedding] if args.embedding else [])]
    recordings = results.folders(args.audio, args.out, args.overwrite, read, args.skip)

    from uss_jax import progress, separation

    output = results.Output(
        args.format, args.subtype, not args.no_report, args.channels, args.sum == "consistent", args.paper
    )
    wish = _wish(args)
    wish.targets(), wish.excluded_targets()  # what is wrong with them is told before the model is loaded
    model = separation.Model.load(args.model)
    wish = dataclasses.replace(wish, embeddings=_embeddings(args, model))
    wrong: list[Exception] = []
    for path, folder in recordings.items():
        try:
            with progress.stages(one_line(path.name)) as watch:
                timeline = results.separate_file(model, path, folder, wish, output, watch, overwrite=args.overwrite)
        except (ValueError, OSError) as error:  # the others are separated all the same
            wrong.append(error)
            if len(recordings) > 1:
                sys.stderr.write(f"uss-jax: {one_line(error)}\n")
            continue
        if timeline or not (wish.embeddings or wish.spans):
            sys.stdout.write(results.table(one_line(path), timeline))
        sys.stdout.write(f"{results.summary(folder)} in {one_line(folder)}\n")
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(recordings)} recordings failed") if len(recordings) > 1 else wrong[0]


def _wish(args: argparse.Namespace) -> "Wish":
    """What the arguments ask for, but for queries by example."""
    from uss_jax.targets import Wish

    classes, weights = [], []
    for text in args.classes:
        name, _, weight = text.rpartition("=") if args.together and "=" in text else (text, "", "1")
        try:
            weights.append(float(weight))
        except ValueError as error:
            raise ValueError(f"{text}: expected CLASS=WEIGHT, with a number") from error
        classes.append(name)
    weighted = tuple(weights) if set(weights) - {1.0} else ()
    return Wish(
        levels=tuple(args.levels),
        classes=tuple(classes),
        together=args.together,
        weights=weighted,
        spans=tuple(args.span),
        excluded=tuple(args.excluded),
    )


def _embeddings(args: argparse.Namespace, model: Any) -> dict[str, "np.ndarray"]:
    """The queries by example, named by their files and folders."""
    embeddings = [(path.resolve().stem, _embedding(model, [path])) for path in args.query]
    if args.embedding:
        embeddings.append((args.embedding.stem, _read_embedding(args.embedding, model)))
    found: dict[str, np.ndarray] = {}
    for name, embedding in embeddings:
        numbered = (name if count == 1 else f"{name} ({count})" for count in itertools.count(1))
        found[next(free for free in numbered if free not in found)] = embedding
    return found


def tag(args: argparse.Namespace) -> None:
    """Prints what is active when."""
    from uss_jax import progress, recording, results, separation

    model = separation.Model.load(args.model)
    found = {}
    for path in args.audio:
        with progress.stages(one_line(path.name)) as watch:
            found[str(path)] = model.tag_source(recording.Recording(path), watch=watch)
        if not args.json:
            sys.stdout.write(results.table(one_line(path), found[str(path)]))
    if args.json:
        content = {path: [dataclasses.asdict(event) for event in events] for path, events in found.items()}
        sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def embed(args: argparse.Namespace) -> None:
    """Writes the averaged query of example recordings."""
    import numpy as np

    from uss_jax import files, separation

    embedding = _embedding(separation.Model.load(args.model), args.audio)
    with files.new_file(args.out) as temporary, temporary.open("wb") as file:
        np.save(file, embedding, allow_pickle=False)
    sys.stdout.write(f"an embedding of {len(embedding)} numbers in {args.out}\n")


def _embedding(model: Any, paths: list[Path]) -> "np.ndarray":
    from uss_jax import audio

    rate = audio.SAMPLE_RATE_HZ
    recordings = [audio.read_mono(file, rate) for path in paths for file in audio.find_files(path)]
    try:
        return model.embed(recordings, rate)
    except ValueError as error:
        raise ValueError(f"{', '.join(map(str, paths))}: {error}") from error


def _read_embedding(path: Path, model: Any) -> "np.ndarray":
    import numpy as np

    from uss_jax import separation

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return separation.checked_condition(np.load(path, allow_pickle=False), model.networks)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an embedding for this model ({error})") from error


def convert(args: argparse.Namespace) -> None:
    """Writes a model directory, or PyTorch files."""
    sources = {part: getattr(args, part) for part in ("separator", "tagger", "sed") if getattr(args, part)}
    if bool(sources) == bool(args.to_torch):
        args.usage_error("give --separator, --tagger and --sed, or --to-torch alone")

    from uss_jax import files, model_dir
    from uss_jax.pytorch import convert

    files.check_new(args.out)
    if args.to_torch:
        names = convert.export(model_dir.load(args.to_torch), args.out)
        sys.stdout.write(f"{', '.join(names)} in {args.out}\n")
    else:
        networks = convert.convert(args.out.name, args.separator, args.tagger, args.sed)
        model_dir.save(args.out, networks, convert.model_card(networks, sources))
        sys.stdout.write(f"{convert.summary(networks)}; model directory {args.out}\n")


def retag(args: argparse.Namespace) -> None:
    """Writes a model directory."""
    from uss_jax import files, model_dir

    files.check_new(args.out)
    networks = model_dir.with_tagger(model_dir.load(args.model), model_dir.load(args.tagger), args.out.name)
    found = [model_dir.find(source) / "README.md" for source in (args.model, args.tagger)]
    cards = [path.read_text("utf-8", errors="replace") for path in found if path.is_file()]
    about = "The first of these models, with the tagger of the second to tell what is active.\n"
    model_dir.save(args.out, networks, "\n".join([f"# {args.out.name}\n", about, *cards]), half=args.half)
    parameters = ", ".join(f"{part} {count:,}" for part, count in networks.parameter_counts().items())
    sys.stdout.write(f"parameters: {parameters}; model directory {args.out}\n")


def fetch(args: argparse.Namespace) -> None:
    """Installs a released model, so that --model finds it by its name."""
    from uss_jax import files, model_dir
    from uss_jax.pytorch import checkpoints, convert
    from uss_jax.pytorch import fetch as released

    if args.name not in released.RELEASED:
        args.usage_error(f"{args.name}: expected one of {', '.join(released.RELEASED)}")
    folder = files.cache_folder() / "models" / args.name
    if args.name in model_dir.installed():
        sys.stdout.write(f"{args.name} is there already, in {folder}\n")
        return
    checkpoints.import_torch()  # before the download, for it is needed after it
    downloads = files.cache_folder() / "downloads"
    networks, card = released.fetch(args.name, downloads)
    model_dir.save(folder, networks, card)
    (downloads / released.RELEASED[args.name].file.name).unlink()
    sys.stdout.write(f"{convert.summary(networks)}; in {folder}, to be used as --model {args.name}\n")


def models(args: argparse.Namespace) -> None:
    """Prints the card of each model at hand, and the names of those that can be fetched."""
    from uss_jax import model_dir
    from uss_jax.pytorch import fetch as released

    at_hand = model_dir.known()
    for name, folder in at_hand.items():
        card = (folder / "README.md").read_text(encoding="utf-8")
        sys.stdout.write(f"== {name} ({folder})\n{card}\n")
    for name, model in released.RELEASED.items():
        if name not in at_hand:
            sys.stdout.write(f"== {name}: uss-jax fetch {name}\n{model.about}\n\n")


def demo(args: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C."""
    from uss_jax.demo import Limits, serve

    serve(args.model, args.host, args.port, Limits())


def prepare(args: argparse.Namespace) -> None:
    """Stores a dataset."""
    from uss_jax import dataset, engines, storage, weak_labels

    engine: engines.Engine = engines.Local(args.workers or os.cpu_count() or 1)
    if args.beam is not None:
        engine = engines.Beam(tuple(shlex.split(args.beam)))
    splits = weak_labels.collect(args.audio, args.labels, args.meta, args.held_out)
    there = " (there already)" if (args.out / args.name).exists() else ""
    folder = storage.store(args.name, splits, args.out, engine)
    for split in splits:
        sys.stdout.write(f"{split}: {len(dataset.Clips(folder, split))} clips{_left_out(folder, split)}\n")
    sys.stdout.write(f"dataset in {folder}{there}\n")


def _left_out(folder: Path, split: str) -> str:
    """How many clips of a split were left out or are odd, by kind, and where they are listed."""
    from uss_jax import storage

    listed = storage.left_out(folder, split)
    if not listed:
        return ""
    counts = collections.Counter((clip.kept, clip.kind) for clip in listed)
    parts = [f"{count} {kind}{' but kept' if kept else ''}" for (kept, kind), count in sorted(counts.items())]
    return f"; {', '.join(parts)}, listed in {storage.left_out_path(folder, split)}"


def anchors(args: argparse.Namespace) -> None:
    """Mines the anchors of a dataset's splits, and stores them."""
    if args.margin and not args.store:
        args.usage_error("--margin goes with --store")
    if (args.coordinator, args.processes, args.process) != (None, None, None) and not args.multihost:
        args.usage_error("--coordinator, --processes and --process go with --multihost")

    from uss_jax import anchor_store, audio, dataset, mining, model_dir, parallel
    from uss_jax.anchors import anchors_path

    if args.multihost:
        parallel.initialise(args.coordinator, args.processes, args.process)
    networks = model_dir.load(args.model)
    if args.seconds:
        networks = networks.with_segments(args.seconds)
    splits = args.splits or dataset.splits(args.dataset)
    for split in splits:
        mined = mining.mine_split(
            args.dataset,
            split,
            networks,
            args.out,
            batch_size=args.batch_size,
            workers=args.workers,
            overwrite=args.overwrite,
        )
        sys.stdout.write(f"anchors in {anchors_path(args.out, split)}{'' if mined else ' (there already)'}\n")
    main = parallel.is_main()
    if args.multihost:
        parallel.leave()  # the others would wait for the store, and end what takes longer than they wait
    if args.store and main:
        margin = round(args.margin * audio.SAMPLE_RATE_HZ)
        stored = anchor_store.store(
            args.dataset,
            splits,
            args.out,
            length=networks.segment_samples,
            margin=margin,
            workers=args.workers,
            overwrite=args.overwrite,
        )
        sys.stdout.write(f"{stored.share:.0%} of the samples in {stored.folder}\n")


if __name__ == "__main__":
    sys.exit(main())
