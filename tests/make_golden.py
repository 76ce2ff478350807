"""Runs the PyTorch reference on seeded weights and sounds, and keeps its numbers in tests/golden.npz.

    python tests/make_golden.py [FILE]

Needs the extra `parity` and the packages `uss` and `panns_inference` (see the README). tests/test_golden.py compares
this project with the file where none of these is installed; tests/test_parity.py checks that they still give it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import reference
import seeded
import torch
from seeded import NETWORKS, conditions, curves, normal, sounds, subset

from uss_jax.pytorch import names


def statistics(name: str) -> dict[str, np.ndarray]:
    """Running statistics near those of each layer's input on typical sounds, off by a few per cent; float16."""
    network = NETWORKS[name]
    module = reference.load(reference.bare_module(name), seeded.draw(network))
    found = {}

    def measure(name: str, norm: Any, inputs: tuple[Any]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
        off = [torch.from_numpy(normal(mean.shape, 2, name + kind)) for kind in ("mean", "variance")]
        norm.running_mean.copy_((mean + 0.05 * off[0] * variance.sqrt()).half())
        norm.running_var.copy_((variance * torch.exp(0.1 * off[1])).half())
        found[f"{name}.running_mean"] = norm.running_mean.numpy().astype(np.float16)
        found[f"{name}.running_var"] = norm.running_var.numpy().astype(np.float16)

    for path, layer in module.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda norm, inputs, path=path: measure(path, norm, inputs))
    with torch.no_grad():
        reference.run(module, *seeded.inputs(network, 64_000, seed=9))
    return {f"statistics/{network.statistics}/{key}": value for key, value in found.items()}


def outputs(name: str) -> dict[str, np.ndarray]:
    """What a network makes of two seconds of sound."""
    with torch.no_grad():
        found = reference.run(reference.module(name), *seeded.inputs(NETWORKS[name], 64_000))
    return {f"{name}/{key}": subset(key, value) for key, value in found.items()}


def training() -> dict[str, np.ndarray]:
    """The L1 loss of ResUNet30, its gradient, and three steps of the optimiser on given gradients."""
    network = NETWORKS["ResUNet30_soft"]
    state = seeded.state("ResUNet30_soft")
    loss, gradients = reference.loss_and_gradient(
        reference.module("ResUNet30_soft"), sounds(64_000), conditions(527), sounds(64_000, seed=5)
    )
    tree = names.to_linen(state | gradients, network.tensors)
    path = reference.optimise(normal((200,), 0, "start"), normal((3, 200), 0, "gradients"))
    return {
        "training/loss": np.float32(loss),
        "training/gradient": subset("gradient", seeded.flat(tree["params"])),
        "training/steps": np.stack(path),
    }


def spectra() -> dict[str, np.ndarray]:
    """Spectra of two seconds of sound."""
    from torchlibrosa.stft import STFT

    audio = torch.from_numpy(sounds(64_000))
    tagger = reference.bare_module("Cnn14")
    with torch.no_grad():
        log_mel = tagger.logmel_extractor(tagger.spectrogram_extractor(audio))
        real, imag = STFT(n_fft=2048, hop_length=320)(audio)
    found = {"log_mel": log_mel, "real": real, "imag": imag}
    return {f"spectra/{key}": subset(key, value) for key, value in found.items()}


def anchors() -> dict[str, np.ndarray]:
    """First frames of anchors in probability curves."""
    return {f"anchors/{held}": reference.anchor_starts(curves(300, held)).astype(np.int16) for held in (1, 32)}


def main() -> None:
    """Writes the file; the statistics first, since the networks need them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=seeded.GOLDEN)
    path = parser.parse_args().file
    measured = statistics("Cnn14") | statistics("ResUNet30_soft")
    np.savez_compressed(path, **measured)
    seeded.GOLDEN = path
    found = measured | spectra() | anchors() | training()
    for name in NETWORKS:
        found |= outputs(name)
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main()
