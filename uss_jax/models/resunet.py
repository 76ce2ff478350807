"""The separator: a residual U-Net on magnitude spectrograms, conditioned by additive FiLM (paper, section III-E).

With its default fields this is the reference's ResUNet30; a smaller sibling is the same module with other fields.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax import signal
from uss_jax.models.layers import Upsample, average_pool, batch_norm, conv, dense, fold, unfold

SLOPE = 0.01  # of every leaky ReLU


class NormFilm(nn.Module):
    """leaky_relu(BatchNorm(x) + b), where b is a linear map of the condition: FiLM with a shift and no scale."""

    momentum: float
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """(batch, time, frequency, channels) and (batch, condition) → the first's shape."""
        shift = dense(x.shape[-1], dtype=self.dtype, name="film")(condition)
        x = batch_norm(train, self.momentum, self.axis_name, "bn", self.dtype)(x)
        return nn.leaky_relu(x + shift[:, None, None, :], SLOPE)


class ResidualBlock(nn.Module):
    """Two normalised, conditioned 3×3 convolutions, added to their input."""

    features: int
    momentum: float
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """(batch, time, frequency, channels) → (batch, time, frequency, features)."""
        y = NormFilm(self.momentum, self.axis_name, self.dtype, name="norm1")(x, condition, train)
        y = conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, name="conv1")(y)
        y = NormFilm(self.momentum, self.axis_name, self.dtype, name="norm2")(y, condition, train)
        y = conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, name="conv2")(y)
        if x.shape[-1] != self.features:
            x = conv(self.features, (1, 1), use_bias=True, dtype=self.dtype, name="shortcut")(x)
        return x + y


class ResUNet(nn.Module):
    """Separates the sound that a condition describes from a mixture.

    Attributes:
      window, hop: of the spectrogram, in samples.
      widths: channels of each encoder level; the middle block has the last width.
      strides: (time, frequency) pooling after each encoder level.
      patch: (time, frequency) patches folded into channels before the first level; (1, 1) in the reference.
      magnitude_power: exponent on the magnitude that the network sees; 1 in the reference. The mask multiplies the
        magnitude itself in any case.
      normalise_level: divide what the network sees by the clip's mean magnitude, so that a gain on the input is the
        same gain on the output; off in the reference.
      momentum: of BatchNorm, as Linen counts it.
      axis_name: pmap axis over which BatchNorm statistics are synchronised, in training.
      dtype: that convolutions, linear layers and what lies between them compute in. Parameters, BatchNorm's
        statistics, spectra and masks are float32.
      rematerialise: compute the insides of the residual blocks a second time in the gradient rather than keep them:
        less memory for more time.
    """

    window: int = 2048
    hop: int = 320
    widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    strides: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (1, 2))
    patch: tuple[int, int] = (1, 1)
    magnitude_power: float = 1.0
    normalise_level: bool = False
    momentum: float = 0.99
    axis_name: str | None = None
    dtype: Any = jnp.float32
    rematerialise: bool = False

    def __call__(self, mixture: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """Separates.

        Args:
          mixture: (batch, time), samples.
          condition: (batch, condition), from the query net.
          train: use and update batch statistics.

        Returns:
          The target's waveform, (batch, time).
        """
        if mixture.ndim != 2 or condition.ndim != 2 or mixture.shape[0] != condition.shape[0]:
            shapes = f"{mixture.shape} and {condition.shape}"
            raise ValueError(f"expected a mixture (batch, time) and a condition (batch, size), got {shapes}")
        if len(self.widths) != len(self.strides):
            raise ValueError(f"{len(self.widths)} widths, but {len(self.strides)} strides: each level needs both")
        spectrum = signal.stft(mixture, self.window, self.hop)
        mask = complex_mask(self.mask_maps(signal.magnitude(spectrum), condition, train))
        return signal.istft(spectrum * mask, self.window, self.hop, mixture.shape[-1])

    @property
    def time_multiple(self) -> int:
        """Frames that are folded and pooled into one at the deepest level."""
        return self.patch[0] * math.prod(stride[0] for stride in self.strides)

    def masks(self, magnitude: jax.Array, condition: jax.Array) -> jax.Array:
        """Complex masks of any number of frames: (batch, frames, bins), (batch, condition) → (batch, frames, bins)."""
        return complex_mask(self.mask_maps(magnitude, condition, train=False))

    @nn.compact
    def mask_maps(self, magnitude: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """The network proper: (batch, frames, bins) → (batch, frames, bins, 3) maps of magnitude, cos and sin."""
        x = magnitude
        if self.normalise_level:
            x = x / jnp.mean(x, axis=(1, 2), keepdims=True)
        if self.magnitude_power != 1.0:
            x = x**self.magnitude_power
        x = batch_norm(train, self.momentum, self.axis_name, "bn0")(x).astype(self.dtype)

        count, bins = x.shape[1:]
        x = jnp.pad(x, [(0, 0), (0, -count % self.time_multiple), (0, 0)])
        x = fold(x[:, :, : bins - 1, None], self.patch)  # without the last bin frequency divides evenly
        x = conv(self.widths[0], (1, 1), use_bias=True, dtype=self.dtype, name="pre_conv")(x)

        block_class = nn.remat(ResidualBlock, static_argnums=(3,)) if self.rematerialise else ResidualBlock  # 3: train

        def block(features: int, name: str) -> ResidualBlock:
            return block_class(features, self.momentum, self.axis_name, self.dtype, name=name)

        skips = []
        for level, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            x = block(width, f"encoder{level}")(x, condition, train)
            skips.append(x)
            x = average_pool(x, stride)
        x = block(self.widths[-1], "middle")(x, condition, train)
        for level in reversed(range(len(self.widths))):
            width, stride = self.widths[level], self.strides[level]
            x = NormFilm(self.momentum, self.axis_name, self.dtype, name=f"up_norm{level}")(x, condition, train)
            x = Upsample(width, stride, self.dtype, name=f"up{level}")(x)
            x = jnp.concatenate([x, skips[level]], axis=-1)
            x = block(width, f"decoder{level}")(x, condition, train)

        maps = conv(3 * self.patch[0] * self.patch[1], (1, 1), use_bias=True, dtype=self.dtype, name="after_conv")(x)
        maps = unfold(maps.astype(jnp.float32), self.patch)[:, :count]
        return jnp.pad(maps, [(0, 0), (0, 0), (0, bins - maps.shape[2]), (0, 0)])


def complex_mask(maps: jax.Array) -> jax.Array:
    """What each bin of the spectrogram is multiplied with, so that it is scaled and rotated.

    Args:
      maps: (batch, frames, bins, 3): the mask's magnitude is the sigmoid of the first; its phase is the direction of
        the tanh of the other two.

    Returns:
      (batch, frames, bins), complex.
    """
    scale = nn.sigmoid(maps[..., 0])
    real, imag = jnp.tanh(maps[..., 1]), jnp.tanh(maps[..., 2])
    scale = scale / jnp.sqrt(jnp.maximum(real**2 + imag**2, 1e-20))
    return jax.lax.complex(scale * real, scale * imag)
