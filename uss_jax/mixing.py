"""Adding sources at given levels: pure functions on arrays (paper, section III-C)."""

import numpy as np


def energy_ratio(source: np.ndarray, other: np.ndarray) -> float:
    """Factor that gives `other` the energy of `source`, kept in 0.02…50 as in the reference; both (time,)."""
    ratio = np.sqrt(np.mean(source**2) / max(float(np.mean(other**2)), 1e-10))
    return float(np.clip(ratio, 0.02, 50.0))


def mix(sources: list[np.ndarray], levels_db: list[float] | None = None) -> np.ndarray:
    """Adds sources, each rescaled to the energy of the first.

    Args:
      sources: each (time,).
      levels_db: level of each further source over the first; 0 unless given.

    Returns:
      The mixture, (time,).
    """
    first, *others = sources
    levels = levels_db or [0.0] * len(others)
    scaled = [
        other * energy_ratio(first, other) * 10 ** (level / 20) for other, level in zip(others, levels, strict=True)
    ]
    return np.asarray(np.sum([first, *scaled], axis=0), np.float32)
