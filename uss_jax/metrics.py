"""How good a separation is: pure functions on arrays."""

import numpy as np

EPS = 1e-10  # on mean energies, as in the reference


def sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Signal-to-distortion ratio in dB, 10·log10(mean ref² / mean (est − ref)²): (..., time) twice → (...).

    Raises:
      ValueError: the shapes differ.
    """
    reference, estimate = _doubles(reference, estimate)
    return _decibels(reference, estimate - reference)


def sdr_improvement(reference: np.ndarray, estimate: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """SDRi in dB: how much closer the estimate is to the reference than the mixture was; (..., time) → (...)."""
    return sdr(reference, estimate) - sdr(reference, mixture)


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Scale-invariant SDR in dB: that of the estimate's part along the reference; (..., time) twice → (...).

    No mean is removed (Le Roux et al., "SDR – half-baked or well done?"). A silent estimate has 0 dB, as it has by
    `sdr`, and so has any of a silent reference; the definition gives 0/0.

    Raises:
      ValueError: the shapes differ.
    """
    reference, estimate = _doubles(reference, estimate)
    energy = np.mean(reference**2, axis=-1)
    own = np.mean(estimate**2, axis=-1)
    estimate = estimate * np.sqrt(energy / np.where(own > 0, own, 1.0))[..., None]  # so that EPS means the same for all
    scale = np.mean(reference * estimate, axis=-1) / np.maximum(energy, EPS)
    target = scale[..., None] * reference
    return _decibels(target, estimate - target)


def _doubles(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape} differ in shape")
    return reference.astype(np.float64), estimate.astype(np.float64)


def _decibels(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Ratio of their mean energies: (..., time) twice → (...)."""
    energies = (np.maximum(np.mean(x**2, axis=-1), EPS) for x in (signal, noise))
    return 10.0 * np.log10(np.divide(*energies))


def bss_eval_sdr(references: np.ndarray, estimates: np.ndarray, frame_samples: int) -> np.ndarray:
    """SDR of BSS Eval v4 (museval) in frames side by side: that of all channels together.

    Its distortion filters change ISR, SIR and SAR; the SDR does not depend on them, and is computed here without. As
    in museval, a frame in which one of the references is silent is NaN for all, and a last part frame is left out. A
    frame of an estimate that is silent has 0 dB here; museval leaves it out, which rewards silence. No frame has more
    than 100 dB.

    Args:
      references: (sources, time, channels), the true sources of one mixture.
      estimates: the same shape.
      frame_samples: museval's default is one second.

    Returns:
      (sources, frames), in dB; one frame of the whole length where that is shorter.

    Raises:
      ValueError: the shapes differ.
    """
    if references.shape != estimates.shape:
        raise ValueError(f"references {references.shape} and estimates {estimates.shape} differ in shape")
    frame = min(frame_samples, references.shape[1])
    count = references.shape[1] // frame

    def energy(samples: np.ndarray) -> np.ndarray:
        framed = samples[: count * frame].reshape(count, -1)
        return np.sum(np.square(framed, dtype=np.float64), axis=-1)

    signal = np.stack([energy(reference) for reference in references])
    noise = np.stack([energy(e.astype(np.float64) - r) for r, e in zip(references, estimates, strict=True)])
    signal = np.where((signal > 0).all(axis=0), signal, np.nan)
    return 10.0 * np.log10(signal / np.maximum(noise, EPS * signal))


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean precision at the places of the true items: (items,) bool and (items,) → 0…1; ties rank against the truth."""
    order = np.lexsort((truth, -score))
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
