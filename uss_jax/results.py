"""What `uss-jax separate` leaves behind for a recording: stems, residual, timeline, labels and report."""

import contextlib
import dataclasses
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from uss_jax import audioset

if TYPE_CHECKING:
    from uss_jax.separated import Chunk, Event, Watcher
    from uss_jax.separation import Model
    from uss_jax.targets import Target, Wish

LONGEST_NAME = 150  # bytes of a stem's file name; 255 is the most of common file systems
TIMELINE = "timeline.json"
RESIDUAL = "residual"  # no stem has this name, see `targets.named_apart`


@dataclasses.dataclass(frozen=True)
class Output:
    """How a separation is made and written.

    Attributes:
      format, subtype: of the sound files, see `audio.FORMATS`; None for the format's usual subtype.
      report: write `report.html`.
      channels, consistent: see `Model.separate`.
      paper: the reference's inference and file names.
    """

    format: str = "wav"
    subtype: str | None = None
    report: bool = True
    channels: str = "shared"
    consistent: bool = False
    paper: bool = False


class Pieces(Protocol):
    """A separation that comes in chunks, such as `streaming.Stream`."""

    targets: list["Target"]
    timeline: list["Event"]
    sample_rate_hz: int
    channels: int
    samples: int

    def __iter__(self) -> Iterator["Chunk"]:
        """Yields the chunks in order."""


def folders(
    paths: Sequence[Path], out: Path, overwrite: bool, kept: Sequence[Path] = (), skip: bool = False
) -> dict[Path, Path]:
    """The result folder of each recording, checked before any work begins.

    Args:
      paths: the recordings, and folders of them, whose inner folders are kept.
      out: folder of the result folders.
      overwrite: earlier results may be replaced; nothing else ever is.
      kept: further files and folders that are read.
      skip: recordings that have results are left out.

    Raises:
      ValueError: a recording is missing, two have one name, or a folder exists and may not be replaced.
    """
    owner: dict[Path, Path] = {}
    for path, folder in _recordings(paths, out):
        if folder in owner:
            raise ValueError(f"{owner[folder]} and {path} would both be written to {folder}")
        owner[folder] = path
    recordings = {path: folder for folder, path in owner.items()}
    for path, folder in list(recordings.items()):
        if not os.path.lexists(folder):
            continue
        if skip and (folder / TIMELINE).is_file():
            del recordings[path]
            continue
        if not (overwrite or skip):
            raise ValueError(f"{folder}: exists already; choose another --out, --skip it or --overwrite it")
        if folder.is_symlink() or not (folder / TIMELINE).is_file():
            raise ValueError(f"{folder}: not a result of `uss-jax separate`, so it is not overwritten")
        for read in (*recordings, *kept):
            if folder.resolve() in (read.resolve(), *read.resolve().parents):
                raise ValueError(f"{folder}: not overwritten, since {read} is to be read from it")
    return recordings


