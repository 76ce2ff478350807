"""A U-Net on magnitude spectrograms whose every normalisation the condition shifts (paper, section III-E).

What it is made of can be replaced: `uss_jax.models.resunet` has residual blocks in this one's stead.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax.models.layers import NormFilm, Upsample, average_pool, batch_norm, conv, fold, unfold
from uss_jax.models.separator import SpectrumSeparator


class ConvBlock(nn.Module):
    """Twice a 3×3 convolution, then normalised and conditioned; `norm` makes a `NormFilm` of a name."""

    features: int
    norm: Callable[..., NormFilm]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """(batch, time, frequency, channels) → (batch, time, frequency, features)."""
        for number in (1, 2):
            x = conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, name=f"conv{number}")(x)
            x = self.norm(name=f"norm{number}")(x, condition, train)
        return x


class UNet(SpectrumSeparator):
    """Encoder and decoder of convolutional blocks, with skip connections between their levels.

    Attributes:
      widths: channels of each encoder level; the middle has the last width.
      strides: (time, frequency) pooling after each encoder level.
      patch: (time, frequency) patches folded into channels before the first level; (1, 1) in the reference.
      blocks_per_level: blocks in each level of the encoder and of the decoder, and in the middle.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    strides: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (1, 2))
    patch: tuple[int, int] = (1, 1)
    blocks_per_level: int = 1

    block: ClassVar[type[nn.Module]] = ConvBlock  # of (features, norm, dtype)

    @property
    def time_multiple(self) -> int:
        """Frames that are folded and pooled into one at the deepest level."""
        return self.patch[0] * math.prod(stride[0] for stride in self.strides)

    def masks(self, magnitude: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """See `SpectrumSeparator`; of magnitude 1 at most."""
        return complex_mask(self.mask_maps(magnitude, condition, train))

    @nn.compact
    def mask_maps(self, magnitude: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """The network proper: (batch, frames, bins) → (batch, frames, bins, 3) maps of magnitude, cos and sin."""
        if len(self.widths) != len(self.strides):
            raise ValueError(f"{len(self.widths)} widths, but {len(self.strides)} strides: each level needs both")
        x = batch_norm(train, self.momentum, self.axis_name, "bn0")(self.seen(magnitude)).astype(self.dtype)

        count, bins = x.shape[1:]
        x = jnp.pad(x, [(0, 0), (0, -count % self.time_multiple), (0, 0)])
        x = fold(x[:, :, : bins - 1, None], self.patch)  # without the last bin frequency divides evenly
        x = conv(self.widths[0], (1, 1), use_bias=True, dtype=self.dtype, name="pre_conv")(x)

        block_class = nn.remat(self.block, static_argnums=(3,)) if self.rematerialise else self.block  # 3: train

        def blocks(x: jax.Array, features: int, name: str) -> jax.Array:
            for number in range(self.blocks_per_level):
                own_name = f"{name}_{number}" if number else name
                x = block_class(features, self.norm, self.dtype, name=own_name)(x, condition, train)
            return x

        skips = []
        for level, (width, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            x = blocks(x, width, f"encoder{level}")
            skips.append(x)
            x = average_pool(x, stride)
        x = blocks(x, self.widths[-1], "middle")
        for level in reversed(range(len(self.widths))):
            x = self.up(x, condition, train, level)
            x = jnp.concatenate([x, skips[level]], axis=-1)
            x = blocks(x, self.widths[level], f"decoder{level}")

        maps = conv(3 * self.patch[0] * self.patch[1], (1, 1), use_bias=True, dtype=self.dtype, name="after_conv")(x)
        maps = unfold(maps.astype(jnp.float32), self.patch)[:, :count]
        return jnp.pad(maps, [(0, 0), (0, 0), (0, bins - maps.shape[2]), (0, 0)])

    def up(self, x: jax.Array, condition: jax.Array, train: bool, level: int) -> jax.Array:
        """From below a level of the decoder up to it: (batch, time, frequency, channels), both more by its stride."""
        x = Upsample(self.widths[level], self.strides[level], self.dtype, name=f"up{level}")(x)
        return self.norm(name=f"up_norm{level}")(x, condition, train)


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
