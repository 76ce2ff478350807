"""A dataset of anchors alone: of each clip the parts that its anchors need, a fraction of the bytes.

It is a dataset like any other, with anchors of its own, so that nothing that reads it knows the difference. Training
that moves anchors (`shift_seconds`) or plays them faster (`speed_range`) reads beyond them, and needs as much margin.
"""

import dataclasses
import functools
import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import files, progress, storage
from uss_jax.anchors import Anchors, anchors_path, load_anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.engines import Local

SUFFIX = "_anchors"  # of the dataset's name
DESCRIPTION = "store.json"  # what a store was made with, in its folder


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, or that of the dataset in one."""
    return _find(folder) is not None


def check_stored(folder: Path, segment_samples: int, needed_samples: int) -> None:
    """Raises ValueError where a store holds less than training reads; other datasets hold all.

    Args:
      folder: of a dataset, or of a store.
      segment_samples: length of the anchors.
      needed_samples: what is read before or after an anchor, at most.
    """
    file = _find(folder)
    if file is None:
        return
    stored = files.read_json(file)
    margin, length = stored["margin_samples"], stored["segment_samples"]
    if length != segment_samples:
        raise ValueError(
            f"{file.parent}: holds anchors of {length / SAMPLE_RATE_HZ:g} s, and "
            f"{segment_samples / SAMPLE_RATE_HZ:g} s are asked for (data.anchor_seconds)"
        )
    if margin < needed_samples:
        needed = math.ceil(1000 * needed_samples / SAMPLE_RATE_HZ) / 1000  # no less, as it is to be given
        raise ValueError(
            f"{file.parent}: holds {margin / SAMPLE_RATE_HZ:g} s on either side of its anchors, and {needed:g} s are "
            f"read; store them with --margin {needed:g}"
        )


def _find(folder: Path) -> Path | None:
    """The description of the store that a folder is, or lies in as its dataset does: store/NAME/VERSION."""
    folder = folder.resolve()
    files_of_store = (above / DESCRIPTION for above in (folder, *folder.parents[:2]))
    return next(filter(files.is_file, files_of_store), None)


def regions(start: np.ndarray, length: int, margin: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The union of a clip's anchors.

    Args:
      start: (anchors,), first sample of each.
      length: samples of an anchor.
      margin: samples that are kept on either side of it, as far as the clip goes.
      samples: of the clip.

    Returns:
      Regions that neither overlap nor touch, first samples and ends, each (regions,), ascending.
    """
    order = np.sort(start)
    first = np.maximum(0, order - margin)
    end = np.minimum(samples, order + length + margin)
    apart = np.flatnonzero(first[1:] > end[:-1]) + 1
    return first[np.append(0, apart)], end[np.append(apart - 1, len(end) - 1)]


