"""Weakly labelled clips as a TFDS dataset stored in ArrayRecord: made by `prepare`, read by random access.

A dataset folder holds, besides what TFDS writes, `index-<split>.npz`: the labels of every clip without its audio.
"""

import contextlib
import dataclasses
import io
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from uss_jax import audio, audioset, files, progress
from uss_jax.audio import SAMPLE_RATE_HZ

INDEX_ARRAYS = ("clip_ids", "samples", "label_offsets", "labels")


@dataclasses.dataclass(frozen=True)
class ClipFile:
    """A recording to be stored: its id (unique in the dataset), its file and its class indices."""

    clip_id: str
    path: Path
    labels: tuple[int, ...]


class WeakClips(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of mono 16-bit clips at 32 kHz with clip-level labels."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, dataset_name: str, splits: dict[str, list[ClipFile]], **kwargs: Any) -> None:
        self.name = dataset_name
        self._splits = splits
        self.skipped: list[str] = []
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "clip_id": tfds.features.Text(),
                "labels": tfds.features.Sequence(np.int32),
                "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterable]:
        return {split: self._generate_examples(split, clips) for split, clips in self._splits.items()}

    def _generate_examples(self, split: str, clips: list[ClipFile]) -> Iterator[tuple[str, dict[str, Any]]]:
        if not clips:
            raise ValueError(f"the split {split!r} has no clips")
        before = len(self.skipped)
        for clip in progress.track(clips, f"storing {split}", len(clips)):
            try:
                samples = audio.read_mono(clip.path, SAMPLE_RATE_HZ)
            except ValueError as error:
                self.skipped.append(str(error))
                continue
            pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
            yield clip.clip_id, {"clip_id": clip.clip_id, "labels": list(clip.labels), "audio": pcm}
        if len(self.skipped) - before == len(clips):
            first = self.skipped[before]
            raise ValueError(f"{split}: none of {len(clips)} files could be read; the first: {first}")


def read_labels(table: Path, audio_dir: Path, prefix: str = "") -> list[ClipFile]:
    """Reads a weak-label table.

    Args:
      table: CSV with a column `filename` and a column `mids` or `labels` (machine ids or names, comma-separated).
      audio_dir: folder of the files that it names.
      prefix: put before each file name to make the clip's id.

    Raises:
      ValueError: the table is missing or lacks a column, or a cell names no class; the message names the line.
    """
    clips = []
    for line, row in files.read_table(table, ("filename",)):
        cell = row.get("mids") or row.get("labels")
        if not cell:
            raise ValueError(f"{table}: line {line} has no labels in a column 'mids' or 'labels'")
        try:
            path = files.inside(audio_dir, row["filename"])
            labels = audioset.parse_labels(cell)
        except ValueError as error:
            raise ValueError(f"{table}: line {line}: {error}") from error
        if not labels:
            raise ValueError(f"{table}: line {line} has no labels")
        clips.append(ClipFile(prefix + row["filename"], path, labels))
    return clips


def held_out_names(table: Path, rule: str) -> set[str]:
    """File names whose row meets a rule such as `fold=4` or `fold=3,4`.

    Raises:
      ValueError: the rule is not COLUMN=VALUE, the table lacks the column, or no row meets it.
    """
    column, equals, values = rule.partition("=")
    if not equals:
        raise ValueError(f"--held-out {rule!r}: expected COLUMN=VALUE, such as fold=4")
    rows = files.read_table(table, ("filename", column))
    names = {row["filename"] for _, row in rows if row[column] in values.split(",")}
    if not names:
        raise ValueError(f"{table}: no row has {rule}")
    return names


def collect(
    audio_dirs: Sequence[Path], tables: Sequence[Path], metas: Sequence[Path] = (), held_out: str | None = None
) -> dict[str, list[ClipFile]]:
    """Lists the clips of each split: all in `train`, but for those held out, which are in `validation`.

    Args:
      audio_dirs: folders of recordings.
      tables: one weak-label table for each folder.
      metas: one table for each folder with the column that `held_out` names; the label tables unless given.
      held_out: such as `fold=4`.

    Raises:
      ValueError: the counts differ, two clips have one id, or a table is wrong.
    """
    metas = metas or tables
    if not len(audio_dirs) == len(tables) == len(metas):
        raise ValueError(f"{len(audio_dirs)} audio folders need as many label tables (and --meta tables)")
    splits: dict[str, list[ClipFile]] = {"train": []}
    sets = [table.parent.name for table in tables]
    if len(set(sets)) < len(sets):
        sets = list(map(str, range(len(tables))))
    for audio_dir, table, meta, name in zip(audio_dirs, tables, metas, sets, strict=True):
        prefix = f"{name}/" if len(tables) > 1 else ""
        names = held_out_names(meta, held_out) if held_out else set()
        for clip in read_labels(table, audio_dir, prefix):
            split = "validation" if clip.clip_id.removeprefix(prefix) in names else "train"
            splits.setdefault(split, []).append(clip)
    ids = [clip.clip_id for clips in splits.values() for clip in clips]
    if len(set(ids)) < len(ids):
        twice = next(clip_id for clip_id in ids if ids.count(clip_id) > 1)
        raise ValueError(f"two clips are called {twice!r}")
    return splits


def prepare(name: str, splits: dict[str, list[ClipFile]], out: Path) -> tuple[Path, list[str]]:
    """Stores clips as the TFDS dataset `out/name/1.0.0`.

    Returns:
      The dataset's folder, and a line for each file that could not be read and was left out.

    Raises:
      ValueError: the dataset exists already, the name is no TFDS name, or no clip could be read.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"{name!r} is no dataset name: use lower-case letters, digits and underscores")
    if (out / name).exists():
        raise ValueError(f"{out / name}: exists already; choose another name or folder")
    files.make_folder(out)
    tfds.disable_progress_bar()
    with files.new_folder(out / name) as temporary:
        builder = WeakClips(name, splits, data_dir=str(temporary), file_format="array_record")
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints of downloads, and there are none
            builder.download_and_prepare()
        stored = Path(builder.data_dir)
        for split in builder.info.splits:
            _write_index(stored, split)
        os.replace(stored, temporary / stored.name)
        stored.parent.rmdir()
        shutil.rmtree(temporary / "downloads", ignore_errors=True)
    folder = out / name / stored.name
    for line in builder.skipped:
        logging.warning("left out: %s", line)
    return folder, builder.skipped


def _write_index(folder: Path, split: str) -> None:
    source = tfds.builder_from_directory(str(folder)).as_data_source(split)
    clip_ids, samples, labels = [], [], []
    for i in range(len(source)):
        record = source[i]
        clip_ids.append(record["clip_id"].decode())
        samples.append(len(record["audio"]))
        labels.append(np.asarray(record["labels"], np.int16))
    files.write_arrays(
        folder / f"index-{split}.npz",
        clip_ids=np.array(clip_ids),
        samples=np.array(samples, np.int32),
        label_offsets=np.cumsum([0, *map(len, labels)]).astype(np.int64),
        labels=np.concatenate(labels),
    )


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
    """One split of a dataset, read by random access. It pickles; files are opened on first use, in each process.

    Attributes:
      clip_ids: (clips,), strings.
      samples: (clips,), length of each clip.
    """

    def __init__(self, path: str | Path, split: str) -> None:
        """Raises ValueError where there is no such dataset or split."""
        self.folder = find_folder(path)
        self.split = split
        if not (self.folder / f"index-{split}.npz").is_file():
            raise ValueError(f"{self.folder}: has no split {split!r}")
        index = files.read_arrays(self.folder / f"index-{split}.npz", INDEX_ARRAYS)
        self.clip_ids, self.samples = index["clip_ids"], index["samples"]
        self._offsets, self._labels = index["label_offsets"], index["labels"]
        self._source: Any = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_source": None}

    def labels(self, clip: int) -> np.ndarray:
        """Class indices of a clip: (labels,)."""
        return self._labels[self._offsets[clip] : self._offsets[clip + 1]]

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Every (clip, label) pair: clip numbers (pairs,) and class indices (pairs,)."""
        return np.repeat(np.arange(len(self)), np.diff(self._offsets)), self._labels

    def audio(self, clip: int) -> np.ndarray:
        """Samples of a clip: (time,), float32 in −1…1."""
        if self._source is None:
            self._source = tfds.builder_from_directory(str(self.folder)).as_data_source(self.split)
        return self._source[clip]["audio"].astype(np.float32) / 32768.0
