"""What all separators share: a waveform and a condition in, the waveform of what the condition describes out."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax import signal
from uss_jax.models.layers import NormFilm

LEAST_POWER = 1e-10  # of a clip: a softer one is not brought to level 1, so that gradients are finite in silence
LEAST_BIN_POWER = 1e-20  # of the mixture in a bin, where a mask is a quotient by it


class Separator(nn.Module):
    """Separates the sound that a condition describes from a mixture.

    Attributes:
      window, hop: of the spectrogram that masks are for, in samples.
      normalise_level: divide what the network sees by the clip's level, so that a gain on the input is the same gain
        on the output; off in the reference.
      film_scale: let the condition scale every normalised channel, too, where the paper only shifts them.
      momentum: of BatchNorm, as Linen counts it.
      axis_name: pmap axis over which BatchNorm statistics are synchronised, in training.
      dtype: that convolutions, linear layers and what lies between them compute in. Parameters, BatchNorm's
        statistics, spectra and masks are float32.
      rematerialise: compute the insides of the blocks a second time in the gradient rather than keep them: less
        memory for more time.
    """

    window: int = 2048
    hop: int = 320
    normalise_level: bool = False
    film_scale: bool = False
    momentum: float = 0.99
    axis_name: str | None = None
    dtype: Any = jnp.float32
    rematerialise: bool = False

    on_waveforms: ClassVar[bool] = False  # whether `masks` takes samples rather than magnitudes

    def __call__(self, mixture: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """Separates.

        Args:
          mixture: (batch, time), samples.
          condition: (batch, condition), from the query net.
          train: use and update batch statistics.

        Returns:
          The target's waveform, (batch, time).

        Raises:
          ValueError: these are not their shapes.
        """
        if mixture.ndim != 2 or condition.ndim != 2 or mixture.shape[0] != condition.shape[0]:
            shapes = f"{mixture.shape} and {condition.shape}"
            raise ValueError(f"expected a mixture (batch, time) and a condition (batch, size), got {shapes}")
        return self.separate(mixture, condition, train)

    def separate(self, mixture: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """What `__call__` does, once it has looked at the shapes."""
        raise NotImplementedError

    @property
    def time_multiple(self) -> int:
        """Frames that the network makes into one, so that a cut at such a multiple is seen as the whole is seen."""
        return 1

    @property
    def norm(self) -> Callable[..., NormFilm]:
        """Makes conditioned normalisations as this separator has them, of a `name` and, perhaps, an `activation`."""
        return functools.partial(NormFilm, self.momentum, self.axis_name, self.dtype, self.film_scale)


class SpectrumSeparator(Separator):
    """A separator that masks the mixture's spectrogram.

    Attributes:
      magnitude_power: exponent on the magnitude that the network sees; 1 in the reference. The mask multiplies the
        magnitude itself in any case.
    """

    magnitude_power: float = 1.0

    def separate(self, mixture: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """What the mask lets through."""
        spectrum = signal.stft(mixture, self.window, self.hop)
        mask = self.masks(signal.magnitude(spectrum), condition, train)
        return signal.istft(spectrum * mask, self.window, self.hop, mixture.shape[-1])

    def masks(self, magnitude: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """Complex masks of any number of frames: (batch, frames, bins), (batch, condition) → (batch, frames, bins)."""
        raise NotImplementedError

    def seen(self, magnitude: jax.Array) -> jax.Array:
        """The magnitudes as the network is to see them: (batch, frames, bins) → the same shape."""
        if self.normalise_level:
            magnitude = magnitude / jnp.mean(magnitude, axis=(1, 2), keepdims=True)
        return magnitude**self.magnitude_power if self.magnitude_power != 1.0 else magnitude


class WaveformSeparator(Separator):
    """A separator that looks at samples. Its level of a clip is the root of the mean square."""

    on_waveforms: ClassVar[bool] = True

    def separate(self, mixture: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """The estimate at the clip's own level."""
        if not self.normalise_level:
            return self.estimate(mixture, condition, train)
        level = jnp.sqrt(jnp.maximum(jnp.mean(mixture**2, axis=-1, keepdims=True), LEAST_POWER))
        return level * self.estimate(mixture / level, condition, train)

    def estimate(self, mixture: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """The network proper: (batch, time), (batch, condition) → (batch, time)."""
        raise NotImplementedError

    def masks(self, samples: jax.Array, condition: jax.Array) -> jax.Array:
        """The masks that make the mixture's spectrogram the estimate's, where that is no more than the mixture.

        Args:
          samples: (batch, (frames − 1)·hop + window).
          condition: (batch, condition).

        Returns:
          (batch, frames, bins), complex, of magnitude 1 at most; 0 where the mixture is 0.
        """
        estimate = self.separate(samples, condition, train=False)
        wanted, given = (signal.spectra(x, self.window, self.hop) for x in (estimate, samples))
        mask = wanted * given.conj() / jnp.maximum(given.real**2 + given.imag**2, LEAST_BIN_POWER)
        return mask / jnp.maximum(1.0, jnp.abs(mask))
