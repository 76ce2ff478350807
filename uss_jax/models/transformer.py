"""A transformer that tags patches of the log-mel spectrogram, as AST does (arXiv 2104.01778).

Unlike AST it is trained from scratch, hears clips of any length, and averages over its patches rather than reading a
token of its own.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from uss_jax.models.layers import KERNEL_INIT, dense, fold
from uss_jax.models.tagger import Tagger, Tags


class TransformerBlock(nn.Module):
    """Self-attention, then an MLP, each after a LayerNorm and added to what it was made of."""

    heads: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(batch, tokens, dimension) → the same shape."""
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, kernel_init=KERNEL_INIT, force_fp32_for_softmax=True, name="attention"
        )
        y = attention(nn.LayerNorm(dtype=self.dtype, name="norm1")(x))
        x = x + dropout(y)

        y = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(dense(4 * x.shape[-1], dtype=self.dtype, name="mlp1")(y))
        y = dense(x.shape[-1], dtype=self.dtype, name="mlp2")(dropout(y))
        return x + dropout(y)


class Transformer(Tagger):
    """Tags a clip: patches, transformer blocks, their mean. Between the front end and the head of `Tagger`.

    Attributes (besides those of `Tagger`):
      patch: (frames, mel bands) of a patch; patches do not overlap.
      dimension: of a token.
      depth: blocks.
      heads: of the attention.
      block_dropout: rate in and after attention's and MLP's outputs, and of the tokens.
    """

    embedding_size: int = 512
    head_dropout: float = 0.2
    patch: tuple[int, int] = (16, 16)
    dimension: int = 192
    depth: int = 6
    heads: int = 3
    block_dropout: float = 0.1

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool = False) -> Tags:
        """(batch, time) → Tags with `embedding`, without `framewise`."""
        if self.mel_bands % self.patch[1]:
            raise ValueError(f"{self.mel_bands} mel bands: expected a multiple of the patch's {self.patch[1]}")
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension}: expected a multiple of the {self.heads} heads")
        x = self.front_end(audio, train)
        # The end is filled up to a whole patch. 0 is each band's mean, where bn0's bias is 0.
        x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % self.patch[0]), (0, 0)])
        x = fold(x[..., None], self.patch).astype(self.dtype)
        x = dense(self.dimension, dtype=self.dtype, name="patches")(x)
        of_bands = self.param("mel_position", nn.initializers.normal(0.02), (x.shape[2], self.dimension))
        position = of_bands + sinusoids(x.shape[1], self.dimension)[:, None, :]
        x = x + position.astype(self.dtype)
        x = x.reshape(x.shape[0], -1, self.dimension)
        x = nn.Dropout(self.block_dropout, deterministic=not train)(x)

        block_class = self.rematerialised(TransformerBlock)
        for i in range(self.depth):
            x = block_class(self.heads, self.block_dropout, self.dtype, name=f"block{i}")(x, train)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return self.tags_of_clip(jnp.mean(x, axis=1, dtype=jnp.float32), train)


def sinusoids(count: int, size: int) -> np.ndarray:
    """Positions 0, 1, … as sines, then cosines, of wavelengths from 2π to 2π·10⁴: (count, size), float32."""
    rates = 1e-4 ** (np.arange((size + 1) // 2) / max(1, size // 2))
    angles = np.arange(count)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :size].astype(np.float32)
