"""Weakly labelled clips as a TFDS dataset stored in ArrayRecord: written by `storage`, read here by random access.

A dataset folder holds, besides what TFDS writes, `index-<split>.npz`: the labels of every clip without its audio.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import files
from uss_jax.records import Records

INDEX_ARRAYS = ("samples", "label_offsets", "labels")


def splits(path: str | Path) -> list[str]:
    """The splits of a dataset, `train` first; raises ValueError where there is no dataset."""
    found = sorted(file.stem.removeprefix("index-") for file in find_folder(path).glob("index-*.npz"))
    return sorted(found, key=lambda split: split != "train")


def find_folder(path: str | Path) -> Path:
    """The dataset's folder, given it or one of the two folders above it.

    Raises:
      ValueError: there is no dataset, or more than one.
    """
    path = Path(path)
    found = [file.parent for pattern in ("", "*/", "*/*/") for file in path.glob(f"{pattern}dataset_info.json")]
    if len(found) != 1:
        raise ValueError(f"{path}: {'no' if not found else 'more than one'} dataset made by `uss-jax prepare` here")
    return found[0]


class Clips:
    """The clips of a split, or of a sum of splits, read by random access.

    It pickles as its two arguments: every process reads the index itself, and opens the files on first use.

    Attributes:
      folder: of the dataset.
      split: as given.
      samples: (clips,) int32, length of each clip.
    """

    def __init__(self, path: str | Path, split: str) -> None:
        """Reads the index of a split, as `train`, or of several one after the other, as `train+unbalanced`.

        Raises:
          ValueError: there is no such dataset or split, or a split is named twice.
        """
        self.folder = find_folder(path)
        self.split = split
        names = split.split("+")
        if len(set(names)) < len(names):
            raise ValueError(f"{split!r}: names a split twice")
        for name in names:
            if not self._index_path(name).is_file():
                raise ValueError(f"{self.folder}: has no split {name!r}")
        parts = [files.read_arrays(self._index_path(name), INDEX_ARRAYS) for name in names]
        counts = np.concatenate([np.diff(part["label_offsets"]) for part in parts])
        self.samples = np.concatenate([part["samples"] for part in parts])
        self._offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._labels = np.concatenate([part["labels"] for part in parts])

    def __len__(self) -> int:
        return len(self.samples)

    def __reduce__(self) -> Any:
        return Clips, (self.folder, self.split)

    def _index_path(self, name: str) -> Path:
        return self.folder / f"index-{name}.npz"

    @functools.cached_property
    def clip_ids(self) -> np.ndarray:
        """(clips,) strings. They are read when asked for, for two million of them take more than all the rest."""
        names = self.split.split("+")
        return np.concatenate([files.read_arrays(self._index_path(name), ("clip_ids",))["clip_ids"] for name in names])

    @functools.cached_property
    def _records(self) -> Records:
        return Records(self.folder, self.split)

    def labels(self, clip: int) -> np.ndarray:
        """Class indices of a clip: (labels,) int16."""
        return self._labels[self._offsets[clip] : self._offsets[clip + 1]]

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Every (clip, label) pair: clip numbers (pairs,) int32 and class indices (pairs,) int16."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self._offsets)), self._labels

    def fingerprint(self) -> str:
        """What tells one dataset from another: a SHA-256 of its index files, in hex."""
        digests = []
        for name in self.split.split("+"):
            with self._index_path(name).open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def audio(self, clip: int, start: int = 0, count: int | None = None) -> np.ndarray:
        """Samples of a clip, or of a part of it: (time,), float32 in −1…1.

        Args:
          clip: its number.
          start: the first sample.
          count: how many at most; all that follow unless given.

        Raises:
          ValueError: the record cannot be read; the message names the file, the record and the clip.
        """
        try:
            pcm = self._records.audio(clip, self.samples[clip])
        except ValueError as error:
            raise ValueError(f"{error}; it is the clip {str(self.clip_ids[clip])!r}") from error
        end = len(pcm) if count is None else start + count
        samples = pcm[start:end].astype(np.float32)
        samples *= np.float32(1 / 32768)  # exact, and in place
        return samples
