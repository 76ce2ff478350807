"""Adding sources at given levels: pure functions on arrays (paper, section III-C)."""

import numpy as np


def energy_ratio(source: np.ndarray, other: np.ndarray) -> float:
    """Factor that gives `other` the energy of `source`, kept in 0.02…50 as in the reference; both (time,)."""
    ratio = np.sqrt(np.mean(source**2) / max(float(np.mean(other**2)), 1e-10))
    return float(np.clip(ratio, 0.02, 50.0))


def scaled(
    sources: list[np.ndarray], levels_db: list[float] | None = None, match_energy: bool = True
) -> list[np.ndarray]:
    """Sources as they are in a mixture: the first as it is, the others at the levels that are asked for.

    Args:
      sources: each (time,).
      levels_db: level of each further source; 0 unless given.
      match_energy: levels are over the first's energy, as in the reference; otherwise over the source's own.
    """
    first, *others = sources
    levels = levels_db or [0.0] * len(others)
    ratios = [energy_ratio(first, other) if match_energy else 1.0 for other in others]
    return [first, *(o * r * 10 ** (level / 20) for o, r, level in zip(others, ratios, levels, strict=True))]


def add(sources: list[np.ndarray]) -> np.ndarray:
    """The sum of sources, each (time,), in float32."""
    return np.asarray(np.sum(sources, axis=0), np.float32)
