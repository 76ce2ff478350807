"""Mines the anchors of a whole dataset: a batch job over its clips."""

from pathlib import Path

import numpy as np

from uss_jax import anchors, audio, files, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.inference import Inference
from uss_jax.model_dir import Networks

BUCKET_SECONDS = 5.0  # clips are padded to a multiple of this, so that few shapes are compiled


def mine(clips: Clips, networks: Networks, batch_size: int = 8) -> anchors.Anchors:
    """Finds, for each clip and each of its labels, where the class sounds surest.

    Clips are run in batches of like length, padded with zeros; the padding is never part of an anchor, unless the clip
    is shorter than a segment.

    Raises:
      ValueError: the model has no tagger that hears when a class sounds.
    """
    if networks.sed is None:
        raise ValueError("anchors need a tagger with framewise output (cnn14_decision_level_max)")
    hop = networks.sed.hop
    segment_frames = networks.segment_samples // hop
    inference = Inference(networks, batch_size)
    bucket = int(BUCKET_SECONDS * SAMPLE_RATE_HZ)
    padded = np.maximum(1, -(-clips.samples // bucket)) * bucket
    order = np.argsort(padded, kind="stable")
    groups = [
        order[padded[order] == length][start : start + batch_size]
        for length in np.unique(padded)
        for start in range(0, int((padded == length).sum()), batch_size)
    ]
    found = []
    for group in progress.track(groups, "mining anchors", len(groups)):
        batch = np.stack([audio.fit_length(clips.audio(int(clip)), int(padded[clip])) for clip in group])
        for clip, probability in zip(group, inference.framewise(batch), strict=True):
            labels = clips.labels(int(clip))
            frames = int(clips.samples[clip]) // hop + 1
            start, confidence = anchors.find(probability[:frames, labels], segment_frames)
            found += [(clip, *row) for row in zip(labels, start * hop, confidence, strict=True)]
    if not found:
        raise ValueError(f"{clips.folder}: no clip of the split {clips.split!r} has a label")
    found.sort(key=lambda row: (row[0], row[1]))
    dtypes = (np.int32, np.int16, np.int32, np.float16)
    return anchors.Anchors(
        *(np.array(column, dtype) for column, dtype in zip(zip(*found, strict=True), dtypes, strict=True))
    )


def anchors_path(folder: str | Path, split: str) -> Path:
    """Where the anchors of a split are kept in a folder."""
    return Path(folder) / f"anchors-{split}.npz"


def load_anchors(folder: str | Path, clips: Clips) -> anchors.Anchors:
    """The anchors of a split that `mine_split` wrote; raises ValueError where there are none or they do not fit."""
    path = anchors_path(folder, clips.split)
    mined = anchors.Anchors.load(path)
    if not all(map(np.array_equal, (mined.clip, mined.label), clips.label_pairs())):
        raise ValueError(f"{path}: these anchors are of another dataset than {clips.folder}")
    return mined


def mine_split(dataset: Path, split: str, networks: Networks, out: Path) -> Path:
    """Mines one split of a dataset into `out`, with a note of what it was made from. Returns the anchors' file."""
    clips = Clips(dataset, split)
    mined = mine(clips, networks)
    mined.save(anchors_path(out, split))
    note = {
        "dataset": clips.folder.parent.name,
        "split": split,
        "model": networks.config["name"],
        "segment_seconds": networks.config["segment_seconds"],
        "anchors": len(mined.clip),
        "mean_confidence": float(np.mean(mined.confidence, dtype=np.float64)),
    }
    files.write_json(Path(out) / f"anchors-{split}.json", note)
    return anchors_path(out, split)
