"""Writing files so that nothing half-written ever carries its final name."""

import contextlib
import csv
import itertools
import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def check_new(path: Path, overwrite: bool = False) -> None:
    """Raises ValueError where a new folder of this name may not be made."""
    if os.path.lexists(path) and not overwrite:
        raise ValueError(f"{path}: exists already; choose another name")
    if path.is_symlink():
        raise ValueError(f"{path}: is a link, and is not replaced; name the folder itself")


def unused(path: Path) -> Path:
    """This name, or the name and a number, whichever nothing has yet."""
    candidates = (path.with_name(path.name + (f"-{number}" if number else "")) for number in itertools.count())
    return next(candidate for candidate in candidates if not os.path.lexists(candidate))


@contextlib.contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that takes the name `path` when the block ends, and is removed if it raises.

    Raises:
      ValueError: `path` exists already (and is kept as it is), unless `overwrite`.
    """
    check_new(path, overwrite)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    temporary.mkdir()
    try:
        yield temporary
        check_new(path, overwrite)  # again: it may have appeared meanwhile
        if path.exists():
            replaced = temporary.with_suffix(".old")
            os.replace(path, replaced)
            os.replace(temporary, path)
            shutil.rmtree(replaced) if replaced.is_dir() else replaced.unlink()
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cache_folder() -> Path:
    """Where fetched models are kept: `USS_JAX_CACHE`, or `~/.cache/uss_jax`."""
    return Path(os.environ.get("USS_JAX_CACHE") or Path.home() / ".cache" / "uss_jax")


def make_folder(path: Path) -> None:
    """Makes a folder and its parents.

    Raises:
      ValueError: it cannot be made; the message names it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path}: cannot be made a folder ({error.strerror})") from error


def is_file(path: Path) -> bool:
    """Whether there is such a file; names that no file can have are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a table names. Links in the folder are followed: they are its owner's.

    Raises:
      ValueError: it lies outside of the folder.
    """
    path = Path(os.path.normpath(name))
    if "\0" in name or path.is_absolute() or path.parts[:1] == ("..",):
        raise ValueError(f"{name!r}: names a file outside of its folder")
    return folder / path


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder; what is written there takes the name `path` when the block ends."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, whole or not at all; what is no text (as in the names of some files) becomes a question mark."""
    with new_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ValueError where it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an .npz file, whole or not at all."""
    with new_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads an .npz file; no pickled content is loaded.

    Raises:
      ValueError: it is missing, broken, or lacks one of the names.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a complete index ({error})") from error


def read_table(table: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with their line numbers.

    Args:
      table: the file.
      columns: names that its header must have.

    Raises:
      ValueError: it is missing, no table, lacks a column, or a row has too many or too few cells.
    """
    if not table.is_file():
        raise ValueError(f"{table}: no such file")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns_found = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: not a CSV table ({error})") from error
    missing = [column for column in columns if column not in columns_found]
    if missing:
        raise ValueError(f"{table}: has no column {missing[0]!r}")
    for line, row in rows:
        if None in row or None in row.values():
            raise ValueError(f"{table}: line {line} has not {len(columns_found)} cells; put lists of labels in quotes")
    return rows
