"""How far there is to go: what a mask that knows the truth would reach."""

import librosa
import numpy as np

WINDOW = 2048
HOP = 512


def ideal_ratio_mask(mixture: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The mixture through the ideal ratio mask |S|² / (|S|² + |M − S|²), its phase unchanged.

    Args:
      mixture: (time,) or (time, channels).
      source: the same shape; everything else in the mixture is the noise.

    Returns:
      The same shape, float32.
    """
    mixed, target = (librosa.stft(x.T, n_fft=WINDOW, hop_length=HOP) for x in (mixture, source))
    wanted, rest = np.abs(target) ** 2, np.abs(mixed - target) ** 2
    mask = wanted / np.maximum(wanted + rest, np.finfo(np.float32).tiny)
    return librosa.istft(mask * mixed, hop_length=HOP, n_fft=WINDOW, length=len(mixture)).T.astype(np.float32)