def moved(start: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Where anchors begin once the regions of `regions` stand one after the other: (anchors,) → (anchors,)."""
    region = np.searchsorted(first, start, side="right") - 1
    before = np.cumsum(end - first) - (end - first)
    return start - first[region] + before[region]


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """What is stored of a clip: its regions, first samples and ends.

    Attributes:
      folder, split: of the dataset that it is in.
      clip: its number.
      clip_id, labels: as they are there.
      first, end: (regions,), see `regions`.
    """

    folder: Path
    split: str
    clip: int
    clip_id: str
    labels: tuple[int, ...]
    first: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def content(self) -> str:
        """Its labels and what is cut out."""
        return repr((self.labels, self.first, self.end))

    def record(self) -> storage.Record:
        """What is stored.

        Raises:
          OSError: the clip cannot be read. It stops the store, which may lack none; a ValueError would leave it out.
        """
        try:
            samples = _open(self.folder, self.split).audio(self.clip)
        except ValueError as error:
            raise OSError(str(error)) from error
        pieces = [samples[first:end] for first, end in zip(self.first, self.end, strict=True)]
        pcm = np.round(np.concatenate(pieces) * 32768.0).astype(np.int16)  # as it was stored, to the bit
        return storage.Record(self.clip_id, self.labels, pcm)


@functools.lru_cache(maxsize=1)
def _open(folder: Path, split: str) -> Clips:
    """A split, opened once in each process."""
    return Clips(folder, split)


class Excerpts(Sequence[Excerpt]):
    """The excerpts of all clips of a split, in their order; each is made when it is asked for."""

    def __init__(self, clips: Clips, mined: Anchors, length: int, margin: int) -> None:
        """Args: clips; mined, an anchor of each label of each; length and margin in samples, see `regions`."""
        self._clips, self._length, self._margin = clips, length, margin
        self._start = mined.start
        self._pairs = np.searchsorted(mined.clip, np.arange(len(clips) + 1))

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        """The excerpt of one clip."""
        first, end = self.regions(index)
        return Excerpt(
            self._clips.folder,
            self._clips.split,
            index,
            str(self._clips.clip_ids[index]),
            tuple(self._clips.labels(index).tolist()),
            tuple(first.tolist()),
            tuple(end.tolist()),
        )

    def regions(self, clip: int) -> tuple[np.ndarray, np.ndarray]:
        """What is kept of a clip: first samples and ends, each (regions,); of one without labels, its beginning."""
        start = self._start[self._pairs[clip] : self._pairs[clip + 1]]
        samples = int(self._clips.samples[clip])
        return regions(start if len(start) else np.zeros(1, np.int32), self._length, self._margin, samples)

    def moved(self) -> np.ndarray:
        """Where each anchor begins in what is kept of its clip: (anchors,) int32."""
        start = np.empty_like(self._start)
        for clip in progress.track(range(len(self)), "moving anchors", len(self)):
            pairs = slice(self._pairs[clip], self._pairs[clip + 1])
            start[pairs] = moved(self._start[pairs], *self.regions(clip))
        return start


@dataclasses.dataclass(frozen=True)
class Stored:
    """A store that was made.

    Attributes:
      folder: of the dataset.
      share: of the dataset's samples that it holds.
    """

    folder: Path
    share: float


def store(
    dataset: Path,
    splits: Sequence[str],
    folder: Path,
    *,
    length: int,
    margin: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> Stored:
    """Writes the store of mined anchors, `folder/store`, with its anchors; goes on where it was stopped.

    Args:
      dataset: that the anchors are of.
      splits: of the dataset.
      folder: of the anchors.
      length, margin: in samples, see `regions`.
      workers: processes that write.
      overwrite: replace a store of other anchors.

    Raises:
      ValueError: there are no anchors of a split, there is a store of other anchors, or a worker could not read a clip.
      OSError: a clip could not be read, where there is one worker. What is stored stays, and is gone on with.
    """
    whole = {split: Clips(dataset, split) for split in splits}
    mined = {split: load_anchors(folder, clips) for split, clips in whole.items()}
    digests = {split: _digest(whole[split], mined[split]) for split in splits}
    out = folder / "store"
    _begin(out, {"segment_samples": length, "margin_samples": margin, "anchors": digests}, overwrite)

    excerpts = {split: Excerpts(whole[split], mined[split], length, margin) for split in splits}
    name = whole[splits[0]].folder.parent.name + SUFFIX
    stored = out / name / storage.VERSION
    if not stored.is_dir():
        storage.store(name, excerpts, out, Local(workers))
    kept = {split: Clips(stored, split) for split in splits}
    for split, clips in kept.items():
        Anchors.of_pairs(clips, excerpts[split].moved(), mined[split].confidence).save(anchors_path(out, split), clips)
    return Stored(stored, _samples(kept) / _samples(whole))


def _digest(clips: Clips, mined: Anchors) -> str:
    return hashlib.sha256(clips.fingerprint().encode() + mined.start.tobytes()).hexdigest()


def _samples(splits: dict[str, Clips]) -> int:
    return sum(int(clips.samples.sum(dtype=np.int64)) for clips in splits.values())


def _begin(out: Path, job: dict[str, Any], overwrite: bool) -> None:
    """Claims the folder of a store: a new one, or one that was begun with the same anchors."""
    file = out / DESCRIPTION
    if file.is_file() and files.read_json(file) == job:
        return
    if out.exists() and not (overwrite and file.is_file()):
        raise ValueError(f"{out}: is no store of these anchors; choose another --out, or --overwrite an older store")
    if out.exists():
        shutil.rmtree(out)
    files.write_json(file, job)
