"""Mines the anchors of a whole dataset: a batch job over its clips, on all devices of any number of hosts."""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from uss_jax import anchors, files, parallel, progress
from uss_jax.anchors import Anchors, anchors_path, note_path
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.model_dir import Networks

BUCKET_SECONDS = 5.0  # clips are padded to a multiple of this, so that few shapes are compiled
# What a clip has beyond such a multiple is left out if it is no longer than this: AudioSet's decode to 10.02 s, and
# are heard as the reference hears them, in 10 s, rather than in 15.
OVERHANG_SECONDS = 0.1
SHARD_CLIPS = 2048  # clips of a shard, the most that a killed job repeats on each host


@dataclasses.dataclass(frozen=True)
class Batch:
    """Clips of like length, for all local devices.

    Attributes:
      clips: (clips,), their numbers; at most as many as there is room for.
      audio: (devices, clips of a device, time); zeros after the end of a clip, and where there is none.
      labels: (devices, clips of a device, labels), the clips' class indices, filled up with any.
    """

    clips: np.ndarray
    audio: np.ndarray
    labels: np.ndarray


class Batches:
    """Grain source of the batches of shards of clips, one shard after the other.

    Every batch is full-sized whatever the shard, so that neither shards nor devices change what a clip's anchors are.

    Attributes:
      counts: batches of each shard.
    """

    def __init__(self, clips: Clips, shards: list[np.ndarray], batch_size: int, label_count: int) -> None:
        """Args: clips; shards, each numbers of clips; batch_size, of each device; label_count, the most of a clip."""
        self._clips, self._label_count = clips, label_count
        self._shape = (jax.local_device_count(), batch_size)
        groups = [_groups(clips, numbers, self._shape[0] * batch_size) for numbers in shards]
        self.counts = list(map(len, groups))
        self._groups = list(itertools.chain.from_iterable(groups))

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, record_key: SupportsIndex) -> Batch:
        length, group = self._groups[int(record_key)]
        room = self._shape[0] * self._shape[1]
        audio = np.zeros((room, length), np.float32)
        labels = np.zeros((room, self._label_count), np.int32)
        for row, number in enumerate(map(int, group)):
            samples, of_clip = self._clips.audio(number), self._clips.labels(number)
            audio[row, : len(samples)] = samples[:length]
            labels[row, : len(of_clip)] = of_clip
        return Batch(group, audio.reshape(*self._shape, -1), labels.reshape(*self._shape, -1))


