"""Memory and time of the index and the sampler at AudioSet's size, on a simulated index.

    python benchmarks/index_memory.py --clips=2000000 --draws=20000 --out=index.json

Writes the index and the anchors of so many clips, labelled as in `synthetic_audioset.py` (527 classes, long-tailed,
2.7 labels a clip), into a temporary folder, in the real format and without audio. A fresh process then reads them as
training does (`Clips`, `load_anchors`, `MixtureSource`) and draws consecutive items: what is mixed, without its audio.

Printed: how much more memory of its own the process holds than before, when it had imported the same modules (after
reading, and after drawing), the peak on the way, seconds to read, and microseconds to draw an item.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import synthetic_audioset
from children import children

from uss_jax import anchors, files, mixtures, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips

CHUNK_CLIPS = 10_000
CLIP_SAMPLES, SEGMENT_SAMPLES = 10 * SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ


def write_index(folder: Path, clips: int, seed: int) -> None:
    """Writes the index of a dataset's split `train`, its anchors beside it, and no audio."""
    weights = synthetic_audioset.class_weights(seed)
    random = np.random.default_rng((seed, 5))
    chunks = range(0, clips, CHUNK_CLIPS)
    labels = []
    for first in progress.track(chunks, "labelling", len(chunks)):
        labels += synthetic_audioset.draw_labels(random, min(CHUNK_CLIPS, clips - first), weights)
    files.write_json(folder / "dataset_info.json", {})
    files.write_arrays(
        folder / "index-train.npz",
        clip_ids=np.char.mod("Y%011d", np.arange(clips)),
        samples=np.full(clips, CLIP_SAMPLES, np.int32),
        label_offsets=np.cumsum([0, *map(len, labels)]).astype(np.int64),
        labels=np.concatenate([np.sort(of_clip) for of_clip in labels]).astype(np.int16),
    )
    dataset = Clips(folder, "train")
    pairs = len(dataset.label_pairs()[1])
    start = random.integers(0, CLIP_SAMPLES - SEGMENT_SAMPLES, pairs)
    mined = anchors.Anchors.of_pairs(dataset, start, random.random(pairs))
    mined.save(anchors.anchors_path(folder, "train"), dataset)


def own_memory() -> int:
    """Bytes of this process that no other shares."""
    return int(psutil.Process().memory_full_info().uss)


def peak_memory() -> int:
    """The most bytes that this process has held at a time (Linux). `getrusage` would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def reader(folder: Path, seed: int) -> Any:
    """A function (items to be drawn) → what it took to read the index and to draw, in MB (10⁶ bytes) and seconds."""
    before, begun, peak_before = own_memory(), time.perf_counter(), peak_memory()
    clips = Clips(folder, "train")
    source = mixtures.MixtureSource(
        clips,
        anchors.load_anchors(folder, clips),
        seed=seed,
        length=10**9,
        segment_samples=SEGMENT_SAMPLES,
        source_count=2,
        class_power=0.0,
        shift_seconds=0.0,
        level_range_db=0.0,
        gain_range_db=0.0,
        speed_range=1.0,
        label_query_share=0.0,
    )
    read_seconds, read, peak = time.perf_counter() - begun, own_memory() - before, peak_memory() - peak_before

    def draw(items: int) -> dict[str, float]:
        begun = time.perf_counter()
        for index in range(items):
            source.choose(index)
        seconds = time.perf_counter() - begun
        return {
            "read_mb": read / 1e6,
            "peak_mb": peak / 1e6,
            "read_seconds": read_seconds,
            "drawn_mb": (own_memory() - before) / 1e6,
            "draw_microseconds": 1e6 * seconds / items,
        }

    return draw


def measure(clips: int, draws: int, seed: int = 0) -> dict[str, float]:
    """What the index and the sampler of so many clips take; see the module's docstring."""
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), clips, seed)
        with children() as start:
            return start(reader, Path(folder), seed)(draws)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2_000_000)
    parser.add_argument("--draws", type=int, default=20_000, help="items that are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    found = measure(args.clips, args.draws, args.seed)
    print(
        f"{args.clips:,} clips: {found['read_mb']:.0f} MB after reading ({found['read_seconds']:.1f} s, peak "
        f"{found['peak_mb']:.0f} MB), {found['drawn_mb']:.0f} MB after {args.draws:,} items, "
        f"{found['draw_microseconds']:.0f} µs an item"
    )
    if args.out:
        files.write_json(args.out, found)


if __name__ == "__main__":
    main()
