"""Datasets are written in shards, each by itself, so that many workers write and an interruption costs little.

`store` cuts every split into shards by a rule that knows only the number of clips. A shard is an ArrayRecord file of
TFDS examples, and, until all are written, a file with its part of the index. TFDS's own metadata closes the dataset.
TFDS's `download_and_prepare` is not used, with Beam or without: it writes into a temporary folder of its own
choosing, so that after an interruption it begins anew.
"""

import contextlib
import csv
import dataclasses
import fcntl
import functools
import hashlib
import io
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from uss_jax import dataset, files, progress
from uss_jax.engines import Engine, Local

VERSION = "1.0.0"  # of every dataset, and the name of its folder
# A record at a time, for random access. Zstandard would save a sixth of the bytes of music, speech and noises, but a
# clip of 10 s would take four times as long to read (0.7 ms of a core for 0.2 ms) and to write.
WRITER_OPTIONS = "group_size:1,uncompressed"
PART_ARRAYS = ("clip_ids", "samples", "label_counts", "labels", "left_out_ids", "reasons", "kept")
REASON_LENGTH = 200  # characters that are kept: in an array of strings each takes as much as the longest
IN_THIS_PROCESS = Local(1)


@dataclasses.dataclass(frozen=True)
class Record:
    """What is stored of a clip.

    Attributes:
      clip_id: unique in the dataset.
      labels: class indices.
      audio: (time,) int16 at 32 kHz, full scale 32768.
      note: what is odd about it, as `short: 3.20 s of 10.00 s`; it is kept all the same, and listed.
    """

    clip_id: str
    labels: tuple[int, ...]
    audio: np.ndarray
    note: str = ""


class Item(Protocol):
    """A clip to be stored. It pickles."""

    @property
    def clip_id(self) -> str:
        """The id of its record."""

    @property
    def content(self) -> str:
        """What else tells it from other clips, as its labels and what is cut out of it; not where its file lies."""

    def record(self) -> Record:
        """Makes the record; raises ValueError, `kind: details` (as `broken: …`), for a clip that is left out."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A clip that was not stored, or was kept with a note."""

    clip_id: str
    reason: str
    kept: bool

    @property
    def kind(self) -> str:
        """The reason without its details, as `missing` or `short`."""
        return self.reason.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a split.

    Attributes:
      clips: numbers of its clips in the split, those included that will be left out.
      file: its ArrayRecord file.
      part: file of its part of the index.
    """

    clips: range
    file: Path
    part: Path

    def is_done(self) -> bool:
        """Whether it was written, which it was where its part of the index was, for that is written last."""
        return self.part.is_file() and self.file.is_file()


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """A shard and what goes into it."""

    shard: Shard
    items: tuple[Item, ...]


@functools.cache
def features() -> tfds.features.FeaturesDict:
    """TFDS's description of a record."""
    return tfds.features.FeaturesDict(
        {
            "clip_id": tfds.features.Text(),
            "labels": tfds.features.Sequence(np.int32),
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
        }
    )


def shard_ranges(clips: int) -> list[range]:
    """The clips of each shard: 32 to 512 in each, at most 64 shards as long as that will do."""
    size = min(512, max(32, math.ceil(clips / 64)))
    return [range(first, min(first + size, clips)) for first in range(0, clips, size)]


def store_shard(job: ShardJob) -> int:
    """Writes a shard, and then its part of the index, unless they are there. Returns its number of clips."""
    if job.shard.is_done():
        return len(job.items)
    clip_ids, samples, labels = [], [], []
    listed: list[LeftOut] = []
    with files.new_file(job.shard.file) as temporary:
        with _named_errors(job.shard.file):
            writer = ArrayRecordWriter(str(temporary), WRITER_OPTIONS)
        for item in job.items:
            try:
                record = item.record()
            except ValueError as error:
                listed.append(LeftOut(item.clip_id, str(error)[:REASON_LENGTH], kept=False))
                continue
            if record.note:
                listed.append(LeftOut(record.clip_id, record.note[:REASON_LENGTH], kept=True))
            example = {"clip_id": record.clip_id, "labels": list(record.labels), "audio": record.audio}
            with _named_errors(job.shard.file):
                writer.write(features().serialize_example(example))
            clip_ids.append(record.clip_id)
            samples.append(len(record.audio))
            labels.append(record.labels)
        with _named_errors(job.shard.file):
            writer.close()
    files.write_arrays(
        job.shard.part,
        clip_ids=np.array(clip_ids, str),
        samples=np.array(samples, np.int32),
        label_counts=np.array([len(of_clip) for of_clip in labels], np.int64),
        labels=np.array([label for of_clip in labels for label in of_clip], np.int16),
        left_out_ids=np.array([clip.clip_id for clip in listed], str),
        reasons=np.array([clip.reason for clip in listed], str),
        kept=np.array([clip.kept for clip in listed], bool),
    )
    return len(job.items)


