"""The PyTorch reference (`pip install uss==0.0.4`), imported without the downloads that its import starts.

As a command, it is the reference's own, `uss.inference.separate` on files, in a process of its own:

    python benchmarks/uss_reference.py SCENE --home HOME --tagger F.pth --config F.yaml --checkpoint F.ckpt --out DIR
"""

import argparse
import csv
import importlib.resources
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLASSES_BYTES, ONTOLOGY_BYTES = 14_675, 342_780  # the reference downloads tables of another size anew


def make_home(home: Path) -> None:
    """Puts the tables of classes and ontology where the reference and panns_inference look for them below a home."""
    tables = importlib.resources.files("uss_jax").joinpath("tables")
    rows = list(csv.DictReader(tables.joinpath("classes.csv").read_text(encoding="utf-8").splitlines()))
    lines = ["index,mid,display_name"] + [f'{row["index"]},{row["mid"]},"{row["name"]}"' for row in rows]
    for folder, name in (
        (".cache/uss/metadata", "class_labels_indices.csv"),
        ("panns_data", "class_labels_indices.csv"),
    ):
        (home / folder).mkdir(parents=True)
        (home / folder / name).write_text(("\n".join(lines) + "\n").ljust(CLASSES_BYTES, "\n"), encoding="utf-8")
    nodes = [
        {"id": row["mid"], "name": row["name"], "child_ids": [mid for mid in row["children"].split(";") if mid]}
        for row in csv.DictReader(tables.joinpath("ontology.csv").read_text(encoding="utf-8").splitlines())
    ]
    ontology = json.dumps(nodes).ljust(ONTOLOGY_BYTES)
    (home / ".cache" / "uss" / "metadata" / "ontology.json").write_text(ontology, encoding="utf-8")


def use(home: Path, source: Path | None) -> None:
    """To be called before `uss` is imported, in a process that needs no other home.

    Args:
      home: a folder that `make_home` filled.
      source: folder that holds the package `uss`, such as a clone of its repository; the installed one if None.
    """
    os.environ.update(HOME=str(home), MPLBACKEND="agg", MPLCONFIGDIR=str(home / "matplotlib"))
    if source is not None:
        sys.path.insert(0, str(source))


def inference(home: Path, tagger: Path, write: Callable[..., None]) -> Any:
    """The module `uss.inference` as it is, but for three things.

    Its Cnn14 is a file at hand rather than a download, stems are written as one likes, and what it draws into the
    working folder is not drawn.

    Args:
      home: as in `use`.
      tagger: the file for Cnn14.
      write: called with the file, the samples and the sample rate of a stem, as `soundfile.write`.
    """
    use(home, None)
    import uss.config

    uss.config.panns_paths_dict["Cnn14"] = {"path": tagger, "remote_path": "", "size": tagger.stat().st_size}
    import uss.inference

    uss.inference.soundfile = argparse.Namespace(write=write)
    uss.inference.plt = argparse.Namespace(matshow=lambda *_, **__: None, savefig=lambda *_: None)
    return uss.inference


def write_floats(file: str, data: Any, samplerate: int) -> None:
    """Writes a stem as 32-bit floats, so that 16 bits do not limit a comparison."""
    import soundfile

    soundfile.write(file, data, samplerate, subtype="FLOAT")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--home", type=Path, required=True, help="made by `make_home`")
    parser.add_argument("--tagger", type=Path, required=True, help="weights of Cnn14")
    parser.add_argument("--config", type=Path, required=True, help="the reference's configuration")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of its separator")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, required=True, help="of PyTorch")
    parser.add_argument("--out", type=Path, required=True, help="folder for the stems")
    args = parser.parse_args()
    reference = inference(args.home, args.tagger, write_floats)
    import torch

    torch.set_num_threads(args.threads)
    reference.separate(
        argparse.Namespace(
            audio_path=str(args.audio),
            config_yaml=str(args.config),
            checkpoint_path=str(args.checkpoint),
            output_dir=str(args.out),
            levels=args.levels,
            class_ids=[],
            queries_dir="",
            query_emb_path="",
        )
    )


if __name__ == "__main__":
    main()
