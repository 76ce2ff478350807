"""Short-time spectra as pure functions of JAX arrays, equal to those of torchlibrosa (which the reference uses)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Slaney's mel scale: linear below 1 kHz, 15 mels; logarithmic above, 27 mels for a factor of 6.4.
LINEAR_HZ_PER_MEL = 200.0 / 3.0
LOG_FROM_HZ = 1000.0
LOG_FROM_MEL = LOG_FROM_HZ / LINEAR_HZ_PER_MEL
LOG_STEP = np.log(6.4) / 27.0


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
    return spectra(jnp.pad(audio, pad, mode="reflect"), window, hop)


def spectra(audio: jax.Array, window: int, hop: int) -> jax.Array:
    """Spectra of the windows that fit: (..., time) → (..., (time − window) // hop + 1, window // 2 + 1), complex64."""
    return jnp.fft.rfft(frames(audio, window, hop) * hann(window))


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


def resynthesis(spectrum: jax.Array, window: int, hop: int) -> jax.Array:
    """The part of a signal that some of its frames make up.

    Those of neighbouring frames add up to the signal, so that a long one can be made piece by piece.

    Args:
      spectrum: (..., frames, window // 2 + 1), of `spectra`.
      window, hop: of them; the hop at most half the window.

    Returns:
      (..., (frames − 1)·hop + window).
    """
    chunks = -(-window // hop)
    squares = np.pad(hann(window) ** 2, (0, chunks * hop - window)).reshape(chunks, hop).sum(axis=0)
    # What all frames that cover a sample weigh: with this phase, whichever of them are here.
    weight = np.tile(squares, spectrum.shape[-2] + chunks)[: (spectrum.shape[-2] - 1) * hop + window]
    return overlap_add(jnp.fft.irfft(spectrum, n=window) * hann(window), hop) / weight


def magnitude(spectrum: jax.Array, least_power: float = 1e-10) -> jax.Array:
    """|X|, its square kept above `least_power` as in the reference, so that its gradient is finite in silence."""
    return jnp.sqrt(jnp.maximum(spectrum.real**2 + spectrum.imag**2, least_power))


def mel_of_hz(hz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale; the shape of the input."""
    return np.where(
        hz < LOG_FROM_HZ,
        hz / LINEAR_HZ_PER_MEL,
        LOG_FROM_MEL + np.log(np.maximum(hz, LOG_FROM_HZ) / LOG_FROM_HZ) / LOG_STEP,
    )


def hz_of_mel(mel: np.ndarray) -> np.ndarray:
    """Inverse of `mel_of_hz`."""
    return np.where(mel < LOG_FROM_MEL, LINEAR_HZ_PER_MEL * mel, LOG_FROM_HZ * np.exp(LOG_STEP * (mel - LOG_FROM_MEL)))


@functools.cache
def mel_filters(sample_rate_hz: int, window: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Slaney mel filters: (window // 2 + 1, bands), float32; triangles of equal area.

    To the bit those of `librosa.filters.mel`, which takes a second to import.
    """
    low_mel, high_mel = mel_of_hz(np.array([low_hz, high_hz]))
    edges_hz = hz_of_mel(np.linspace(low_mel, high_mel, bands + 2))[:, None]
    above_edge_hz = np.fft.rfftfreq(window, 1.0 / sample_rate_hz) - edges_hz
    width_hz = np.diff(edges_hz, axis=0)
    rising, falling = above_edge_hz[:-2] / width_hz[:-1], -above_edge_hz[2:] / width_hz[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return (triangles * (2.0 / (edges_hz[2:] - edges_hz[:-2]))).astype(np.float32).T


def log_mel(
    audio: jax.Array, *, sample_rate_hz: int, window: int, hop: int, bands: int, low_hz: float, high_hz: float
) -> jax.Array:
    """Log-mel power spectrogram in dB (PANNs front end): (..., time) → (..., time // hop + 1, bands)."""
    spectrum = stft(audio, window, hop)
    power = spectrum.real**2 + spectrum.imag**2
    filters = mel_filters(sample_rate_hz, window, bands, low_hz, high_hz)
    mel = jnp.matmul(power, filters, precision="float32")  # whatever the rest is computed in
    return 10.0 * jnp.log10(jnp.maximum(mel, 1e-10))
