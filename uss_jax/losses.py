"""Losses of separation, on waveforms; each is a mean over the batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from uss_jax import signal


def l1(estimate: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute error (paper, equation 8); both (batch, time)."""
    return jnp.mean(jnp.abs(estimate - target))


def l1_spectrogram(estimate: jax.Array, target: jax.Array) -> jax.Array:
    """`l1` plus the mean absolute error of magnitude spectrograms (window 2048, hop 320), the reference's option."""
    spectra = [signal.magnitude(signal.stft(x, 2048, 320), 1e-8) for x in (estimate, target)]
    return l1(estimate, target) + jnp.mean(jnp.abs(spectra[0] - spectra[1]))


def negative_sdr(estimate: jax.Array, target: jax.Array) -> jax.Array:
    """Minus the signal-to-distortion ratio in dB, which every example counts alike in, loud or soft.

    It stops to reward at 30 dB, so that examples that are solved do not outweigh the others.
    """
    energy = jnp.mean(target**2, axis=-1)
    error = jnp.mean((estimate - target) ** 2, axis=-1)
    return jnp.mean(10.0 * jnp.log10((error + 1e-3 * energy + 1e-8) / (energy + 1e-8)))


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "l1": l1,
    "l1_spectrogram": l1_spectrogram,
    "negative_sdr": negative_sdr,
}
