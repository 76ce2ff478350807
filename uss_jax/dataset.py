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


def write_index(
    folder: Path, split: str, clip_ids: np.ndarray, samples: np.ndarray, label_counts: np.ndarray, labels: np.ndarray
) -> None:
    """Writes the index of a split, and into it what tells it from others: a SHA-256 of its arrays, in hex.

    Args:
      folder: of the dataset.
      split: its name.
      clip_ids: (clips,) strings.
      samples: (clips,), length of each clip.
      label_counts: (clips,), how many labels each has.
      labels: (labels of all clips,), class indices.
    """
    offsets = np.concatenate([[0], np.cumsum(label_counts)]).astype("<i8")
    samples, labels = samples.astype("<i4"), labels.astype("<i2")
    # Of the arrays, for the bytes of a compressed file depend on the library that compressed it.
    digest = hashlib.sha256(f"{len(clip_ids)} {len(labels)}\n".encode())
    for clip_id in clip_ids:
        digest.update(f"{clip_id}\n".encode())
    for array in (samples, offsets, labels):
        digest.update(array.data)
    fingerprint = np.array(digest.hexdigest())
    arrays = {"clip_ids": clip_ids, "samples": samples, "label_offsets": offsets, "labels": labels}
    files.write_arrays(index_path(folder, split), **arrays, fingerprint=fingerprint)


def index_path(folder: Path, split: str) -> Path:
    """Where the index of a split is kept."""
    return folder / f"index-{split}.npz"


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
            if not index_path(self.folder, name).is_file():
                raise ValueError(f"{self.folder}: has no split {name!r}")
        samples, labels, counts = zip(*(_read_index(index_path(self.folder, name)) for name in names), strict=True)
        self.samples = np.concatenate(samples)
        self._labels = np.concatenate(labels)
        self._offsets = np.zeros(len(self.samples) + 1, np.int32 if len(self._labels) < 2**31 else np.int64)
        np.cumsum(np.concatenate(counts), out=self._offsets[1:], dtype=self._offsets.dtype)

    def __len__(self) -> int:
        return len(self.samples)

    def __reduce__(self) -> Any:
        return Clips, (self.folder, self.split)

    def _of_each_index(self, array: str) -> list[np.ndarray]:
        return [files.read_arrays(index_path(self.folder, name), (array,))[array] for name in self.split.split("+")]

    @functools.cached_property
    def clip_ids(self) -> np.ndarray:
        """(clips,) strings. They are read when asked for, for two million of them take more than all the rest."""
        return np.concatenate(self._of_each_index("clip_ids"))

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
        """What tells one dataset from another: a SHA-256 of its ids, lengths and labels, in hex."""
        digests = list(map(str, self._of_each_index("fingerprint")))
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


def _read_index(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every clip its length, (clips,) int32, all labels, (labels,) int16, and how many of each, (clips,) int32."""
    arrays = files.read_arrays(path, INDEX_ARRAYS)
    return arrays["samples"], arrays["labels"], np.diff(arrays["label_offsets"]).astype(np.int32)
