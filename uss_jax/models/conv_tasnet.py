"""Conv-TasNet (Luo & Mesgarani 2019, arXiv 1809.07454), conditioned: a mask on a learned transform of the waveform.

Where the original normalises over a whole clip this has BatchNorm, so that a block does not depend on how long the cut
is that it is in.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax import signal
from uss_jax.models.layers import NormFilm, batch_norm, dense, leaky_relu
from uss_jax.models.separator import WaveformSeparator


class Depthwise(nn.Module):
    """A dilated convolution of three taps, of each channel by itself, without bias.

    Three shifted products and their sum: XLA takes far longer for a grouped convolution, on CPUs above all.
    """

    dilation: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, frames, channels) → the same shape."""
        init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")  # of three taps
        taps = self.param("kernel", init, (3, x.shape[-1])).astype(self.dtype)
        count = x.shape[1]
        padded = jnp.pad(x, [(0, 0), (self.dilation, self.dilation), (0, 0)])
        before, after = padded[:, :count], padded[:, 2 * self.dilation :]
        return before * taps[0] + x * taps[1] + after * taps[2]


class Block(nn.Module):
    """A dilated convolution between two 1×1 ones, all normalised and conditioned, and added to its input.

    Attributes:
      hidden: channels of the dilated convolution.
      dilation: its own, in frames.
      last: nothing comes after it that its input and what is added to it could go to: the skip is all that counts.
      norm: makes a `NormFilm` of a name.
      dtype: that it computes in.
    """

    hidden: int
    dilation: int
    last: bool
    norm: Callable[..., NormFilm]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """(batch, frames, channels) → the next one's input, and the skip, each of the same shape."""
        y = dense(self.hidden, dtype=self.dtype, name="expand", use_bias=False)(x)
        y = self.norm(name="norm1")(y, condition, train)
        y = Depthwise(self.dilation, self.dtype, name="depthwise")(y)
        y = self.norm(name="norm2")(y, condition, train)
        skip = dense(x.shape[-1], dtype=self.dtype, name="skip")(y)
        if not self.last:
            # As in all before them, no bias: what comes next is normalised.
            x = x + dense(x.shape[-1], dtype=self.dtype, name="residual", use_bias=False)(y)
        return x, skip


class ConvTasNet(WaveformSeparator):
    """Masks a learned transform of short frames of the waveform by what a stack of dilated convolutions sees of it.

    Attributes:
      filters: of the transform.
      kernel: samples of a frame, even; the next begins half a frame later. By default 2 ms.
      bottleneck: channels between the blocks, and of their skips.
      hidden: channels within a block.
      blocks: in each repeat; each dilates by twice as much as the one before.
      repeats: of them.
    """

    filters: int = 512
    kernel: int = 64
    bottleneck: int = 128
    hidden: int = 512
    blocks: int = 8
    repeats: int = 3

    @nn.compact
    def estimate(self, mixture: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """See `WaveformSeparator`."""
        if self.kernel % 2:
            raise ValueError(f"a kernel of {self.kernel} samples: expected an even number")
        samples, stride = mixture.shape[-1], self.kernel // 2
        count = -(-samples // stride) + 1
        # Half a frame of silence before, and at least as much after, so that every sample lies in two frames.
        padded = jnp.pad(mixture, [(0, 0), (stride, count * stride - samples)])
        framed = signal.frames(padded, self.kernel, stride)
        encoded = dense(self.filters, dtype=jnp.float32, name="encoder", use_bias=False)(framed)
        mask = nn.sigmoid(self.mask_maps(encoded, condition, train))
        decoded = dense(self.kernel, dtype=jnp.float32, name="decoder", use_bias=False)(mask * encoded)
        return signal.overlap_add(decoded, stride)[:, stride : stride + samples]

    def mask_maps(self, encoded: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """What the sigmoid makes the mask of: (batch, frames, filters) → the same shape."""
        x = batch_norm(train, self.momentum, self.axis_name, "bn0", self.dtype)(encoded)
        x = dense(self.bottleneck, dtype=self.dtype, name="bottleneck_in", use_bias=False)(x)
        block_class = nn.remat(Block, static_argnums=(3,)) if self.rematerialise else Block  # 3: train
        total = jnp.zeros([], self.dtype)
        for number in range(self.repeats * self.blocks):
            dilation, last = 2 ** (number % self.blocks), number == self.repeats * self.blocks - 1
            block = block_class(self.hidden, dilation, last, self.norm, self.dtype, name=f"block{number}")
            x, skip = block(x, condition, train)
            total += skip
        maps = dense(self.filters, dtype=self.dtype, name="bottleneck_out")(leaky_relu(total))
        return maps.astype(jnp.float32)
