"""Query nets: from what the tagger hears in a source to the condition of the separator (paper, section III-D)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax.models.cnn14 import Tags
from uss_jax.models.layers import dense

KINDS = ("soft", "latent")


class QueryNet(nn.Module):
    """The condition: class probabilities (`soft`, the reference's at_soft) or the tagger's embedding (`latent`).

    Attributes:
      kind: `soft` or `latent`.
      adaptor_size: outputs of two learnable layers put after it; 0 for none, as in the released models.
      hidden: units of the first of them.
      dtype: that these layers compute in; parameters and condition are float32.
    """

    kind: str = "soft"
    adaptor_size: int = 0
    hidden: int = 2048
    dtype: Any = jnp.float32

    def bottleneck(self, tags: Tags) -> jax.Array:
        """What the condition is made of: tags of (batch, …) → (batch, classes or embedding)."""
        if self.kind not in KINDS:
            raise ValueError(f"query kind {self.kind!r}: expected one of {', '.join(KINDS)}")
        x = tags.clipwise if self.kind == "soft" else tags.embedding
        if x is None:
            raise ValueError("a latent query needs a tagger with an embedding (cnn14)")
        return x

    def size(self, tagger: Any) -> int:
        """Numbers in a condition that is made of this tagger's output."""
        return self.adaptor_size or (tagger.embedding_size if self.kind == "latent" else tagger.class_count)

    @nn.compact
    def __call__(self, tags: Tags, train: bool = False) -> jax.Array:
        """Tags of (batch, …) → condition, (batch, size)."""
        x = self.bottleneck(tags)
        if self.adaptor_size:
            for name, size in (("fc1", self.hidden), ("fc2", self.adaptor_size)):
                x = nn.leaky_relu(dense(size, dtype=self.dtype, name=name)(x), 0.01)
                x = nn.Dropout(0.5, deterministic=not train)(x)
        return x.astype(jnp.float32)
