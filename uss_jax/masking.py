"""From samples to what the mask network sees, and from masks back to samples: pure functions on blocks of a `Grid`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from uss_jax import signal
from uss_jax.blocks import Grid

BAND_TOP = (0.84, 0.91)  # of half the lower rate: the highest bins that resampling leaves whole


@functools.partial(jax.jit, static_argnames="grid")
def spectra(samples: jax.Array, grid: Grid) -> jax.Array:
    """Spectrograms of blocks, without the margin that only their level is taken from.

    Args:
      samples: (blocks, grid.samples).
      grid: that they lie on.

    Returns:
      (blocks, grid.frames, bins), complex.
    """
    return signal.spectra(_inner(samples, grid), grid.window, grid.hop)


def _inner(samples: jax.Array, grid: Grid) -> jax.Array:
    margin = grid.level_frames * grid.hop
    return samples[:, margin : samples.shape[1] - margin]


@functools.partial(jax.jit, static_argnames="grid")
def seen(samples: jax.Array, exists: jax.Array, grid: Grid) -> jax.Array:
    """The magnitudes that the mask network sees of blocks.

    A network that wants its input of one level (`normalise_level`) gets each frame divided by the mean magnitude of
    the frames about it, over as long as its training segments were: so a block's place does not matter.

    Args:
      samples: (blocks, grid.samples).
      exists: (blocks, frames), 1 where a frame is one of the recording, 0 before and after it.
      grid: that they lie on.

    Returns:
      (blocks, grid.frames, bins).
    """
    if not grid.level_frames:
        return signal.magnitude(spectra(samples, grid))
    magnitude = signal.magnitude(signal.spectra(samples, grid.window, grid.hop))

    def around(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2 * grid.level_frames + 1), (1, 1), "valid")

    level = around(magnitude.mean(axis=-1) * exists) / jnp.maximum(around(exists), 1.0)
    inner = magnitude[:, grid.level_frames : magnitude.shape[1] - grid.level_frames]
    # Outside of the recording a block may have no frame about it: any level does, for nothing of it is kept.
    return inner / jnp.where(level > 0.0, level, 1.0)[:, :, None]


@functools.partial(jax.jit, static_argnames="grid")
def resynthesise(spectrum: jax.Array, masks: jax.Array, weights: jax.Array, grid: Grid) -> jax.Array:
    """What the masks let through: samples of each block's frames, to be added to its neighbours'.

    Args:
      spectrum, masks: (blocks, grid.frames, bins), complex.
      weights: (blocks, grid.frames), how much of the mask counts.
      grid: that they lie on.

    Returns:
      (blocks, (grid.frames − 1)·hop + window).
    """
    return signal.resynthesis(spectrum * masks * weights[:, :, None], grid.window, grid.hop)


def top_gain(mask: np.ndarray, weights: np.ndarray, sample_rate_hz: int, model_rate_hz: int) -> np.ndarray:
    """The gain of what lies above the model's band: the mean of the mask at the top of the band.

    Its real part, so that gains of masks that add up to one add up to one.

    Args:
      mask: (frames, bins), complex.
      weights: (frames,).
      sample_rate_hz: of the recording.
      model_rate_hz: of the mask.

    Returns:
      (frames,).
    """
    nyquist_bins = (mask.shape[1] - 1) * min(1.0, sample_rate_hz / model_rate_hz)
    first, last = (int(share * nyquist_bins) for share in BAND_TOP)
    return mask[:, first : last + 1].real.mean(axis=1) * weights
