"""How good a separation is: pure functions on arrays."""

import numpy as np

EPS = 1e-10  # on mean energies, as in the reference


def sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Signal-to-distortion ratio in dB, 10·log10(mean ref² / mean (est − ref)²): (..., time) twice → (...).

    Raises:
      ValueError: the shapes differ.
    """
    if reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} differ in shape")
    reference, estimate = reference.astype(np.float64), estimate.astype(np.float64)
    signal = np.mean(reference**2, axis=-1)
    noise = np.mean((estimate - reference) ** 2, axis=-1)
    return 10.0 * np.log10(np.maximum(signal, EPS) / np.maximum(noise, EPS))


def sdr_improvement(reference: np.ndarray, estimate: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SDRi in dB: how much closer the estimate is to the reference than the mixture was; (..., time) → (...)."""
    return sdr(reference, estimate) - sdr(reference, mixture)


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean precision at the places of the true items: (items,) bool and (items,) → 0…1; ties rank against the truth."""
    order = np.lexsort((truth, -score))
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
