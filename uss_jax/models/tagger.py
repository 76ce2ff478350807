"""What all taggers share: the log-mel front end, the head, and what they tell."""

import math
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax import signal
from uss_jax.augment import spec_augment
from uss_jax.models.layers import KERNEL_INIT, batch_norm, dense


@flax.struct.dataclass
class Tags:
    """What a tagger hears.

    Attributes:
      logits: (batch, classes), before the sigmoid of `clipwise`, for a stable loss.
      clipwise: (batch, classes), probability of each class in the clip.
      embedding: (batch, embedding) or None: the latent query (all but Cnn14DecisionLevelMax).
      framewise: (batch, frames, classes) or None: probability over time (Cnn14DecisionLevelMax).
    """

    logits: jax.Array
    clipwise: jax.Array
    embedding: jax.Array | None = None
    framewise: jax.Array | None = None


class Tagger(nn.Module):
    """Front end and head; what lies between is a subclass's.

    Attributes:
      sample_rate_hz, window, hop, mel_bands, low_hz, high_hz: of the log-mel spectrogram.
      embedding_size: of the fully connected layer.
      class_count: outputs.
      head_dropout: rate around the fully connected layer.
      prior: initial probability of every class; 0.5 in PANNs. Most classes are absent from most clips, and where the
        outputs do not say so from the start, a small network may first learn it by switching off its ReLUs.
      momentum: of BatchNorm, as Linen counts it.
      axis_name: pmap axis over which BatchNorm statistics are synchronised, in training.
      dtype: that convolutions, linear layers and what lies between them compute in. Parameters, BatchNorm's
        statistics, spectra and `Tags` are float32.
      rematerialise: compute the insides of the blocks a second time in the gradient rather than keep them: less memory
        for more time.
    """

    sample_rate_hz: int = 32_000
    window: int = 1024
    hop: int = 320
    mel_bands: int = 64
    low_hz: float = 50.0
    high_hz: float = 14_000.0
    embedding_size: int = 2048
    class_count: int = 527
    head_dropout: float = 0.5
    prior: float = 0.5
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: Any = jnp.float32
    rematerialise: bool = False

    def front_end(self, audio: jax.Array, train: bool) -> jax.Array:
        """(batch, time) → log-mel spectrogram, each band normalised: (batch, frames, mel), float32."""
        if audio.ndim != 2:
            raise ValueError(f"expected audio (batch, time), got {audio.shape}")
        x = signal.log_mel(
            audio,
            sample_rate_hz=self.sample_rate_hz,
            window=self.window,
            hop=self.hop,
            bands=self.mel_bands,
            low_hz=self.low_hz,
            high_hz=self.high_hz,
        )
        x = batch_norm(train, self.momentum, self.axis_name, "bn0")(x)
        return spec_augment(self.make_rng("augment"), x) if train else x

    def rematerialised(self, block: type[nn.Module]) -> type[nn.Module]:
        """The class of a block called with (x, train), so that `rematerialise` is heeded."""
        return nn.remat(block, static_argnums=(2,)) if self.rematerialise else block  # 2: train

    def dropout(self, x: jax.Array, train: bool) -> jax.Array:
        """Of the layers around the embedding."""
        return nn.Dropout(self.head_dropout, deterministic=not train)(x)

    def embed(self, x: jax.Array, train: bool) -> jax.Array:
        """(..., features) → (..., embedding), in `dtype`."""
        return nn.relu(dense(self.embedding_size, dtype=self.dtype, name="fc1")(self.dropout(x, train)))

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """(..., embedding) → logits (..., classes), float32."""
        bias_init = nn.initializers.constant(math.log(self.prior / (1.0 - self.prior)))
        layer = nn.Dense(
            self.class_count, dtype=self.dtype, kernel_init=KERNEL_INIT, bias_init=bias_init, name="fc_audioset"
        )
        return layer(self.dropout(x, train)).astype(jnp.float32)

    def tags_of_clip(self, x: jax.Array, train: bool) -> Tags:
        """What is heard in whole clips: features of each, (batch, features) → Tags with `embedding`."""
        embedding = self.embed(x, train).astype(jnp.float32)
        logits = self.classify(embedding, train)
        return Tags(logits, nn.sigmoid(logits), embedding=embedding)