@contextlib.contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    """ArrayRecord has one kind of error for all, as for a full disk."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"{file}: cannot be written ({error})") from error


def store(name: str, splits: Mapping[str, Sequence[Item]], out: Path, engine: Engine = IN_THIS_PROCESS) -> Path:
    """Stores clips as the TFDS dataset `out/name/1.0.0`. Interrupted and called again, it goes on where it stopped.

    What is finished stays as it is: a clip whose file was missing when its shard was written stays left out, even if
    the file is there when it is called again. Of a dataset that is there already, nothing is done.

    Args:
      name: of the dataset.
      splits: the clips of each split, in their order.
      out: folder of datasets.
      engine: what runs the jobs of writing shards.

    Returns:
      The dataset's folder.

    Raises:
      ValueError: a dataset of other clips exists or was begun under this name, another process is preparing it,
        the name is no TFDS name, or a split has no clips or none that can be stored.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"{name!r} is no dataset name: use lower-case letters, digits and underscores")
    for split, items in splits.items():
        if not len(items):
            raise ValueError(f"the split {split!r} has no clips")
    job = _job(splits)
    stored = out / name / VERSION
    begun = (out / f".{name}.part").absolute()  # workers need not run in this folder
    if not _is_stored(stored, job):
        with _lock(begun, stored.parent):
            if not _is_stored(stored, job):  # again: another process may just have finished
                _store(begun, stored, splits, job, engine)
    shutil.rmtree(begun, ignore_errors=True)  # after the lock: NFS keeps open files
    return stored


def _is_stored(folder: Path, job: dict[str, Any]) -> bool:
    """Whether this job is finished; raises ValueError where anything else has its name."""
    if not os.path.lexists(folder.parent):
        return False
    file = folder / "job.json"
    if not file.is_file() or files.read_json(file) != job:
        raise ValueError(f"{folder.parent}: exists already; choose another name or folder")
    return True


@contextlib.contextmanager
def _lock(begun: Path, name: Path) -> Iterator[None]:
    """Keeps other processes from the folder of a beginning."""
    files.make_folder(begun)
    with (begun / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed, if by the end of this process
        except BlockingIOError as error:
            raise ValueError(f"{name}: is being prepared by another process") from error
        except OSError as error:
            logging.warning("%s: cannot be locked (%s); let no other process prepare it now", begun, error.strerror)
        yield


def _store(
    begun: Path, stored: Path, splits: Mapping[str, Sequence[Item]], job: dict[str, Any], engine: Engine
) -> None:
    """Goes on from a beginning until the dataset has its name."""
    _begin(begun, job)
    name = stored.parent.name
    folder = begun / name / VERSION
    files.make_folder(folder)
    shards = {split: _shards(begun / "parts", folder, split, len(items)) for split, items in splits.items()}
    pending = [(split, shard) for split in splits for shard in shards[split] if not shard.is_done()]
    total = sum(map(len, splits.values()))
    with progress.bar() as display:
        to_do = sum(len(shard.clips) for _, shard in pending)
        task = display.add_task(f"storing {name}", total=total, completed=total - to_do)
        jobs = (ShardJob(shard, tuple(splits[split][clip] for clip in shard.clips)) for split, shard in pending)
        engine.run(store_shard, jobs, functools.partial(display.advance, task))
    for half_written in folder.glob(".*.part"):  # by workers that were killed
        half_written.unlink(missing_ok=True)  # some may still be ending
    indices = {split: _join_parts(shards[split]) for split in splits}
    _check_stored(begun, shards, indices)
    infos = [_close_split(folder, split, shards[split], indices[split]) for split in splits]
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features(), split_infos=infos, check_data=False, disable_shuffling=True
    )
    files.write_json(folder / "job.json", job)
    files.check_new(stored.parent)  # it may have appeared meanwhile
    os.replace(folder.parent, stored.parent)