def _heard(samples: np.ndarray) -> np.ndarray:
    """The samples that clips of so many are padded, or cut, to: (clips,) → (clips,)."""
    bucket, overhang = round(BUCKET_SECONDS * SAMPLE_RATE_HZ), round(OVERHANG_SECONDS * SAMPLE_RATE_HZ)
    return np.maximum(1, -(-(samples - overhang) // bucket)) * bucket


def _groups(clips: Clips, numbers: np.ndarray, size: int) -> list[tuple[int, np.ndarray]]:
    """Clips of like length, at most `size` together: the samples they are padded to, and their numbers."""
    lengths = _heard(clips.samples[numbers])
    alike = [(int(length), numbers[lengths == length]) for length in np.unique(lengths)]
    return [(length, group[start : start + size]) for length, group in alike for start in range(0, len(group), size)]


class Miner:
    """Finds the anchors of clips with the tagger of one model, on all local devices."""

    def __init__(self, clips: Clips, networks: Networks, batch_size: int, workers: int) -> None:
        """Says what to mine, and how.

        Args:
          clips: where the audio is.
          networks: the model.
          batch_size: clips on each device at once.
          workers: threads that read batches ahead, each its own.

        Raises:
          ValueError: the model has no tagger that hears when a class sounds, or no clip has a label.
        """
        tagger = _framewise_tagger(networks)
        self._counts = np.bincount(clips.label_pairs()[0], minlength=len(clips))
        if not self._counts.any():
            raise ValueError(f"{clips.folder}: no clip of the split {clips.split!r} has a label")
        self._clips, self._batch_size, self._workers = clips, batch_size, workers
        self._hop = tagger.hop
        self._segment_frames = networks.segment_samples // self._hop
        self._variables = parallel.replicate_locally(networks.variables["sed"])
        self._hear = parallel.pmap_inference(_of_labels(tagger))

    def mine(
        self, shards: list[np.ndarray], advance: Callable[[int], object]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The anchors of shards of clips, one shard after the other, while the next one is read and run already.

        Args:
          shards: numbers of clips, each (clips,), ascending.
          advance: called with how many clips were done since the last call.

        Yields:
          Starts in samples (pairs,) int32 and confidences (pairs,) float16, for every label of each clip of a shard.

        Raises:
          ValueError: a clip cannot be read.
        """
        labelled = [numbers[self._counts[numbers] > 0] for numbers in shards]
        batches = Batches(self._clips, labelled, self._batch_size, int(self._counts.max()))
        reading = grain.ReadOptions(num_threads=self._workers, prefetch_buffer_size=self._workers + 1)
        stream = grain.MapDataset.source(batches).to_iter_dataset(reading) if len(batches) else ()
        heard = _one_behind(lambda batch: self._hear(self._variables, (batch.audio, batch.labels)), stream)
        for numbers, count in zip(shards, batches.counts, strict=True):
            ends = np.cumsum(self._counts[numbers])
            start, confidence = np.zeros(ends[-1], np.int32), np.zeros(ends[-1], np.float16)
            for batch, probabilities in itertools.islice(heard, count):
                for number, probability in zip(batch.clips.tolist(), _rows(probabilities), strict=False):
                    end = int(ends[np.searchsorted(numbers, number)])
                    pairs = slice(end - int(self._counts[number]), end)
                    start[pairs], confidence[pairs] = self._anchors(number, probability)
                advance(len(batch.clips))
            yield start, confidence

    def _anchors(self, clip: int, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (frames, labels), with what a clip was filled up with → starts and confidences (labels,)."""
        samples = self._clips.samples[clip]
        frames = int(min(samples, _heard(samples))) // self._hop + 1
        start, confidence = anchors.find(probability[:frames, : self._counts[clip]], self._segment_frames)
        return start * self._hop, confidence


def _framewise_tagger(networks: Networks) -> Any:
    if networks.sed is None:
        raise ValueError("anchors need a tagger with framewise output (cnn14_decision_level_max)")
    return networks.sed


def _of_labels(tagger: Any) -> Callable[..., jax.Array]:
    """The tagger's probabilities of each clip's labels alone: 1 % of what it says, and all that leaves the device."""

    def apply(variables: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Variables, audio (clips, time) and labels (clips, labels) → (clips, frames, labels)."""
        audio, labels = batch
        with jax.default_matmul_precision("float32"):  # GPUs and TPUs round to less, and find other anchors than a CPU
            framewise = tagger.apply(variables, audio).framewise
        return jnp.take_along_axis(framewise, labels[:, None], axis=2)

    return apply


def _rows(heard: jax.Array) -> np.ndarray:
    """(devices, clips of a device, …) → (clips, …)."""
    return np.asarray(heard).reshape(-1, *heard.shape[2:])


Item = TypeVar("Item")


def _one_behind(run: Callable[[Item], jax.Array], items: Iterable[Item]) -> Iterator[tuple[Item, jax.Array]]:
    """Items with what `run` makes of them, each given when the next is on its way, so that devices do not wait."""
    previous: list[tuple[Item, jax.Array]] = []
    for item in items:
        following = [(item, run(item))]
        yield from previous
        previous = following
    yield from previous


def mine(clips: Clips, networks: Networks, batch_size: int = 8, workers: int = 1) -> Anchors:
    """Finds, for each clip and each of its labels, where the class sounds surest.

    Clips are run in batches of like length, padded with zeros; the padding is never part of an anchor, unless the clip
    is shorter than a segment.

    Args:
      clips: all of which are mined, by this process alone.
      networks, batch_size, workers: see `Miner`.

    Raises:
      ValueError: the model has no tagger that hears when a class sounds, no clip has a label, or one cannot be read.
    """
    miner = Miner(clips, networks, batch_size, workers)
    with progress.bar() as display:
        task = display.add_task("mining anchors", total=len(clips))
        ((start, confidence),) = miner.mine([np.arange(len(clips))], lambda count: display.advance(task, count))
    return Anchors.of_pairs(clips, start, confidence)


def mine_split(
    dataset: Path,
    split: str,
    networks: Networks,
    out: Path,
    *,
    batch_size: int = 8,
    workers: int = 1,
    overwrite: bool = False,
    shard_clips: int = SHARD_CLIPS,
) -> bool:
    """Mines one split of a dataset into `out`, with a note of what it was made from.

    The work is done by shards of clips, and those that are there already are not done again; each host takes every
    n-th of them, in files that all hosts see. Host 0 joins them.

    Args:
      dataset: its folder.
      split: of the dataset.
      networks, batch_size, workers: see `Miner`.
      out: the folder of the anchors.
      overwrite: replace anchors, and what was begun, of another dataset or model, or mine them anew.
      shard_clips: clips of a shard.

    Returns:
      Whether there was anything to do; no if these anchors are there already.

    Raises:
      ValueError: the model has no tagger that hears when a class sounds; a clip cannot be read; or there are anchors of
        another dataset or model.
    """
    if "+" in split:
        raise ValueError(f"{split!r}: anchors are mined, and kept, by split")
    parallel.wait_for_all(f"mining {split}")  # hosts meet while they are in step; later some are hours ahead
    clips = Clips(dataset, split)
    job = job_of(clips, networks)
    path, note = anchors_path(out, split), note_path(out, split)
    parts = out / f".anchors-{split}.part"
    if not overwrite and _is_made(path, note, parts, job):
        return False
    miner = Miner(clips, networks, batch_size, workers)
    _begin(parts, job | {"shard_clips": shard_clips}, overwrite)
    shards = [parts / f"{number:05d}.npz" for number in range(-(-len(clips) // shard_clips))]
    missing = [
        (shard, np.arange(number * shard_clips, min((number + 1) * shard_clips, len(clips))))
        for number, shard in list(enumerate(shards))[jax.process_index() :: jax.process_count()]
        if not shard.is_file()
    ]
    with progress.bar() as display:
        task = display.add_task(f"mining anchors of {split}", total=sum(len(numbers) for _, numbers in missing))
        found = miner.mine([numbers for _, numbers in missing], lambda count: display.advance(task, count))
        for (shard, _), (start, confidence) in zip(missing, found, strict=True):
            files.write_arrays(shard, start=start, confidence=confidence)
    parallel.wait_for_all(f"anchors of {split} are mined")
    if parallel.is_main():
        mined = _joined(shards, clips)
        note.unlink(missing_ok=True)  # it is what tells that the anchors are whole, and of this job
        mined.save(path, clips)
        files.write_json(note, _note(clips, networks, mined) | job)
        _remove(parts)
    parallel.wait_for_all(f"anchors of {split} are joined")
    return True


def job_of(clips: Clips, networks: Networks) -> dict[str, Any]:
    """What decides where the anchors are."""
    tagger = _framewise_tagger(networks)
    description = networks.config.get("sed") or networks.config["tagger"]  # and not its fields, which versions add
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, array in sorted(traverse_util.flatten_dict(networks.variables["sed"], sep="/").items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.asarray(array).tobytes())
    return {
        "fingerprint": clips.fingerprint(),
        "tagger": digest.hexdigest(),
        "segment_samples": networks.segment_samples,
        "hop": tagger.hop,
    }


def _is_made(path: Path, note: Path, parts: Path, job: dict[str, Any]) -> bool:
    """Whether the anchors of a job are there; raises ValueError where they are another's."""
    if not path.is_file() or (parts.is_dir() and not note.is_file()):  # without a note, they were being joined
        return False
    made = files.read_json(note) if note.is_file() else {}
    for name, of in (("fingerprint", "dataset"), ("tagger", "model"), ("segment_samples", "model"), ("hop", "model")):
        if made.get(name) != job[name]:
            raise ValueError(f"{path}: these anchors are of another {of}; choose another --out, or --overwrite them")
    return True


def _begin(parts: Path, job: dict[str, Any], overwrite: bool) -> None:
    """Makes the folder of the shards; raises ValueError where it holds another job's, unless that is overwritten."""
    file = parts / "job.json"
    if overwrite and parallel.is_main() and file.is_file() and files.read_json(file) != job:
        _remove(parts)
    parallel.wait_for_all(f"{parts.name} is ready")
    if not file.is_file():
        files.write_json(file, job)
    elif files.read_json(file) != job:
        raise ValueError(
            f"{parts}: holds anchors of another dataset, model or job; choose another --out, or --overwrite them"
        )


def _remove(parts: Path) -> None:
    """Removes the folder of the shards: under its name it is whole, or not there."""
    done = parts.with_suffix(".done")
    shutil.rmtree(done, ignore_errors=True)  # of a job that was killed here
    os.replace(parts, done)
    shutil.rmtree(done)


def _joined(shards: list[Path], clips: Clips) -> Anchors:
    arrays = [files.read_arrays(shard, ("start", "confidence")) for shard in shards]
    start, confidence = (np.concatenate([of[name] for of in arrays]) for name in ("start", "confidence"))
    return Anchors.of_pairs(clips, start, confidence)


def _note(clips: Clips, networks: Networks, mined: Anchors) -> dict[str, Any]:
    return {
        "dataset": clips.folder.parent.name,
        "split": clips.split,
        "model": networks.config["name"],
        "segment_seconds": networks.config["segment_seconds"],
        "anchors": len(mined.clip),
        "mean_confidence": float(np.mean(mined.confidence, dtype=np.float64)),
    }
