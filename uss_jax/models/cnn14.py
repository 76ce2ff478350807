"""The taggers: Cnn14 and Cnn14_DecisionLevelMax of PANNs (arXiv 1912.10211).

With their default fields these are the released networks; smaller siblings are the same modules with other fields.
"""

import math
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from uss_jax import signal
from uss_jax.augment import spec_augment
from uss_jax.models.layers import KERNEL_INIT, average_pool, batch_norm, conv, dense, fold


@flax.struct.dataclass
class Tags:
    """What a tagger hears.

    Attributes:
      logits: (batch, classes), before the sigmoid of `clipwise`, for a stable loss.
      clipwise: (batch, classes), probability of each class in the clip.
      embedding: (batch, embedding) or None: the latent query (Cnn14).
      framewise: (batch, frames, classes) or None: probability over time (Cnn14DecisionLevelMax).
    """

    logits: jax.Array
    clipwise: jax.Array
    embedding: jax.Array | None = None
    framewise: jax.Array | None = None


class ConvBlock(nn.Module):
    """Twice (3×3 convolution, BatchNorm, ReLU)."""

    features: int
    momentum: float
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(batch, time, frequency, channels) → (batch, time, frequency, features)."""
        for i in (1, 2):
            x = conv(self.features, (3, 3), use_bias=False, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(batch_norm(train, self.momentum, self.axis_name, f"bn{i}", self.dtype)(x))
        return x


class _Cnn(nn.Module):
    """Front end and convolutional trunk of both taggers.

    Attributes:
      sample_rate_hz, window, hop, mel_bands, low_hz, high_hz: of the log-mel spectrogram.
      widths: channels of each block; every block but the last is followed by 2×2 average pooling.
      embedding_size: of the fully connected layer.
      class_count: outputs.
      block_dropout, head_dropout: rates after each block, and around the fully connected layer.
      patch: (time, mel) patches folded into channels before the first block; (1, 1) in PANNs.
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
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    embedding_size: int = 2048
    class_count: int = 527
    block_dropout: float = 0.2
    head_dropout: float = 0.5
    patch: tuple[int, int] = (1, 1)
    prior: float = 0.5
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: Any = jnp.float32
    rematerialise: bool = False

    @property
    def frames_per_segment(self) -> int:
        """Spectrogram frames behind one output of the trunk: 32 in PANNs."""
        return self.patch[0] * 2 ** (len(self.widths) - 1)

    def trunk(self, audio: jax.Array, train: bool) -> jax.Array:
        """(batch, time) → (batch, segments, features), averaged over frequency."""
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
        if train:
            x = spec_augment(self.make_rng("augment"), x)
        x = x[:, : x.shape[1] // self.patch[0] * self.patch[0], :, None]
        x = fold(x, self.patch).astype(self.dtype)
        block_class = nn.remat(ConvBlock, static_argnums=(2,)) if self.rematerialise else ConvBlock  # 2: train
        for i, width in enumerate(self.widths):
            x = block_class(width, self.momentum, self.axis_name, self.dtype, name=f"block{i}")(x, train)
            if i < len(self.widths) - 1:
                x = average_pool(x, (2, 2))
            x = nn.Dropout(self.block_dropout, deterministic=not train)(x)
        return jnp.mean(x, axis=2, dtype=jnp.float32)

    def dropout(self, x: jax.Array, train: bool) -> jax.Array:
        """Of the layers around the embedding."""
        return nn.Dropout(self.head_dropout, deterministic=not train)(x)

    def classify(self, x: jax.Array) -> jax.Array:
        """(..., features) → logits (..., classes)."""
        bias_init = nn.initializers.constant(math.log(self.prior / (1.0 - self.prior)))
        layer = nn.Dense(
            self.class_count, dtype=self.dtype, kernel_init=KERNEL_INIT, bias_init=bias_init, name="fc_audioset"
        )
        return layer(x).astype(jnp.float32)


class Cnn14(_Cnn):
    """Tags a clip: pools over time, then classifies. Its embedding is the latent query."""

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool = False) -> Tags:
        """(batch, time) → Tags with `embedding`, without `framewise`."""
        x = self.trunk(audio, train)
        x = jnp.max(x, axis=1) + jnp.mean(x, axis=1)
        x = self.dropout(x, train)
        embedding = nn.relu(dense(self.embedding_size, dtype=self.dtype, name="fc1")(x)).astype(jnp.float32)
        x = self.dropout(embedding, train)
        logits = self.classify(x)
        return Tags(logits, nn.sigmoid(logits), embedding=embedding)


class Cnn14DecisionLevelMax(_Cnn):
    """Classifies each segment, then takes the maximum: tells when a class sounds."""

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool = False) -> Tags:
        """(batch, time) → Tags with `framewise`, without `embedding`."""
        x = self.trunk(audio, train)
        highest = nn.max_pool(x, (3,), strides=(1,), padding=((1, 1),))
        mean = nn.avg_pool(x, (3,), strides=(1,), padding=((1, 1),))  # counts the padding, as PyTorch does
        x = self.dropout(highest + mean, train)
        x = nn.relu(dense(self.embedding_size, dtype=self.dtype, name="fc1")(x))
        x = self.dropout(x, train)
        logits = self.classify(x)
        clip_logits = jnp.max(logits, axis=1)

        framewise = jnp.repeat(nn.sigmoid(logits), self.frames_per_segment, axis=1)
        missing = signal.frame_count(audio.shape[-1], self.hop) - framewise.shape[1]
        framewise = jnp.pad(framewise, [(0, 0), (0, max(0, missing)), (0, 0)], mode="edge")
        return Tags(clip_logits, nn.sigmoid(clip_logits), framewise=framewise)
