"""Which tensor of the PyTorch reference is which variable here: pure functions between state dicts and Linen trees.

A state dict maps the names of `panns_inference` and `uss` to NumPy arrays. Conversion copies and transposes, in both
directions, and nothing else; so it maps gradients as well as weights.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from uss_jax import signal

State = dict[str, np.ndarray]

TAGGER_BLOCKS = 6
RESUNET_LEVELS = 6


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a state dict.

    Attributes:
      name: in the state dict.
      path: in the Linen variables, joined by "/".
      layout: how the axes are ordered; a key of `LAYOUTS`.
      stride: (time, frequency) of a transposed convolution.
      unused: the reference keeps this tensor and never uses it, so that it has no variable here. It has the shape of
        the one at `path`, and is written with this value.
    """

    name: str
    path: str
    layout: str = "same"
    stride: tuple[int, int] = (1, 1)
    unused: float | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """The order of axes.

    Attributes:
      to_linen: from PyTorch's weight to Linen's kernel.
      to_torch: back; takes the kernel and the stride.
    """

    to_linen: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def _upsample_kernel(weight: np.ndarray) -> np.ndarray:
    """(in, out, p, q) → (in, p·q·out): `layers.unfold` splits a Dense's outputs into (p, q, out), in this order."""
    return weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)


