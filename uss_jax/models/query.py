"""Query nets: from what the tagger hears in a source to the condition of the separator (paper, section III-D)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax.models.layers import dense
from uss_jax.models.tagger import Tags


def hard(tags: Tags) -> jax.Array:
    """1 for each class that is there, 0 elsewhere: (batch, classes).

    There is what has a probability of 0.5 or more, and the most probable class in any case, unless its probability is
    0. Of zeros and ones, such as a clip's labels in place of `clipwise`, the same zeros and ones are made. It is a
    constant to the gradient, so a tagger that is trained along has nothing to learn from it.
    """
    likely = tags.clipwise >= 0.5
    first = jax.nn.one_hot(jnp.argmax(tags.clipwise, axis=-1), tags.clipwise.shape[-1], dtype=bool)
    return (likely | (first & (tags.clipwise > 0.0))).astype(jnp.float32)


def soft(tags: Tags) -> jax.Array:
    """Class probabilities, the reference's at_soft: (batch, classes)."""
    return tags.clipwise


def latent(tags: Tags) -> jax.Array | None:
    """The tagger's embedding, (batch, embedding), or None where it has none."""
    return tags.embedding


# One more is a function above, and a line here.
KINDS: dict[str, Callable[[Tags], jax.Array | None]] = {"hard": hard, "soft": soft, "latent": latent}


class QueryNet(nn.Module):
    """The condition: one of `KINDS`, through learnable layers or as it is.

    Attributes:
      kind: name of one of `KINDS`.
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
        x = KINDS[self.kind](tags)
        if x is None:
            raise ValueError(f"a {self.kind} query needs a tagger with an embedding, such as cnn14")
        return x

    def size(self, tagger: Any) -> int:
        """Numbers in a condition that is made of this tagger's output."""
        if self.adaptor_size:
            return self.adaptor_size
        heard = (jax.ShapeDtypeStruct((1, size), jnp.float32) for size in (tagger.class_count, tagger.embedding_size))
        return jax.eval_shape(lambda x, embedding: self.bottleneck(Tags(x, x, embedding)), *heard).shape[-1]

    @nn.compact
    def __call__(self, tags: Tags, train: bool = False) -> jax.Array:
        """Tags of (batch, …) → condition, (batch, size)."""
        x = self.bottleneck(tags)
        if self.adaptor_size:
            for name, size in (("fc1", self.hidden), ("fc2", self.adaptor_size)):
                x = nn.leaky_relu(dense(size, dtype=self.dtype, name=name)(x), 0.01)
                x = nn.Dropout(0.5, deterministic=not train)(x)
        return x.astype(jnp.float32)
