"""Training examples a second of the input pipeline, beside the reference's HDF5 loader on the same clips.

    python benchmarks/loader.py DATASET --clips=2000 --batch-size=16 --workers 0 1 2 --out=loader.json

DATASET is a folder made by `uss-jax prepare`. A part of its clips is written as HDF5 in the reference's layout, into a
temporary folder below --scratch, and both sides then read these clips alone, from the page cache.

What is counted is anchors, which are the targets of mixtures: a batch of 16 holds 16 on both sides. This project's
loader hands over finished 2-s mixtures and sources. The reference's hands over the whole 10-s clips with their labels
(its own sampler, Dataset and DataModule); it looks for the anchors, and mixes example i with i + 1, on the device.

Each loader has a process of its own, with its workers; they take turns, --repetitions times, and the median counts.
Printed for each: anchors a second, anchors a second of processor time (what one core does when the machine has others
to do the rest), and the ratio to the reference with as many workers.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import uss_reference
from children import children, cpu_seconds

from uss_jax import audio, audioset, files, progress
from uss_jax.anchors import Anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips

SEGMENT_SAMPLES = 2 * SAMPLE_RATE_HZ
CLIP_SAMPLES = 10 * SAMPLE_RATE_HZ  # of every clip in the reference's files
MANY = 10**9  # more items than are ever drawn


def choose_clips(clips: Clips, count: int, seed: int) -> np.ndarray:
    """Numbers of clips to be read, sorted: one of each class, and others at random. (count,), or (clips,) if fewer."""
    random = np.random.default_rng(seed)
    numbers, labels = clips.label_pairs()
    order = random.permutation(len(numbers))
    _, first = np.unique(labels[order], return_index=True)
    ranked = np.concatenate([numbers[order[first]], random.permutation(len(clips))])
    _, places = np.unique(ranked, return_index=True)
    return np.sort(ranked[np.sort(places)][:count])


def random_anchors(clips: Clips, chosen: np.ndarray, seed: int) -> Anchors:
    """An anchor for each label of the chosen clips, anywhere in the clip: how fast it is read does not depend on it."""
    numbers, labels = clips.label_pairs()
    kept = np.isin(numbers, chosen)
    numbers, labels = numbers[kept], labels[kept]
    room = np.maximum(0, clips.samples[numbers].astype(np.int64) - SEGMENT_SAMPLES)
    start = np.random.default_rng(seed).integers(0, room + 1)
    confidence = np.ones(len(numbers), np.float16)
    return Anchors(numbers.astype(np.int32), labels.astype(np.int16), start.astype(np.int32), confidence)


def write_hdf5(folder: Path, clips: Clips, chosen: np.ndarray) -> Path:
    """Writes clips as the reference's waveforms and indexes; returns the file of indexes. Classes without a clip are
    left out of the targets, since its sampler needs one of each."""
    pairs, labels = clips.label_pairs()
    present = np.unique(labels[np.isin(pairs, chosen)])
    waveforms, indexes = folder / "waveforms.h5", folder / "indexes.h5"
    with h5py.File(waveforms, "w") as file, h5py.File(indexes, "w") as index:
        names = np.array([str(clips.clip_ids[clip])[-20:] for clip in chosen], "S20")
        targets = np.zeros((len(chosen), audioset.CLASS_COUNT), bool)
        file.create_dataset("waveform", shape=(len(chosen), CLIP_SAMPLES), dtype=np.int16)
        for row, clip in enumerate(progress.track(chosen, "writing HDF5", len(chosen))):
            samples = audio.fit_length(clips.audio(int(clip)), CLIP_SAMPLES)
            file["waveform"][row] = np.round(np.clip(samples, -1, 1) * 32767.0).astype(np.int16)
            targets[row, clips.labels(int(clip))] = True
        for written in (file, index):
            written.create_dataset("audio_name", data=names)
            written.create_dataset("target", data=targets[:, present])
        file.attrs.create("sample_rate", data=SAMPLE_RATE_HZ, dtype=np.int32)
        index.create_dataset("hdf5_path", data=np.array([str(waveforms)] * len(chosen), "S200"))
        index.create_dataset("index_in_hdf5", data=np.arange(len(chosen), dtype=np.int32))
    return indexes


def timed(batches: Iterator[Any]) -> Callable[[int, int], tuple[float, float]]:
    """A function (batches that only warm up, batches) → seconds, and seconds of processor time."""

    def measure(warm_up: int, count: int) -> tuple[float, float]:
        for _ in range(warm_up):
            next(batches)
        begun, used = time.perf_counter(), cpu_seconds()
        for _ in range(count):
            next(batches)
        return time.perf_counter() - begun, cpu_seconds() - used

    return measure


def our_loader(dataset: Path, split: str, anchors: Anchors, batch_size: int, workers: int, seed: int) -> Any:
    """This project's input pipeline, with the reference's settings: mixtures of two anchors of like energy."""
    from absl import flags  # here, since the reference forks its workers, and Grain's threads would not outlive that

    from uss_jax import mixtures

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's workers read flags
    source = mixtures.MixtureSource(
        Clips(dataset, split),
        anchors,
        seed=seed,
        length=MANY,
        segment_samples=SEGMENT_SAMPLES,
        source_count=2,
        class_power=0.0,
        shift_seconds=0.0,
        level_range_db=0.0,
        gain_range_db=0.0,
        speed_range=1.0,
        label_query_share=0.0,
    )
    return timed(mixtures.batches(source, batch_size, workers=workers))


def reference_loader(home: Path, package: Path | None, indexes: Path, batch_size: int, workers: int, seed: int) -> Any:
    """The reference's sampler, Dataset and DataModule."""
    uss_reference.use(home, package)
    from uss.data.datamodules import DataModule
    from uss.data.datasets import Dataset
    from uss.data.samplers import BalancedSampler

    sampler = BalancedSampler(str(indexes), batch_size, steps_per_epoch=MANY, random_seed=seed)
    module = DataModule(sampler, Dataset(steps_per_epoch=MANY), workers)
    module.setup()
    return timed(iter(module.train_dataloader()))