def _upsample_weight(kernel: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    return kernel.reshape(kernel.shape[0], *stride, -1).transpose(0, 3, 1, 2)


LAYOUTS = {
    "same": Layout(lambda weight: weight, lambda kernel, _: kernel),
    "linear": Layout(lambda weight: weight.T, lambda kernel, _: kernel.T),  # (out, in) ↔ (in, out)
    # (out, in, time, frequency) ↔ (time, frequency, in, out)
    "conv": Layout(lambda weight: weight.transpose(2, 3, 1, 0), lambda kernel, _: kernel.transpose(3, 2, 0, 1)),
    "upsample": Layout(_upsample_kernel, _upsample_weight),
}


def to_linen(state: Mapping[str, np.ndarray], tensors: list[Tensor]) -> dict[str, Any]:
    """A module's variables from its state dict: `{"params": …, "batch_stats": …}`."""
    flat = {t.path: LAYOUTS[t.layout].to_linen(state[t.name]) for t in tensors if t.unused is None}
    return traverse_util.unflatten_dict(flat, sep="/")


def to_torch(variables: Mapping[str, Any], tensors: list[Tensor]) -> State:
    """Inverse of `to_linen`; tensors that the reference never uses are filled with a neutral value."""
    flat = traverse_util.flatten_dict(variables, sep="/")
    state = {}
    for t in tensors:
        weight = LAYOUTS[t.layout].to_torch(np.asarray(flat[t.path]), t.stride)
        state[t.name] = weight if t.unused is None else np.full(weight.shape, t.unused, weight.dtype)
    return state


def torch_shapes(variables: Any, tensors: list[Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of a state dict, from a tree of anything with shapes, such as `jax.eval_shape` of a module's init."""
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables)  # takes no memory
    return {name: weight.shape for name, weight in to_torch(empty, tensors).items()}


# Layers


def _conv(name: str, path: str, bias: bool = False) -> list[Tensor]:
    return [Tensor(f"{name}.weight", f"params/{path}/kernel", "conv")] + _bias(name, path) * bias


def _linear(name: str, path: str) -> list[Tensor]:
    return [Tensor(f"{name}.weight", f"params/{path}/kernel", "linear"), *_bias(name, path)]


def _bias(name: str, path: str) -> list[Tensor]:
    return [Tensor(f"{name}.bias", f"params/{path}/bias")]


def _norm(name: str, path: str) -> list[Tensor]:
    """BatchNorm with its running statistics."""
    return [
        Tensor(f"{name}.weight", f"params/{path}/scale"),
        Tensor(f"{name}.bias", f"params/{path}/bias"),
        Tensor(f"{name}.running_mean", f"batch_stats/{path}/mean"),
        Tensor(f"{name}.running_var", f"batch_stats/{path}/var"),
    ]


# Networks


@functools.cache
def tagger_tensors() -> list[Tensor]:
    """Of PANNs' Cnn14 and Cnn14_DecisionLevelMax, which have the same."""
    tensors = _norm("bn0", "bn0")
    for i in range(TAGGER_BLOCKS):
        for number in (1, 2):
            tensors += _conv(f"conv_block{i + 1}.conv{number}", f"block{i}/conv{number}")
            tensors += _norm(f"conv_block{i + 1}.bn{number}", f"block{i}/bn{number}")
    return tensors + _linear("fc1", "fc1") + _linear("fc_audioset", "fc_audioset")


@functools.cache
def adaptor_tensors() -> list[Tensor]:
    """Of the two learnable layers of the reference's AdaptiveCnn14_Wrapper."""
    return _linear("fc1", "fc1") + _linear("fc2", "fc2")


@functools.cache
def resunet_tensors() -> list[Tensor]:
    """Of ResUNet30."""
    tensors = _norm("base.bn0", "bn0") + _conv("base.pre_conv", "pre_conv", bias=True)
    tensors += _residual_block("conv_block7a.conv_block1", "middle", shortcut=False)
    for level in range(RESUNET_LEVELS):
        same_width = level in (0, RESUNET_LEVELS - 1)  # 32 channels come in, and from level 4 to 5 there are 384
        tensors += _residual_block(f"encoder_block{level + 1}.conv_block1", f"encoder{level}", not same_width)
        decoder = f"decoder_block{RESUNET_LEVELS - level}"  # the reference counts them from the deepest
        tensors += _norm_film(decoder, 1, f"up_norm{level}")
        tensors += [dataclasses.replace(t, unused=_neutral(t)) for t in _norm_film(decoder, 2, f"up_norm{level}")]
        stride = (1, 2) if level == RESUNET_LEVELS - 1 else (2, 2)
        tensors += [Tensor(f"base.{decoder}.conv1.weight", f"params/up{level}/Dense_0/kernel", "upsample", stride)]
        tensors += _residual_block(f"{decoder}.conv_block2", f"decoder{level}", shortcut=True)
    return tensors + _conv("base.after_conv", "after_conv", bias=True)


def _residual_block(block: str, path: str, shortcut: bool) -> list[Tensor]:
    tensors = []
    for number in (1, 2):
        tensors += _norm_film(block, number, f"{path}/norm{number}")
        tensors += _conv(f"base.{block}.conv{number}", f"{path}/conv{number}")
    return tensors + _conv(f"base.{block}.shortcut", f"{path}/shortcut", bias=True) * shortcut


def _norm_film(block: str, number: int, path: str) -> list[Tensor]:
    """BatchNorm `number` of a block, and its FiLM, which `uss` keeps in one module under their paths joined by "->"."""
    film = "film." + "->".join([*block.split("."), f"beta{number}"])
    return _norm(f"base.{block}.bn{number}", f"{path}/bn") + _linear(film, f"{path}/film")


def _neutral(tensor: Tensor) -> float:
    """What leaves its input as it is: scale and variance 1, the rest 0."""
    return float(tensor.path.endswith(("scale", "var")))


# Constants, which the reference keeps among the weights


def tagger_constants() -> State:
    """Of a tagger's front end: the matrices of its Fourier transform, and the mel filters."""
    fourier = _fourier(1024)
    return {
        **{f"spectrogram_extractor.stft.{name}": matrix for name, matrix in fourier.items()},
        "logmel_extractor.melW": signal.mel_filters(32_000, 1024, 64, 50.0, 14_000.0),
    }


def resunet_constants() -> State:
    """Of ResUNet30: the matrices of its Fourier transform and of the inverse."""
    window = signal.hann(2048).astype(np.float64)
    angle = _angles(2048)
    return {
        **{f"base.stft.{name}": matrix for name, matrix in _fourier(2048).items()},
        "base.istft.ola_window": (window**2).astype(np.float32),
        "base.istft.conv_real.weight": (window * np.cos(angle) / 2048).astype(np.float32).T[:, :, None],
        "base.istft.conv_imag.weight": (window * np.sin(angle) / 2048).astype(np.float32).T[:, :, None],
    }


def _fourier(window: int) -> State:
    """Real and imaginary part of a windowed Fourier transform, as weights of convolutions: (bins, 1, window)."""
    angle = _angles(window)[: window // 2 + 1]
    weight = signal.hann(window).astype(np.float64)
    return {
        "conv_real.weight": (weight * np.cos(angle)).astype(np.float32)[:, None],
        "conv_imag.weight": (-weight * np.sin(angle)).astype(np.float32)[:, None],
    }


def _angles(size: int) -> np.ndarray:
    """2π·k·n / size, (size, size), the product reduced modulo `size` so that it is exact."""
    steps = np.arange(size)
    return 2 * np.pi / size * (np.outer(steps, steps) % size)
