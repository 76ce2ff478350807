"""Weights for `against_reference.py`: checkpoint files of the reference, random from a fixed seed, but sane.

They keep the scale of what passes through them, and statistics of BatchNorm are measured, so that no layer saturates. A
random tagger hears everything or nothing; the outputs of this one are shifted and scaled until it hears four classes in
a third of the scene's blocks each, and nothing else.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from materials import LARGEST_BATCH, LEVELS, Materials

from uss_jax import audioset, files

HEARD = ("Speech", "Bark", "Rain", "Music")  # of different branches: ten nodes of levels 1 to 3
HEARD_SHARE = 1 / 3  # of the blocks
SPREAD, UNHEARD = 0.7, -6.0  # standard deviation of every logit over the blocks; mean of those that are never heard


def _draw(module: Any, run: Callable[[Any], Any]) -> Any:
    """Gives a module its weights, and its BatchNorm the statistics of what `run` passes through it."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            transposed = isinstance(layer, nn.ConvTranspose2d)  # as wide as its stride: outputs sum over channels alone
            fan_in = layer.weight.shape[0] if transposed else layer.weight[0].numel()
            nn.init.normal_(layer.weight, 0.0, fan_in**-0.5, generator)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.1, generator)
        else:
            continue
        if layer.bias is not None:
            nn.init.normal_(layer.bias, 0.0, 0.1, generator)
    module.eval()
    for norm in norms:
        norm.momentum = None  # running statistics are then those of all that passed
        norm.train()
    with torch.no_grad():
        run(module)
    return module.eval()


def random_tagger(name: str, materials: Materials) -> Any:
    """A tagger of the reference with random weights."""
    import torch
    from uss.utils import load_pretrained_panns

    segments = torch.from_numpy(materials.blocks()[:LARGEST_BATCH])
    return _draw(load_pretrained_panns(name, checkpoint_path="", freeze=False), lambda module: module(segments))


def save_tagger(materials: Materials) -> None:
    """Cnn14, with its last layer shifted and scaled so that it hears what it should."""
    import torch

    from uss_jax.targets import THRESHOLD

    tagger = random_tagger("Cnn14", materials)
    scene = torch.from_numpy(materials.blocks())
    with torch.no_grad():
        logits = torch.cat([tagger.fc_audioset(tagger(block[None])["embedding"]) for block in scene])
        scale = SPREAD / logits.std(dim=0)
        scaled = logits * scale
        offset = UNHEARD - scaled.mean(dim=0)
        for name in HEARD:
            index = audioset.find_class(name).index
            least = torch.quantile(scaled[:, index], 1 - HEARD_SHARE)  # between two blocks, so that none is on the edge
            offset[index] = np.log(THRESHOLD / (1 - THRESHOLD)) - least
        tagger.fc_audioset.weight.mul_(scale[:, None])
        tagger.fc_audioset.bias.mul_(scale).add_(offset)
    _save(materials.tagger, {"model": tagger.state_dict()})


def save_detector(materials: Materials) -> None:
    """Cnn14_DecisionLevelMax, its last layer shifted and scaled: where a class is always 1, any anchor is as good."""
    import torch

    detector = random_tagger("Cnn14_DecisionLevelMax", materials)
    seen: list[Any] = []
    hook = detector.fc_audioset.register_forward_hook(lambda module, given, made: seen.append(made.flatten(0, 1)))
    sounds, _ = materials.clip_sounds()
    with torch.no_grad():
        for sound in sounds[:LARGEST_BATCH]:
            detector(torch.from_numpy(sound)[None])
        logits = torch.cat(seen)
        scale = SPREAD / logits.std(dim=0)
        detector.fc_audioset.weight.mul_(scale[:, None])
        detector.fc_audioset.bias.sub_(logits.mean(dim=0)).mul_(scale)
    hook.remove()
    _save(materials.detector, {"model": detector.state_dict()})


def save_separator(materials: Materials) -> None:
    """ResUNet30 and the query net, written by Lightning itself."""
    import lightning.pytorch as pl
    import torch
    from uss.models.pl_modules import LitSeparation
    from uss.models.query_nets import Cnn14_Wrapper
    from uss.models.resunet import ResUNet30

    mixtures = torch.from_numpy(materials.blocks()[:LARGEST_BATCH])[:, None]
    passed = {"mixture": mixtures, "condition": torch.from_numpy(materials.conditions()[: len(mixtures)])}
    separator = ResUNet30(input_channels=1, output_channels=1, condition_size=audioset.CLASS_COUNT)
    unused = dict.fromkeys(("anchor_segment_detector", "anchor_segment_mixer", "loss_function", "optimizer_type"))
    model = LitSeparation(
        ss_model=_draw(separator, lambda module: module(passed)),
        query_net=Cnn14_Wrapper("at_soft", base_checkpoint_path=str(materials.tagger), freeze_base=True),
        learning_rate=1e-3,
        lr_lambda_func=None,
        **unused,
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it tells which devices it does not use
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=materials.folder, logger=False)
    trainer.strategy.connect(model)
    with files.new_file(materials.separator) as path:
        trainer.save_checkpoint(path)


def _save(path: Path, content: dict[str, Any]) -> None:
    import torch

    with files.new_file(path) as temporary:
        torch.save(content, temporary)


def heard(materials: Materials) -> dict[str, int]:
    """How many nodes are active in the scene, and how many of their blocks."""
    import torch
    from uss.utils import load_pretrained_panns

    from uss_jax.targets import THRESHOLD

    tagger = load_pretrained_panns("Cnn14", checkpoint_path=str(materials.tagger), freeze=True).eval()
    probabilities = np.stack(
        [tagger(torch.from_numpy(block)[None])["clipwise_output"][0].numpy() for block in materials.blocks()]
    )
    nodes = [node for level in LEVELS for node in audioset.nodes_at(level)]
    active = np.stack([probabilities[:, node.class_indices].max(axis=1) >= THRESHOLD for node in nodes])
    return {"blocks": len(probabilities), "nodes": int(active.any(axis=1).sum()), "pairs": int(active.sum())}