def _job(splits: Mapping[str, Sequence[Item]]) -> dict[str, Any]:
    """What tells a job from others, wherever the files lie and whichever of them are there."""
    digest = hashlib.sha256()
    for split, items in splits.items():
        digest.update(f"{split!r} {len(items)}\n".encode())
        for item in progress.track(items, f"listing {split}", len(items)):
            digest.update(f"{item.clip_id!r} {item.content!r}\n".encode())
    return {"clips": {split: len(items) for split, items in splits.items()}, "sha256": digest.hexdigest()}


def _begin(begun: Path, job: dict[str, Any]) -> None:
    """Claims the folder of a beginning: a new one, or one that was begun with the same clips."""
    file = begun / "job.json"
    if not file.is_file():
        files.write_json(file, job)
    elif files.read_json(file) != job:
        raise ValueError(f"{begun}: was begun with other clips; remove it, or choose another name")


def _shards(parts: Path, folder: Path, split: str, clips: int) -> list[Shard]:
    ranges = shard_ranges(clips)
    stem = f"{folder.parent.name}-{split}.array_record"
    names = [f"{stem}-{number:05d}-of-{len(ranges):05d}" for number in range(len(ranges))]
    return [Shard(of_shard, folder / name, parts / f"{name}.npz") for of_shard, name in zip(ranges, names, strict=True)]


def _join_parts(shards: Sequence[Shard]) -> dict[str, np.ndarray]:
    parts = [files.read_arrays(shard.part, PART_ARRAYS) for shard in shards]
    counts = np.array([len(part["clip_ids"]) for part in parts])
    return {name: np.concatenate([part[name] for part in parts]) for name in PART_ARRAYS} | {"shard_lengths": counts}


def _check_stored(begun: Path, shards: Mapping[str, Sequence[Shard]], indices: Mapping[str, Mapping]) -> None:
    """Raises ValueError for a split of which nothing was stored; it will be tried again."""
    empty = [split for split, index in indices.items() if not len(index["clip_ids"])]
    if not empty:
        return
    for split in empty:
        for shard in shards[split]:
            shard.part.unlink()
    if len(empty) == len(shards):
        shutil.rmtree(begun, ignore_errors=True)  # NFS keeps the open lock
    reasons = indices[empty[0]]["reasons"]
    raise ValueError(f"{empty[0]}: none of {len(reasons)} files could be read; the first: {reasons[0]}")


def _close_split(
    folder: Path, split: str, shards: Sequence[Shard], index: Mapping[str, np.ndarray]
) -> tfds.core.SplitInfo:
    """Writes the index of a split, and lists what was left out."""
    dataset.write_index(folder, split, index["clip_ids"], index["samples"], index["label_counts"], index["labels"])
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["clip_id", "reason", "kept"])
    writer.writerows(zip(index["left_out_ids"], index["reasons"], index["kept"].astype(int), strict=True))
    files.write_text(left_out_path(folder, split), table.getvalue())
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=index["shard_lengths"].tolist(),
        num_bytes=sum(shard.file.stat().st_size for shard in shards),
    )


def left_out_path(folder: Path, split: str) -> Path:
    """The table of a split's clips that were left out or kept with a note."""
    return folder / f"left_out-{split}.csv"


def left_out(folder: Path, split: str) -> list[LeftOut]:
    """The clips of a split that were left out or kept with a note; raises ValueError where the table is broken."""
    rows = files.read_table(left_out_path(folder, split), ("clip_id", "reason", "kept"))
    return [LeftOut(row["clip_id"], row["reason"], row["kept"] == "1") for _, row in rows]
