"""Short-time spectra as pure functions of JAX arrays, equal to those of torchlibrosa (which the reference uses)."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np


def frame_count(samples: int, hop: int) -> int:
    """How many centred frames `stft` makes of so many samples."""
    return samples // hop + 1


@functools.cache
def hann(window: int) -> np.ndarray:
    """Periodic Hann window: (window,), float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


def frames(audio: jax.Array, window: int, hop: int) -> jax.Array:
    """Cuts overlapping frames: (..., time) → (..., frames, window), the first at sample 0, each `hop` later."""
    count = (audio.shape[-1] - window) // hop + 1
    chunks = -(-window // hop)
    length = (count + chunks - 1) * hop
    audio = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, max(0, length - audio.shape[-1]))])[..., :length]
    # A frame is `chunks` neighbouring stretches of one hop each: slices and a concatenation, where a gather is slow.
    stretches = audio.reshape(*audio.shape[:-1], -1, hop)
    return jnp.concatenate([stretches[..., i : i + count, :] for i in range(chunks)], axis=-1)[..., :window]


def overlap_add(framed: jax.Array, hop: int) -> jax.Array:
    """Transpose of `frames`: (..., frames, window) → (..., (frames − 1)·hop + window), overlaps summed."""
    count, window = framed.shape[-2:]
    chunks = -(-window // hop)
    lead = [(0, 0)] * (framed.ndim - 2)
    framed = jnp.pad(framed, [*lead, (0, 0), (0, chunks * hop - window)])
    stretches = framed.reshape(*framed.shape[:-1], chunks, hop)
    shifted = [jnp.pad(stretches[..., i, :], [*lead, (i, chunks - 1 - i), (0, 0)]) for i in range(chunks)]
    total = functools.reduce(jnp.add, shifted)
    return total.reshape(*total.shape[:-2], -1)[..., : (count - 1) * hop + window]


def stft(audio: jax.Array, window: int, hop: int) -> jax.Array:
    """Centred short-time Fourier transform, reflect-padded, periodic Hann window.

    Args:
      audio: (..., time), at least window // 2 + 1 samples.
      window: samples per frame, even.
      hop: samples between frames.

    Returns:
      (..., time // hop + 1, window // 2 + 1), complex64.

    Raises:
      ValueError: the audio is too short to be reflected.
    """
    if audio.shape[-1] <= window // 2:
        raise ValueError(f"stft: {audio.shape[-1]} samples, but a window of {window} needs at least {window // 2 + 1}")
    pad = [(0, 0)] * (audio.ndim - 1) + [(window // 2, window // 2)]
    return jnp.fft.rfft(frames(jnp.pad(audio, pad, mode="reflect"), window, hop) * hann(window))


def istft(spectrum: jax.Array, window: int, hop: int, length: int) -> jax.Array:
    """Inverse of `stft`: (..., frames, window // 2 + 1) → (..., length).

    Overlapping frames are weighted by the window and divided by the summed squared window, so that
    `istft(stft(x)) == x` wherever a frame covers the sample.
    """
    audio = overlap_add(jnp.fft.irfft(spectrum, n=window) * hann(window), hop)
    weight = overlap_add(jnp.broadcast_to(hann(window) ** 2, (spectrum.shape[-2], window)), hop)
    audio = audio / jnp.maximum(weight, 1e-11)
    audio = audio[..., window // 2 : window // 2 + length]
    return jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, length - audio.shape[-1])])


def magnitude(spectrum: jax.Array, least_power: float = 1e-10) -> jax.Array:
    """|X|, its square kept above `least_power` as in the reference, so that its gradient is finite in silence."""
    return jnp.sqrt(jnp.maximum(spectrum.real**2 + spectrum.imag**2, least_power))


@functools.cache
def mel_filters(sample_rate_hz: int, window: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Slaney mel filters: (window // 2 + 1, bands), float32."""
    return librosa.filters.mel(sr=sample_rate_hz, n_fft=window, n_mels=bands, fmin=low_hz, fmax=high_hz).T


def log_mel(
    audio: jax.Array, *, sample_rate_hz: int, window: int, hop: int, bands: int, low_hz: float, high_hz: float
) -> jax.Array:
    """Log-mel power spectrogram in dB (PANNs front end): (..., time) → (..., time // hop + 1, bands)."""
    spectrum = stft(audio, window, hop)
    power = spectrum.real**2 + spectrum.imag**2
    filters = mel_filters(sample_rate_hz, window, bands, low_hz, high_hz)
    mel = jnp.matmul(power, filters, precision="float32")  # whatever the rest is computed in
    return 10.0 * jnp.log10(jnp.maximum(mel, 1e-10))
