"""Models and benchmarks by name."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from uss_jax import dataset, files, mining, model_dir
from uss_jax.anchors import Anchors, anchors_path, load_anchors
from uss_jax.evaluation.audioset import AnchorMixtures, Pairs, is_pairs
from uss_jax.evaluation.benchmark import Benchmark, signature
from uss_jax.evaluation.clips import Folder
from uss_jax.evaluation.fsd import Fsd50k, FsdKaggle2018
from uss_jax.evaluation.musdb18 import Musdb18
from uss_jax.evaluation.slakh2100 import Slakh2100
from uss_jax.evaluation.voicebank import Voicebank
from uss_jax.separation import Model

BENCHMARKS: dict[str, type[Benchmark]] = {
    "fsdkaggle2018": FsdKaggle2018,
    "fsd50k": Fsd50k,
    "slakh2100": Slakh2100,
    "musdb18": Musdb18,
    "voicebank": Voicebank,
    "folder": Folder,
}


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A model, what it is called, and the SHA-256 of its files."""

    model: Model
    name: str
    fingerprint: str


def load_model(name: str, batch_size: int) -> NamedModel:
    """Reads a model. Raises ValueError where it does not separate, or as `model_dir.load` does."""
    networks = model_dir.load(name)
    if networks.separator is None:
        raise ValueError(f"the model {networks.config['name']!r} tags and does not separate")
    folder = model_dir.find(name)
    content = b"".join((folder / file).read_bytes() for file in ("config.json", "weights.safetensors"))
    return NamedModel(Model(networks, batch_size), networks.config["name"], hashlib.sha256(content).hexdigest())


def open_benchmark(
    name: str,
    data: Path,
    *,
    paper: bool = False,
    anchors: Path | None = None,
    model: NamedModel | None = None,
    splits: Sequence[str] = (),
) -> Benchmark:
    """The benchmark on a folder.

    Args:
      name: one of `BENCHMARKS`, or `audioset`.
      data: the folder.
      paper: see `Benchmark`.
      anchors: of an `audioset` dataset, a folder that `uss-jax anchors` wrote.
      model: mines them otherwise; without it there are none, and items can only be read from a list.
      splits: `train`, `test`: those whose anchors are needed.

    Raises:
      ValueError: there is no such folder, or what it holds is something else.
    """
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder")
    if name != "audioset":
        return BENCHMARKS[name](data, paper)
    if is_pairs(data):
        return Pairs(data, paper)
    folder = dataset.find_folder(data)
    stored = {AnchorMixtures(folder).stored(split) for split in splits}
    found: dict[str, Anchors] = {}
    if anchors is not None:
        found = {split: load_anchors(anchors, dataset.Clips(folder, split)) for split in stored}
    elif model is not None:
        found = {split: _mined(folder, split, model) for split in stored}
    return AnchorMixtures(folder, paper, found)


def _mined(folder: Path, split: str, model: NamedModel) -> Anchors:
    """The anchors of a split, mined with the model's own tagger and kept in the cache folder."""
    key = signature(folder.glob("*"), folder, {"model": model.fingerprint})
    path = anchors_path(files.cache_folder() / "anchors" / key, split)
    clips = dataset.Clips(folder, split)
    if not path.is_file():
        mining.mine(clips, model.model.networks).save(path, clips)
    return load_anchors(path.parent, clips)
