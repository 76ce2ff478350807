"""Cutting a recording into overlapping blocks, and joining blocks without clicks."""

import numpy as np


def block_count(samples: int, length: int, overlap: int) -> int:
    """How many blocks cover a recording."""
    return max(1, -(-(samples - overlap) // (length - overlap)))


def split(samples: np.ndarray, length: int, overlap: int) -> np.ndarray:
    """Cuts into blocks, the last padded with zeros: (time,) → (blocks, length).

    Args:
      samples: (time,).
      length: of a block.
      overlap: samples that neighbours share, at most length // 2; 0 is the reference's hard cut.
    """
    hop = length - overlap
    count = block_count(len(samples), length, overlap)
    padded = np.pad(samples, (0, count * hop + overlap - len(samples)))
    return np.stack([padded[i * hop : i * hop + length] for i in range(count)])


def join(blocks: np.ndarray, overlap: int, samples: int) -> np.ndarray:
    """Inverse of `split`: neighbours are cross-faded linearly where they overlap; (blocks, length) → (samples,)."""
    count, length = blocks.shape
    hop = length - overlap
    rise = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    total = np.zeros(count * hop + overlap, np.float32)
    for i, block in enumerate(blocks):
        weight = np.ones(length, np.float32)
        if i > 0:
            weight[:overlap] = rise
        if i < count - 1:
            weight[hop:] = rise[::-1]
        total[i * hop : i * hop + length] += weight * block
    return total[:samples]


def spans(active: np.ndarray, length: int, overlap: int, samples: int) -> list[tuple[int, int, int, int]]:
    """Runs of active blocks.

    Args:
      active: (blocks,), bool.
      length, overlap, samples: as in `split`.

    Returns:
      For each run: first block, one past the last, first sample, one past the last. Where a neighbour overlaps, a run
      ends in the middle of the cross-fade.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    hop = length - overlap
    runs = []
    for first, last in edges.reshape(-1, 2):
        onset = 0 if first == 0 else first * hop + overlap // 2
        offset = samples if last == len(active) else last * hop + overlap // 2
        runs.append((int(first), int(last), int(onset), min(int(offset), samples)))
    return runs