def compare(args: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Measures all loaders in turns; a row for each."""
    clips = Clips(args.dataset, args.split)
    chosen = choose_clips(clips, args.clips, args.seed)
    anchors = random_anchors(clips, chosen, args.seed)
    indexes = write_hdf5(scratch, clips, chosen)
    home = scratch / "home"
    uss_reference.make_home(home)
    with children() as start:
        loaders = {}
        for workers in args.workers:
            loaders["this project", workers] = start(
                our_loader, args.dataset, args.split, anchors, args.batch_size, workers, args.seed
            )
            loaders["reference", workers] = start(
                reference_loader, home, args.reference_source, indexes, args.batch_size, workers, args.seed
            )
        measured: dict[Any, list[Any]] = {name: [] for name in loaders}
        turns = [name for _ in range(args.repetitions) for name in loaders]
        for name in progress.track(turns, "measuring", len(turns)):
            measured[name].append(loaders[name](args.warm_up, args.batches))
    anchors_drawn = args.batches * args.batch_size
    return [
        {
            "loader": loader,
            "workers": workers,
            "anchors_per_second": anchors_drawn / statistics.median(seconds for seconds, _ in times),
            "anchors_per_cpu_second": anchors_drawn / statistics.median(used for _, used in times),
            "seconds": [seconds for seconds, _ in times],
        }
        for (loader, workers), times in measured.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, with the ratio to the reference that has as many workers."""
    reference = {row["workers"]: row for row in rows if row["loader"] == "reference"}
    lines = [f"{'loader':14} {'workers':>7} {'anchors/s':>10} {'per core':>9} {'ratio':>6} {'per core':>9}"]
    for row in rows:
        other = reference[row["workers"]]
        ratios = [row[key] / other[key] for key in ("anchors_per_second", "anchors_per_cpu_second")]
        lines.append(
            f"{row['loader']:14} {row['workers']:7d} {row['anchors_per_second']:10.0f} "
            f"{row['anchors_per_cpu_second']:9.0f} {ratios[0]:6.2f} {ratios[1]:9.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--split", default="train")
    parser.add_argument("--clips", type=int, default=2000, help="that are read; 640 kB each on both sides")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of worker processes")
    parser.add_argument("--batches", type=int, default=100, help="of a turn")
    parser.add_argument("--warm-up", type=int, default=20, help="batches before each turn, which empty the buffers")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each loader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="where the temporary folder is made")
    parser.add_argument("--reference-source", type=Path, help="folder with the package `uss`, if not the installed one")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        rows = compare(args, Path(scratch))
    print(table(rows))
    if args.out:
        files.write_json(args.out, rows)


if __name__ == "__main__":
    main()
