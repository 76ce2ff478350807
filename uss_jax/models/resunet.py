"""The paper's separator: a residual U-Net on magnitude spectrograms, conditioned by additive FiLM (section III-E).

With its default fields this is the reference's ResUNet30; a smaller sibling is the same module with other fields. With
`blocks_per_level` 2 it is ResUNet60: 24 convolutions in the encoder (6 levels of 2 blocks of 2), 4 in the middle, 30
in the decoder (in each level the one that upsamples besides), and the first and the last.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax

from uss_jax.models.layers import NormFilm, Upsample, conv
from uss_jax.models.unet import UNet


class ResidualBlock(nn.Module):
    """Two normalised, conditioned 3×3 convolutions, added to their input; `norm` makes a `NormFilm` of a name."""

    features: int
    norm: Callable[..., NormFilm]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """(batch, time, frequency, channels) → (batch, time, frequency, features)."""
        y = self.norm(name="norm1")(x, condition, train)
        y = conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, name="conv1")(y)
        y = self.norm(name="norm2")(y, condition, train)
        y = conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, name="conv2")(y)
        if x.shape[-1] != self.features:
            x = conv(self.features, (1, 1), use_bias=True, dtype=self.dtype, name="shortcut")(x)
        return x + y


class ResUNet(UNet):
    """A U-Net of residual blocks, which normalise what comes in rather than what goes out."""

    block: ClassVar[type[nn.Module]] = ResidualBlock

    def up(self, x: jax.Array, condition: jax.Array, train: bool, level: int) -> jax.Array:
        """See `UNet`; normalised first, as nothing is on its way out of a residual block."""
        x = self.norm(name=f"up_norm{level}")(x, condition, train)
        return Upsample(self.widths[level], self.strides[level], self.dtype, name=f"up{level}")(x)
