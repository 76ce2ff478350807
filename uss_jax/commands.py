"""What the commands of `uss-jax` do with their arguments. Each imports what it needs, so that --help is quick."""

import argparse
import collections
import dataclasses
import itertools
import json
import os
import shlex
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from uss_jax.targets import Wish


def one_line(said: object) -> str:
    """A message or name without line breaks and control characters, which names of files may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(said).split()))


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
