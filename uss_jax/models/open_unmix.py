"""Open-Unmix (Stöter et al. 2019), conditioned: recurrent layers over frames make a real mask of the spectrogram.

The original drops out units between its recurrent layers in training; here BatchNorm is the only noise.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.models.layers import batch_norm, dense
from uss_jax.models.separator import SpectrumSeparator


class BidirectionalLstm(nn.Module):
    """An LSTM from the first frame to the last beside one from the last to the first, each half the features."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, frames, channels) → (batch, frames, features)."""
        forward, backward = (
            nn.RNN(nn.OptimizedLSTMCell(self.features // 2, name=name)) for name in ("forward", "backward")
        )
        both: Any = nn.Bidirectional(forward, backward)
        return both(x)


class OpenUnmix(SpectrumSeparator):
    """Scales each bin of the mixture by a number that is not negative, and leaves its phase as it is.

    Attributes:
      hidden: features of all inner layers, even.
      layers: recurrent ones, in float32 whatever `dtype`.
      bandwidth_hz: what the network looks at ends there; the mask does not.
    """

    hidden: int = 512
    layers: int = 3
    bandwidth_hz: float = SAMPLE_RATE_HZ / 2

    @nn.compact
    def masks(self, magnitude: jax.Array, condition: jax.Array, train: bool = False) -> jax.Array:
        """See `SpectrumSeparator`; real, not negative, and of any size."""
        bins = magnitude.shape[-1]
        looked_at = 1 + int((bins - 1) * min(1.0, self.bandwidth_hz / (SAMPLE_RATE_HZ / 2)))

        def norm(name: str, dtype: Any) -> nn.BatchNorm:
            return batch_norm(train, self.momentum, self.axis_name, name, dtype)

        def linear(features: int, name: str) -> nn.Dense:
            return dense(features, dtype=self.dtype, name=name, use_bias=False)  # for a norm comes after

        x = norm("bn0", self.dtype)(self.seen(magnitude)[..., :looked_at])
        x = linear(self.hidden, "fc1")(x)
        x = self.norm(name="norm1", activation=nn.tanh)(x, condition, train)

        layer_class = nn.remat(BidirectionalLstm) if self.rematerialise else BidirectionalLstm
        recurrent = x.astype(jnp.float32)
        for number in range(self.layers):
            recurrent = layer_class(self.hidden, name=f"lstm{number}")(recurrent)

        x = linear(self.hidden, "fc2")(jnp.concatenate([x, recurrent], axis=-1))
        x = self.norm(name="norm2", activation=nn.relu)(x, condition, train)
        x = norm("bn3", jnp.float32)(linear(bins, "fc3")(x))
        scale = self.param("output_scale", nn.initializers.ones_init(), (bins,))
        mean = self.param("output_mean", nn.initializers.ones_init(), (bins,))
        return nn.relu(scale * x + mean).astype(jnp.complex64)
