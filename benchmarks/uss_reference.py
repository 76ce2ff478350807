"""The PyTorch reference (`pip install uss==0.0.4`), imported without the downloads that its import starts."""

import csv
import importlib.resources
import os
import sys
from pathlib import Path

CLASSES_BYTES = 14_675  # the reference downloads a table of another size anew


def make_home(home: Path) -> None:
    """Puts the table of classes where the reference and panns_inference look for it below a home folder."""
    table = importlib.resources.files("uss_jax").joinpath("tables", "classes.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    lines = ["index,mid,display_name"] + [f'{row["index"]},{row["mid"]},"{row["name"]}"' for row in rows]
    for folder, name in (
        (".cache/uss/metadata", "class_labels_indices.csv"),
        ("panns_data", "class_labels_indices.csv"),
    ):
        (home / folder).mkdir(parents=True)
        (home / folder / name).write_text(("\n".join(lines) + "\n").ljust(CLASSES_BYTES, "\n"), encoding="utf-8")


def use(home: Path, source: Path | None) -> None:
    """To be called before `uss` is imported, in a process that needs no other home.

    Args:
      home: a folder that `make_home` filled.
      source: folder that holds the package `uss`, such as a clone of its repository; the installed one if None.
    """
    os.environ.update(HOME=str(home), MPLBACKEND="agg", MPLCONFIGDIR=str(home / "matplotlib"))
    if source is not None:
        sys.path.insert(0, str(source))
