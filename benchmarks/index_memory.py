"""Memory and time of the index and the sampler at AudioSet's size, on a simulated index.

    python benchmarks/index_memory.py --clips=2000000 --draws=20000 --out=index.json

Writes the index and the anchors of so many clips, labelled as in `synthetic_audioset.py` (527 classes, long-tailed,
2.7 labels a clip), into a temporary folder, in the real format and without audio: the splits `train` (1 % of them) and
`unbalanced`. A fresh process reads their sum as training does (`Clips`, `load_anchors`, `MixtureSource`) and draws
consecutive items: what is mixed, without its audio. Another one unpickles that source from bytes which it keeps, as a
reading worker of Grain does, and draws as many.

Printed for both: how much more memory the process holds than when it had imported the same modules (after reading,
and after drawing), the peak on the way, seconds to read, and microseconds to draw an item. Linux only.
"""

import argparse
import gc
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import synthetic_audioset
from children import children

from uss_jax import anchors, dataset, files, mixtures, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips

CHUNK_CLIPS = 10_000
CLIP_SAMPLES, SEGMENT_SAMPLES = 10 * SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ
SPLIT_SHARES = {"train": 0.01, "unbalanced": 0.99}


def write_index(folder: Path, split: str, clips: int, seed: int) -> None:
    """Writes the index of a dataset's split, its anchors beside it, and no audio."""
    weights = synthetic_audioset.class_weights(seed)
    random = np.random.default_rng((seed, 5, clips))
    chunks = range(0, clips, CHUNK_CLIPS)
    labels = []
    for first in progress.track(chunks, f"labelling {split}", len(chunks)):
        labels += synthetic_audioset.draw_labels(random, min(CHUNK_CLIPS, clips - first), weights)
    files.write_json(folder / "dataset_info.json", {})
    dataset.write_index(
        folder,
        split,
        clip_ids=np.char.mod("Y%011d", np.arange(clips)),
        samples=np.full(clips, CLIP_SAMPLES),
        label_counts=np.array(list(map(len, labels))),
        labels=np.concatenate([np.sort(of_clip) for of_clip in labels]),
    )
    stored = Clips(folder, split)
    pairs = len(stored.label_pairs()[1])
    start = random.integers(0, CLIP_SAMPLES - SEGMENT_SAMPLES, pairs)
    mined = anchors.Anchors.of_pairs(stored, start, random.random(pairs))
    mined.save(anchors.anchors_path(folder, split), stored)


def read(folder: Path, seed: int) -> mixtures.MixtureSource:
    """The source of both splits, as training makes it."""
    clips = Clips(folder, "+".join(SPLIT_SHARES))
    return mixtures.MixtureSource(
        clips,
        anchors.load_anchors(folder, clips).at_least(0.0),
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


def held_memory() -> int:
    """Bytes of memory that this process holds; what lies in its arrays is its own."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Begins `peak_memory` anew: without it, the peak is that of the imports."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most bytes that this process has held at a time since `forget_peak`."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main_process(folder: Path, seed: int) -> Callable[[int, Path], dict[str, float]]:
    """A function (items to be drawn, file for the pickled source) → what training's main process takes."""
    measured = _measured(lambda: read(folder, seed))

    def draw(items: int, pickled: Path) -> dict[str, float]:
        source, found = measured(items)
        with pickled.open("wb") as file:
            pickle.dump(source, file)
        return found | {"pickle_mb": pickled.stat().st_size / 1e6}

    return draw


def worker_process(pickled: Path) -> Callable[[int], dict[str, float]]:
    """A function (items to be drawn) → what a reading worker takes."""
    kept = []  # Grain hands over the bytes as an argument, which a process keeps

    def unpickle() -> mixtures.MixtureSource:
        kept.append(pickled.read_bytes())
        return pickle.loads(kept[0])

    measured = _measured(unpickle)

    def draw(items: int) -> dict[str, float]:
        return measured(items)[1] | {"pickle_mb": len(kept[0]) / 1e6}

    return draw


def _measured(
    make: Callable[[], mixtures.MixtureSource],
) -> Callable[[int], tuple[mixtures.MixtureSource, dict[str, float]]]:
    """Makes a source; a function (items to be drawn) → it, and what both took, in MB (10⁶ bytes) and seconds."""
    resting = held_memory()
    forget_peak()
    begun = time.perf_counter()
    source = make()
    read_seconds, peak, read = time.perf_counter() - begun, peak_memory(), held_memory()

    def draw(items: int) -> tuple[mixtures.MixtureSource, dict[str, float]]:
        begun = time.perf_counter()
        for index in range(items):
            source.choose(index)
        seconds = time.perf_counter() - begun
        return source, {
            "read_mb": (read - resting) / 1e6,
            "peak_mb": (peak - resting) / 1e6,
            "read_seconds": read_seconds,
            "drawn_mb": (held_memory() - resting) / 1e6,
            "draw_microseconds": 1e6 * seconds / items,
        }

    return draw


def measure(clips: int, draws: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """What the index and the sampler of so many clips take, in each process; see the module's docstring."""
    with tempfile.TemporaryDirectory() as name, children() as start:
        folder = Path(name)
        for split, share in SPLIT_SHARES.items():
            write_index(folder, split, round(share * clips), seed)
        main = start(main_process, folder, seed)(draws, folder / "source")
        return {"main": main, "worker": start(worker_process, folder / "source")(draws)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2_000_000)
    parser.add_argument("--draws", type=int, default=20_000, help="items that are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    found = measure(args.clips, args.draws, args.seed)
    for process, of in found.items():
        print(
            f"{process}, {args.clips:,} clips: {of['read_mb']:.0f} MB after reading ({of['read_seconds']:.1f} s, peak "
            f"{of['peak_mb']:.0f} MB), {of['drawn_mb']:.0f} MB after {args.draws:,} items, "
            f"{of['draw_microseconds']:.0f} µs an item; pickled {of['pickle_mb']:.0f} MB"
        )
    if args.out:
        files.write_json(args.out, found)


if __name__ == "__main__":
    main()
