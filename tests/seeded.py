"""Weights and sounds that are the same everywhere: drawn from a generator that is seeded with each tensor's name.

So the PyTorch reference and this project can be given the same networks without either being there for the other.
The running statistics of BatchNorm are not drawn: they were measured in the reference on typical input
(`make_golden.py`) and are read from `golden.npz`, so that no layer saturates.
"""

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from uss_jax.models.cnn14 import Cnn14, Cnn14DecisionLevelMax, Tags
from uss_jax.models.resunet import ResUNet
from uss_jax.pytorch import names
from uss_jax.training.optimiser import make_optimiser

SAMPLE_RATE_HZ = 32_000
GOLDEN = Path(__file__).with_name("golden.npz")


class Network(NamedTuple):
    """A network that both sides have.

    Attributes:
      module: here.
      tensors: how its variables are called in the reference.
      statistics: the entry of the golden file with its running statistics.
      condition_size: of a separator, else None.
    """

    module: nn.Module
    tensors: list[names.Tensor]
    statistics: str
    condition_size: int | None = None


NETWORKS = {
    "Cnn14": Network(Cnn14(), names.tagger_tensors(), "tagger"),
    "Cnn14_DecisionLevelMax": Network(Cnn14DecisionLevelMax(), names.tagger_tensors(), "tagger"),
    "ResUNet30_soft": Network(ResUNet(), names.resunet_tensors(), "resunet", 527),
    "ResUNet30_latent": Network(ResUNet(), names.resunet_tensors(), "resunet", 2048),
}


def golden() -> dict[str, np.ndarray]:
    """The numbers of the reference."""
    with np.load(GOLDEN, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def normal(shape: tuple[int, ...], seed: int, name: str) -> np.ndarray:
    """Standard normal numbers, float32. NumPy promises that this old generator never changes."""
    random = np.random.RandomState([seed, zlib.crc32(name.encode())])
    return random.standard_normal(shape).astype(np.float32)


def inputs(network: Network, samples: int, batch: int = 2, seed: int = 0) -> tuple[np.ndarray, ...]:
    """What a network is called with: audio, and for a separator a condition."""
    audio = sounds(samples, seed, batch)
    return (audio,) if network.condition_size is None else (audio, conditions(network.condition_size, seed, batch))


def draw(network: Network, seed: int = 1) -> names.State:
    """The network's state dict, with standard running statistics.

    Weights keep the scale of what passes through them; scales of BatchNorm are 1 ± 0.1.
    """
    shaped = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in inputs(network, 64_000, 1)]
    variables = jax.eval_shape(network.module.init, jax.random.key(0), *shaped)
    shapes = names.torch_shapes(variables, network.tensors)
    return {name: _draw(name, shape, seed) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if "running" in name:
        return np.full(shape, name.endswith("var"), np.float32)
    numbers = normal(shape, seed, name)
    if name.endswith("bias"):
        return np.float32(0.1) * numbers
    if len(shape) == 1:
        return np.float32(1.0) + np.float32(0.1) * numbers
    transposed = re.fullmatch(r"base\.decoder_block\d\.conv1\.weight", name)  # its outputs sum over input channels only
    return numbers * np.float32((shape[0] if transposed else np.prod(shape[1:])) ** -0.5)


def state(name: str) -> names.State:
    """The state dict of a network, complete with measured statistics; by the names in `NETWORKS`."""
    network = NETWORKS[name]
    prefix = f"statistics/{network.statistics}/"
    measured = {key.removeprefix(prefix): value for key, value in golden().items() if key.startswith(prefix)}
    return draw(network) | {key: value.astype(np.float32) for key, value in measured.items()}


def variables(name: str) -> dict[str, Any]:
    """The same as Linen variables."""
    return names.to_linen(state(name), NETWORKS[name].tensors)


def sounds(samples: int, seed: int = 0, batch: int = 2) -> np.ndarray:
    """Decaying chirps in noise, so that bands and moments differ in level: (batch, samples)."""
    seconds = np.arange(samples) / SAMPLE_RATE_HZ
    audio = 0.003 * normal((batch, samples), seed, "noise")
    random = np.random.RandomState(seed)
    for clip in audio:
        for _ in range(4):
            low_hz, sweep_hz = random.uniform(100, 4000), random.uniform(-50, 2000)
            after = np.maximum(seconds - random.uniform(0, 0.7) * seconds[-1], 0.0)
            clip += 0.2 * np.sin(2 * np.pi * (low_hz + sweep_hz * after) * after) * np.exp(-3.0 * after)
    return audio.astype(np.float32)


def conditions(size: int, seed: int = 0, batch: int = 2) -> np.ndarray:
    """Like tagger outputs: not negative, and 1 in the mean square, so that FiLM shifts by about 1: (batch, size)."""
    return np.abs(normal((batch, size), seed, "condition"))


def tags(clipwise: np.ndarray) -> Tags:
    """What a tagger that gives these probabilities says."""
    return Tags(logits=jnp.asarray(clipwise), clipwise=jnp.asarray(clipwise))


def relative_error(ours: Any, reference: Any) -> float:
    """‖ours − reference‖ / ‖reference‖."""
    ours, reference = (np.asarray(x, np.float64) for x in (ours, reference))
    assert ours.shape == reference.shape
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def assert_close(bound: float, ours: Any, theirs: Any, what: str) -> None:
    """Compares, and prints the relative error (`pytest -rP` shows it)."""
    error = relative_error(ours, theirs)
    print(f"{what}: relative error {error:.1e}, at most {bound:.0e}")
    assert error <= bound, what


def optimiser() -> optax.GradientTransformation:
    """The reference's optimiser, as it is here, at a constant learning rate of 1e-3."""
    config = ml_collections.ConfigDict({"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0})
    config.clip_norm = 0.0
    return make_optimiser(config, optax.constant_schedule(1e-3))


def curves(count: int, frames_per_value: int) -> np.ndarray:
    """Random smooth probabilities: (count, 1001), held for so many frames as the tagger's are."""
    noise = normal((count, 1001 + 128), frames_per_value, "curves")
    kernel = np.hanning(129) / np.sqrt(np.sum(np.hanning(129) ** 2))
    logits = np.stack([np.convolve(row, kernel, mode="valid") for row in noise])
    held = np.arange(1001) // frames_per_value * frames_per_value
    return (1.0 / (1.0 + np.exp(2.0 - 2.0 * logits)))[:, held].astype(np.float32)


def subset(name: str, values: Any) -> np.ndarray:
    """The part of an output that the golden file keeps: every so many numbers, at most about 4000."""
    flat = np.ravel(np.asarray(values))
    return flat[zlib.crc32(name.encode()) % 7 :: 1 + len(flat) // 4000]


def shapes_of(tree: Any) -> Any:
    """The shapes of a tree's leaves."""
    return jax.tree.map(lambda leaf: leaf.shape, tree)


def flat(tree: Mapping[str, Any]) -> np.ndarray:
    """All leaves in one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
