"""Random changes to training data, as pure functions of a key and arrays."""

import jax
import jax.numpy as jnp


def drop_stripes(key: jax.Array, x: jax.Array, axis: int, stripes: int, widest: int) -> jax.Array:
    """Sets random stripes along an axis to zero, others in each example.

    Args:
      key: random key.
      x: (batch, time, frequency).
      axis: 1 or 2.
      stripes: how many.
      widest: each is 0 to `widest` − 1 wide.
    """
    size = x.shape[axis]
    width_key, start_key = jax.random.split(key)
    width = jax.random.randint(width_key, (x.shape[0], stripes, 1), 0, min(widest, size))
    start = jnp.floor(jax.random.uniform(start_key, width.shape) * (size - width))
    place = jnp.arange(size)
    dropped = jnp.any((place >= start) & (place < start + width), axis=1)  # (batch, size)
    return jnp.where(jnp.expand_dims(dropped, 3 - axis), 0.0, x)


def spec_augment(key: jax.Array, x: jax.Array) -> jax.Array:
    """SpecAugment as in PANNs: two stripes of up to 64 frames and two of up to 8 mel bands set to zero.

    On clips shorter than ten seconds the time stripes shrink in proportion.

    Args:
      key: random key.
      x: (batch, frames, bands), normalised.
    """
    time_key, band_key = jax.random.split(key)
    x = drop_stripes(time_key, x, axis=1, stripes=2, widest=max(1, min(64, 64 * x.shape[1] // 1001)))
    return drop_stripes(band_key, x, axis=2, stripes=2, widest=8)


def mixup(
    key: jax.Array, audio: jax.Array, labels: jax.Array, alpha: float, share: float, union: bool
) -> tuple[jax.Array, jax.Array]:
    """Mixes examples with the next of the batch.

    Args:
      key: random key.
      audio: (batch, time).
      labels: (batch, classes).
      alpha: of the Beta distribution from which each weight w is drawn.
      share: of the examples that are mixed; the others stay as they are.
      union: the mixture carries all labels of both. Otherwise w and 1 − w of them, as in PANNs. A tagger that has to
        hear every sound of a mixture learns from the union.

    Returns:
      Mixed audio and labels.
    """
    weight_key, choice_key = jax.random.split(key)
    weight = jax.random.beta(weight_key, alpha, alpha, (audio.shape[0], 1))
    weight = jnp.where(jax.random.uniform(choice_key, weight.shape) < share, weight, 1.0)
    mixed = weight * audio + (1 - weight) * jnp.roll(audio, -1, axis=0)
    others = jnp.roll(labels, -1, axis=0)
    if union:
        return mixed, jnp.where(weight < 1.0, jnp.maximum(labels, others), labels)
    return mixed, weight * labels + (1 - weight) * others
