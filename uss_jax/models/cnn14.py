"""The convolutional taggers of PANNs (arXiv 1912.10211): Cnn6, Cnn10, Cnn14 and Cnn14_DecisionLevelMax.

With their default fields these are the released networks; smaller siblings are the same modules with other fields.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax import signal
from uss_jax.models.layers import average_pool, batch_norm, conv, fold
from uss_jax.models.tagger import Tagger, Tags


class ConvBlock(nn.Module):
    """So many times (k×k convolution, BatchNorm, ReLU)."""

    features: int
    kernel: int
    convolutions: int
    momentum: float
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(batch, time, frequency, channels) → (batch, time, frequency, features)."""
        size = (self.kernel, self.kernel)
        for i in range(1, self.convolutions + 1):
            x = conv(self.features, size, use_bias=False, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(batch_norm(train, self.momentum, self.axis_name, f"bn{i}", self.dtype)(x))
        return x


class _Cnn(Tagger):
    """The convolutional trunk, between the front end and the head of `Tagger`, whose attributes it has besides.

    Attributes:
      widths: channels of each block.
      kernel: side of the convolutions.
      convolutions: in each block.
      pool_last: 2×2 average pooling follows the last block, too, as it does every other.
      block_dropout: rate after each block.
      patch: (time, mel) patches folded into channels before the first block; (1, 1) in PANNs.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    kernel: int = 3
    convolutions: int = 2
    pool_last: bool = False
    block_dropout: float = 0.2
    patch: tuple[int, int] = (1, 1)

    @property
    def pools(self) -> int:
        """How many blocks are followed by pooling."""
        return len(self.widths) - (not self.pool_last)

    @property
    def frames_per_segment(self) -> int:
        """Spectrogram frames behind one output of the trunk: 32 in Cnn14."""
        return self.patch[0] * 2**self.pools

    def trunk(self, audio: jax.Array, train: bool) -> jax.Array:
        """(batch, time) → (batch, segments, features), averaged over frequency."""
        x = self.front_end(audio, train)
        x = x[:, : x.shape[1] // self.patch[0] * self.patch[0], :, None]
        x = fold(x, self.patch).astype(self.dtype)
        block_class = self.rematerialised(ConvBlock)
        rest = (self.kernel, self.convolutions, self.momentum, self.axis_name, self.dtype)
        for i, width in enumerate(self.widths):
            x = block_class(width, *rest, name=f"block{i}")(x, train)
            if i < self.pools:
                x = average_pool(x, (2, 2))
            x = nn.Dropout(self.block_dropout, deterministic=not train)(x)
        return jnp.mean(x, axis=2, dtype=jnp.float32)


class Cnn14(_Cnn):
    """Tags a clip: pools over time, then classifies. Its embedding is the latent query."""

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool = False) -> Tags:
        """(batch, time) → Tags with `embedding`, without `framewise`."""
        x = self.trunk(audio, train)
        return self.tags_of_clip(jnp.max(x, axis=1) + jnp.mean(x, axis=1), train)


class Cnn10(Cnn14):
    """Four blocks, each followed by pooling: a sixteenth of the parameters of Cnn14."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    pool_last: bool = True
    embedding_size: int = 512


class Cnn6(Cnn10):
    """One 5×5 convolution in each block of Cnn10."""

    kernel: int = 5
    convolutions: int = 1


class Cnn14DecisionLevelMax(_Cnn):
    """Classifies each segment, then takes the maximum: tells when a class sounds."""

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool = False) -> Tags:
        """(batch, time) → Tags with `framewise`, without `embedding`."""
        x = self.trunk(audio, train)
        highest = nn.max_pool(x, (3,), strides=(1,), padding=((1, 1),))
        mean = nn.avg_pool(x, (3,), strides=(1,), padding=((1, 1),))  # counts the padding, as PyTorch does
        logits = self.classify(self.embed(highest + mean, train), train)
        clip_logits = jnp.max(logits, axis=1)

        framewise = jnp.repeat(nn.sigmoid(logits), self.frames_per_segment, axis=1)
        missing = signal.frame_count(audio.shape[-1], self.hop) - framewise.shape[1]
        framewise = jnp.pad(framewise, [(0, 0), (0, max(0, missing)), (0, 0)], mode="edge")
        return Tags(clip_logits, nn.sigmoid(clip_logits), framewise=framewise)
