"""What `uss-jax separate` leaves behind for a recording: stems, residual and timeline."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uss_jax import audioset

if TYPE_CHECKING:
    from uss_jax.separation import Event, Separation, Stem

LONGEST_NAME = 100  # characters of a stem's file name


def folders(paths: Sequence[Path], out: Path, overwrite: bool, kept: Sequence[Path] = ()) -> list[Path]:
    """The result folder of each recording, checked before any work begins.

    Args:
      paths: the recordings.
      out: folder of the result folders.
      overwrite: earlier results may be replaced; nothing else ever is.
      kept: further files and folders that are read.

    Raises:
      ValueError: a recording is missing, two have one name, or a folder exists and may not be replaced.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file")
        folder = out / file_name(path.stem)
        if folder in found:
            raise ValueError(f"{found[folder]} and {path} would both be written to {folder}")
        if os.path.lexists(folder):
            if not overwrite:
                raise ValueError(f"{folder}: exists already; choose another --out or allow overwriting (--overwrite)")
            if folder.is_symlink() or not (folder / "timeline.json").is_file():
                raise ValueError(f"{folder}: not a result of `uss-jax separate`, so it is not overwritten")
            for read in (*paths, *kept):
                if folder.resolve() in (read.resolve(), *read.resolve().parents):
                    raise ValueError(f"{folder}: not overwritten, since {read} is to be read from it")
        found[folder] = path
    return list(found)


def file_name(name: str, suffix: str = "") -> str:
    """A name that is safe as a file name on every system."""
    safe = re.sub(r"[^\w ,.+'();=-]", "_", name)[:LONGEST_NAME]
    return ((safe if safe.strip(" .") else "stem") + suffix).strip(" .")


def stem_path(stem: "Stem") -> str:
    """Where a stem goes: in a folder per level where separated by level."""
    name = file_name(stem.name, ".wav")
    return f"level{stem.level}/{name}" if stem.level else name


def paper_path(stem: "Stem", query: Path | None) -> str:
    """Where the reference puts it: `level=1/Animal.wav`, `0_Speech.wav`, `0_Speech;74_Dog.wav`, `query=folder.wav`."""
    if stem.level:
        return f"level={stem.level}/{file_name(stem.name, '.wav')}"
    if stem.class_indices:
        names = zip(stem.class_indices, audioset.class_names(stem.class_indices), strict=True)
        return file_name(";".join(f"{index}_{name}" for index, name in names), ".wav")
    return file_name(f"query={query.stem}" if query else stem.name, ".wav")


def write(folder: Path, source: Path, separation: "Separation", subtype: str, path_of: Callable[["Stem"], str]) -> None:
    """Writes stems, `residual.wav` and `timeline.json`; `path_of` says where in the folder a stem goes."""
    from uss_jax import audio, files

    listed = []
    for stem in separation.stems.values():
        path = folder / path_of(stem)
        files.make_folder(path.parent)
        audio.write(path, stem.audio, separation.sample_rate_hz, subtype)
        listed.append({"name": stem.name, "level": stem.level, "mid": stem.mid, "file": str(path.relative_to(folder))})
    audio.write(folder / "residual.wav", separation.residual, separation.sample_rate_hz, subtype)
    files.write_json(
        folder / "timeline.json",
        {
            "audio": source.name,
            "sample_rate_hz": separation.sample_rate_hz,
            "seconds": len(separation.residual) / separation.sample_rate_hz,
            "stems": listed,
            "events": [dataclasses.asdict(event) for event in separation.timeline],
        },
    )


def table(source: Path, events: Sequence["Event"]) -> str:
    """Events as lines of text."""
    lines = [f"{source}" + ("" if events else ": nothing is recognised")]
    for event in events:
        indent = "  " * (event.level or 1)
        name = f"{indent}{event.name}"
        lines.append(f"{name:<44} {event.onset_s:7.2f} – {event.offset_s:7.2f} s   {event.peak_probability:.2f}")
    return "\n".join(lines) + "\n"
