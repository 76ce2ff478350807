"""Layers that the taggers and the separators share."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_INIT = nn.initializers.xavier_uniform()
SLOPE = 0.01  # of every leaky ReLU


def _pointwise(x: jax.Array, kernel: jax.Array, *_: Any, precision: Any, **__: Any) -> jax.Array:
    """A 1×1 convolution as the matrix product that it is: on CPUs convolutions of few channels take far longer."""
    return jnp.dot(x, kernel[0, 0], precision=precision)


def conv(features: int, kernel: tuple[int, int], *, use_bias: bool, dtype: Any, name: str) -> nn.Conv:
    """A "same" convolution over (batch, time, frequency, channels), Xavier-uniform as in the reference."""
    by = _pointwise if kernel == (1, 1) else None  # None: jax.lax.conv_general_dilated
    return nn.Conv(
        features, kernel, use_bias=use_bias, dtype=dtype, kernel_init=KERNEL_INIT, conv_general_dilated=by, name=name
    )


def dense(features: int, *, dtype: Any, name: str, use_bias: bool = True) -> nn.Dense:
    """A linear layer, Xavier-uniform as in the reference."""
    return nn.Dense(features, use_bias=use_bias, dtype=dtype, kernel_init=KERNEL_INIT, name=name)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of the slope that all separators have."""
    return nn.leaky_relu(x, SLOPE)


def batch_norm(
    train: bool, momentum: float, axis_name: str | None, name: str, dtype: Any = jnp.float32
) -> nn.BatchNorm:
    """BatchNorm over the last axis; under pmap its statistics span the devices of `axis_name`.

    `momentum` is Linen's: the share of the running statistic that stays (PyTorch's 0.01 is 0.99 here). Statistics are
    taken, and examples normalised, in float32 whatever the type of the input; the result is of type `dtype`.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=1e-5,
        axis_name=axis_name if train else None,
        dtype=dtype,
        name=name,
    )


class NormFilm(nn.Module):
    """activation(BatchNorm(x) · (1 + s) + b), where b and s are linear maps of the condition: FiLM.

    Without `film_scale` s is 0, as in the paper; with it s is 0 at first.
    """

    momentum: float
    axis_name: str | None
    dtype: Any
    film_scale: bool = False
    activation: Callable[[jax.Array], jax.Array] = leaky_relu

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """(batch, …, channels) and (batch, condition) → the first's shape."""
        between = tuple(range(1, x.ndim - 1))
        features = x.shape[-1]
        shift = dense(features, dtype=self.dtype, name="film")(condition)
        x = batch_norm(train, self.momentum, self.axis_name, "bn", self.dtype)(x)
        if self.film_scale:
            zeros = nn.initializers.zeros_init()
            scale = nn.Dense(features, dtype=self.dtype, kernel_init=zeros, name="film_scale")(condition)
            x = x * (1 + jnp.expand_dims(scale, between))
        return self.activation(x + jnp.expand_dims(shift, between))


def average_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Average over blocks of (time, frequency); what is left over at the end is dropped, as in PyTorch."""
    if size == (1, 1):
        return x
    return nn.avg_pool(x, size, strides=size)


def fold(x: jax.Array, patch: tuple[int, int]) -> jax.Array:
    """Patches to channels: (batch, time, frequency, C) → (batch, time / p, frequency / q, p·q·C).

    A small network is fast on few positions with many channels; it sees the same spectrogram.
    """
    batch, time, frequency, channels = x.shape
    p, q = patch
    x = x.reshape(batch, time // p, p, frequency // q, q, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, time // p, frequency // q, p * q * channels)


def unfold(x: jax.Array, patch: tuple[int, int]) -> jax.Array:
    """Inverse of `fold`: (batch, time / p, frequency / q, p·q·C) → (batch, time, frequency, C)."""
    batch, time, frequency, channels = x.shape
    p, q = patch
    x = x.reshape(batch, time, frequency, p, q, channels // (p * q))
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, time * p, frequency * q, -1)


def _transposed_conv_init(stride: tuple[int, int], features: int) -> nn.initializers.Initializer:
    """Xavier-uniform limits of PyTorch's ConvTranspose2d, whose fans both count the kernel's positions."""
    positions = stride[0] * stride[1]

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        limit = (6.0 / ((shape[0] + features) * positions)) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


class Upsample(nn.Module):
    """Transposed convolution whose kernel equals its stride, without bias.

    Each input position makes its own block of outputs, so it is one matrix product and a reshape.
    """

    features: int
    stride: tuple[int, int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, time, frequency, channels) → (batch, time·stride, frequency·stride, features)."""
        init = _transposed_conv_init(self.stride, self.features)
        size = self.stride[0] * self.stride[1] * self.features
        return unfold(nn.Dense(size, use_bias=False, dtype=self.dtype, kernel_init=init)(x), self.stride)
