"""From the weights of the PyTorch reference (`panns_inference`, `uss`) to the variable trees of this project.

A state is a mapping from PyTorch's parameter names to NumPy arrays. Because the conversion only copies and transposes,
it also maps gradients, as long as the mapping holds something for the buffers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

State = Mapping[str, np.ndarray]

TAGGER_BLOCKS = 6
RESUNET_LEVELS = 6


def conv_params(state: State, name: str) -> dict[str, np.ndarray]:
    """Conv2d: weight (out, in, time, frequency) → kernel (time, frequency, in, out); bias where there is one."""
    params = {"kernel": state[f"{name}.weight"].transpose(2, 3, 1, 0)}
    if f"{name}.bias" in state:
        params["bias"] = state[f"{name}.bias"]
    return params


def linear_params(state: State, name: str) -> dict[str, np.ndarray]:
    """Linear: weight (out, in) → kernel (in, out)."""
    return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}


def upsample_params(state: State, name: str) -> dict[str, Any]:
    """ConvTranspose2d whose kernel is its stride: weight (in, out, p, q) → kernel (in, p·q·out) of a Dense.

    `layers.unfold` splits the Dense's outputs into (p, q, out), in this order.
    """
    weight = state[f"{name}.weight"].transpose(0, 2, 3, 1)
    return {"Dense_0": {"kernel": weight.reshape(weight.shape[0], -1)}}


def norm_params(state: State, name: str) -> dict[str, np.ndarray]:
    """BatchNorm2d: its parameters."""
    return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}


def norm_stats(state: State, name: str) -> dict[str, np.ndarray]:
    """BatchNorm2d: its running statistics."""
    return {"mean": state[f"{name}.running_mean"], "var": state[f"{name}.running_var"]}


def tagger_variables(state: State) -> dict[str, Any]:
    """Variables of Cnn14 and Cnn14DecisionLevelMax, whose parameters have the same names."""
    params: dict[str, Any] = {"bn0": norm_params(state, "bn0")}
    stats: dict[str, Any] = {"bn0": norm_stats(state, "bn0")}
    for i in range(TAGGER_BLOCKS):
        name = f"conv_block{i + 1}"
        params[f"block{i}"] = {conv: conv_params(state, f"{name}.{conv}") for conv in ("conv1", "conv2")}
        params[f"block{i}"] |= {norm: norm_params(state, f"{name}.{norm}") for norm in ("bn1", "bn2")}
        stats[f"block{i}"] = {norm: norm_stats(state, f"{name}.{norm}") for norm in ("bn1", "bn2")}
    for name in ("fc1", "fc_audioset"):
        params[name] = linear_params(state, name)
    return {"params": params, "batch_stats": stats}


def norm_film(state: State, block: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and statistics of a NormFilm: BatchNorm `number` of a block, and its FiLM.

    `uss` keeps the linear maps of all FiLMs in one module, under their paths joined by "->".
    """
    norm = f"base.{block}.bn{number}"
    film = "film." + "->".join([*block.split("."), f"beta{number}"])
    return {"bn": norm_params(state, norm), "film": linear_params(state, film)}, {"bn": norm_stats(state, norm)}


def residual_block(state: State, block: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and statistics of a ResidualBlock."""
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for number in (1, 2):
        params[f"norm{number}"], stats[f"norm{number}"] = norm_film(state, block, number)
        params[f"conv{number}"] = conv_params(state, f"base.{block}.conv{number}")
    if f"base.{block}.shortcut.weight" in state:
        params["shortcut"] = conv_params(state, f"base.{block}.shortcut")
    return params, stats


def resunet_variables(state: State) -> dict[str, Any]:
    """Variables of ResUNet from those of ResUNet30.

    The second BatchNorm and FiLM of each decoder block are left out: the reference never uses them.
    """
    params: dict[str, Any] = {name: conv_params(state, f"base.{name}") for name in ("pre_conv", "after_conv")}
    params["bn0"] = norm_params(state, "base.bn0")
    stats: dict[str, Any] = {"bn0": norm_stats(state, "base.bn0")}

    blocks = {"middle": "conv_block7a.conv_block1"}
    for level in range(RESUNET_LEVELS):
        decoder = f"decoder_block{RESUNET_LEVELS - level}"  # the reference counts them from the deepest
        blocks[f"encoder{level}"] = f"encoder_block{level + 1}.conv_block1"
        blocks[f"decoder{level}"] = f"{decoder}.conv_block2"
        params[f"up_norm{level}"], stats[f"up_norm{level}"] = norm_film(state, decoder, 1)
        params[f"up{level}"] = upsample_params(state, f"base.{decoder}.conv1")
    for name, block in blocks.items():
        params[name], stats[name] = residual_block(state, block)
    return {"params": params, "batch_stats": stats}


def randomise(module: Any, seed: int, run: Callable[[], Any]) -> None:
    """Gives a PyTorch module weights and BatchNorm statistics like those of a trained one.

    Weights keep the scale of what passes through them, scales of BatchNorm are 1 ± 0.1, and running statistics are
    near those of each layer's input while `run` is called, off by a few per cent. So nothing saturates: a saturated
    output would be equal to another whatever the weights are.

    Args:
      module: changed in place, and left in evaluation mode.
      seed: of the weights.
      run: calls the module on typical input.
    """
    import torch  # here, so that the conversions above work without it

    torch_rng = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, mean: float, std: float) -> torch.Tensor:
        return mean + std * torch.randn(like.shape, generator=torch_rng)

    def measure(norm: Any, inputs: tuple[torch.Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
        norm.running_mean.copy_(mean + normal(mean, 0.0, 0.05) * variance.sqrt())
        norm.running_var.copy_(variance * torch.exp(normal(variance, 0.0, 0.1)))

    module.eval()
    hooks = []
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.copy_(normal(layer.weight, 1.0, 0.1))
                layer.bias.copy_(normal(layer.bias, 0.0, 0.1))
                hooks.append(layer.register_forward_pre_hook(measure))
            elif isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear, torch.nn.ConvTranspose2d)):
                transposed = isinstance(layer, torch.nn.ConvTranspose2d)  # its outputs sum over input channels only
                inputs = layer.in_channels if transposed else layer.weight[0].numel()
                layer.weight.copy_(normal(layer.weight, 0.0, inputs**-0.5))
                if layer.bias is not None:
                    layer.bias.copy_(normal(layer.bias, 0.0, 0.1))
        run()
    for hook in hooks:
        hook.remove()