def _recordings(paths: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """Each recording, and the folder of its results."""
    for path in paths:
        if os.path.isdir(path):
            from uss_jax import audio

            taken = set()
            for file in audio.find_files(path):
                inner = file.relative_to(path).parent.parts
                above = [path.joinpath(*inner[: depth + 1]) for depth in range(len(inner))]
                if any(folder.name.startswith(".") or (folder / TIMELINE).is_file() for folder in above):
                    continue  # results of an earlier run, or what one that was killed left
                place = out.joinpath(*map(file_name, inner))
                name = file_name(file.stem if place / file_name(file.stem) not in taken else file.name)
                taken.add(place / name)
                yield file, place / name
        elif not os.path.lexists(path):
            raise ValueError(f"{path}: no such file")
        else:
            yield path, out / file_name(path.stem)


def file_name(name: str, suffix: str = "") -> str:
    """A name that is safe as a file name on every system."""
    safe = re.sub(r"[^\w ,.+'();=-]", "_", name).encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore")
    return ((safe if safe.strip(" .") else "stem") + suffix).strip(" .")


def stem_path(target: "Target") -> str:
    """Where a stem goes, but for its suffix: in a folder per level where separated by level."""
    name = file_name(target.name)
    return f"level{target.level}/{name}" if target.level else name


def paper_path(target: "Target") -> str:
    """Where the reference puts it: `level=1/Animal`, `0_Speech`, `0_Speech;74_Dog`, `query=folder`."""
    if target.level:
        return f"level={target.level}/{file_name(target.name)}"
    if target.class_indices:
        names = zip(target.class_indices, audioset.class_names(target.class_indices), strict=True)
        return file_name(";".join(f"{index}_{name}" for index, name in names))
    return file_name(f"query={target.name}")


def stem_files(targets: Sequence["Target"], path_of: Callable[["Target"], str], suffix: str) -> dict[str, str]:
    """The file of each stem and of the residual, by name, relative to the folder; no two are one on any system."""
    found = {RESIDUAL: RESIDUAL + suffix}
    taken = {RESIDUAL + suffix}
    for target in targets:
        path, number = path_of(target) + suffix, 2
        while path.casefold() in taken:
            path, number = f"{path_of(target)}-{number}{suffix}", number + 1
        taken.add(path.casefold())
        found[target.name] = path
    return found


def separate_file(
    model: "Model",
    path: Path,
    folder: Path,
    wish: "Wish",
    output: Output,
    watch: "Watcher" = lambda progress: None,
    *,
    title: str | None = None,
    overwrite: bool = False,
) -> list["Event"]:
    """Separates a recording into a folder, all or nothing, in memory that does not grow with its length.

    Args:
      model: that separates.
      path: of the recording.
      folder: where to.
      wish: what is asked for.
      output: how it is written.
      watch: is told how far it is; what it raises ends the separation.
      title: what the recording is called in the results; its file's name unless given.
      overwrite: replace the folder.

    Returns:
      The timeline.

    Raises:
      ValueError: the recording, or what is asked for, is wrong; the message names the recording.
    """
    from uss_jax import audio, files, paper, recording

    try:
        source = recording.Recording(path)
        rate, channels = (audio.SAMPLE_RATE_HZ, 1) if output.paper else (source.sample_rate_hz, source.channels)
        audio.check_output(output.format, output.subtype, rate, channels)
        pieces: Pieces
        if output.paper:
            pieces = paper.Whole(model.separate_as_paper(*audio.read(path), wish))
        else:
            pieces = model.stream(source, wish, channels=output.channels, consistent=output.consistent, watch=watch)
        with files.new_folder(folder, overwrite) as temporary:
            return _write(temporary, title or path.name, pieces, output, watch)
    except ValueError as error:
        if str(path) in str(error) or str(folder) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def _write(folder: Path, title: str, pieces: Pieces, output: Output, watch: "Watcher") -> list["Event"]:
    from uss_jax import audio, files, report
    from uss_jax.separated import Progress

    rate, channels = pieces.sample_rate_hz, pieces.channels
    path_of = paper_path if output.paper else stem_path
    paths = stem_files(pieces.targets, path_of, audio.FORMATS[output.format].suffix)
    page = report.Builder(title, rate, channels, pieces.samples, pieces.targets) if output.report else None
    with contextlib.ExitStack() as opened:
        writers = {}
        for name, path in paths.items():
            files.make_folder((folder / path).parent)
            writer = audio.Writer(
                folder / path, rate, channels, format=output.format, subtype=output.subtype, frames=pieces.samples
            )
            writers[name] = opened.enter_context(writer)
        for chunk in pieces:
            for name, writer in writers.items():
                writer.write(chunk.residual if name == RESIDUAL else chunk.stem(name))
            if page:
                page.add(chunk)
            done = (chunk.start + len(chunk.mixture)) / pieces.samples
            watch(Progress("separating", done, tuple(pieces.timeline)))
    clipped = sum(writer.clipped for writer in writers.values())
    if clipped:
        logging.warning("%s: %d samples beyond ±1 were clipped; --format wav holds them", title, clipped)
    files.write_json(folder / TIMELINE, timeline(title, pieces, paths))
    files.write_text(folder / "labels.txt", labels(pieces.timeline))
    if page:
        files.write_text(folder / "report.html", page.html(pieces.timeline, paths))
    return pieces.timeline


def timeline(title: str, pieces: Pieces, paths: dict[str, str]) -> dict[str, Any]:
    """What `timeline.json` holds."""
    stems = [
        {"name": target.name, "level": target.level, "mid": target.mid, "file": paths[target.name]}
        for target in pieces.targets
    ]
    return {
        "audio": title,
        "sample_rate_hz": pieces.sample_rate_hz,
        "seconds": pieces.samples / pieces.sample_rate_hz,
        "stems": stems,
        "events": [dataclasses.asdict(event) for event in pieces.timeline],
    }


def labels(events: Sequence["Event"]) -> str:
    """Events as Audacity imports labels: onset, offset and name between tabs, by time."""
    ordered = sorted(events, key=lambda event: (event.onset_s, event.level or 0))
    return "".join(f"{event.onset_s:.6f}\t{event.offset_s:.6f}\t{event.name}\n" for event in ordered)


def summary(folder: Path) -> str:
    """How many stems a result folder has, in words."""
    from uss_jax import files

    count = len(files.read_json(folder / TIMELINE)["stems"])
    return f"{count} stem{'' if count == 1 else 's'} and the residual"


def table(source: str, events: Sequence["Event"]) -> str:
    """Events as lines of text."""
    lines = [f"{source}" + ("" if events else ": nothing is recognised")]
    for event in events:
        indent = "  " * (event.level or 1)
        name = f"{indent}{event.name}"
        lines.append(f"{name:<44} {event.onset_s:7.2f} – {event.offset_s:7.2f} s   {event.peak_probability:.2f}")
    return "\n".join(lines) + "\n"
