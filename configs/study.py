"""What the paper's study has in common: a base for the configurations of `configs/grid`, at two scales.

`paper` is the paper's run on AudioSet, for accelerators. `small` is the same with small networks and few steps, for two
CPU cores and a small dataset; it compares recipes, and makes no model that is of use.
"""

from typing import Any

import ml_collections

from configs import cnn14_sed, resunet30_soft

PATCHES = {"window": 1024, "hop": 512, "patch": (4, 8)}  # a spectrogram of few positions
LEVELS = {"widths": (16, 32, 64), "strides": ((2, 2), (2, 2), (2, 2)), "momentum": 0.95}
SPECTRUM = {"window": 2048, "hop": 320}
SEPARATORS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {  # fields that are left out are the reference's
        "resunet30": {"kind": "resunet", **SPECTRUM},
        "resunet60": {"kind": "resunet", **SPECTRUM, "blocks_per_level": 2},
        "unet": {"kind": "unet", **SPECTRUM},
        "conv_tasnet": {"kind": "conv_tasnet", **SPECTRUM},
        "open_unmix": {"kind": "open_unmix", **SPECTRUM},
    },
    "small": {
        "resunet30": {"kind": "resunet", **PATCHES, **LEVELS},
        "resunet60": {"kind": "resunet", **PATCHES, **LEVELS, "blocks_per_level": 2},
        "unet": {"kind": "unet", **PATCHES, **LEVELS},
        "conv_tasnet": {
            "kind": "conv_tasnet",
            "window": 1024,
            "hop": 512,
            "filters": 128,
            "kernel": 256,
            "bottleneck": 64,
            "hidden": 128,
            "blocks": 5,
            "repeats": 2,
            "momentum": 0.95,
        },
        "open_unmix": {"kind": "open_unmix", "window": 1024, "hop": 512, "hidden": 128, "layers": 3, "momentum": 0.95},
    },
}
TAGGERS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {kind: {} for kind in ("cnn6", "cnn10", "cnn14", "cnn14_decision_level_max", "transformer")},
    "small": {
        "cnn6": {"patch": (4, 4), "widths": (48, 96), "embedding_size": 256},
        "cnn10": {"patch": (4, 4), "widths": (48, 96), "embedding_size": 256},
        "cnn14": {"patch": (4, 4), "widths": (48, 96, 192), "embedding_size": 256},
        "cnn14_decision_level_max": {"patch": (4, 4), "widths": (48, 96, 192), "embedding_size": 256},
        "transformer": {"dimension": 96, "depth": 3, "heads": 3, "embedding_size": 256},
    },
}
ADAPTOR_SIZE = {"paper": 2048, "small": 256}  # of a learnable query net
SMALL_TAGGER = {"block_dropout": 0.0, "head_dropout": 0.2, "prior": 0.01}


def separator(scale: str, name: str, kind: str = "resunet30") -> ml_collections.ConfigDict:
    """The paper's recipe for a separator: soft query of a frozen Cnn14, mined two-second anchors of equal energy, L1.

    Args:
      scale: `small` or `paper`.
      name: of the configuration, as of its file.
      kind: one of `SEPARATORS`.

    Raises:
      ValueError: there is no such scale.
    """
    _check_scale(scale)
    config = resunet30_soft.get_config()
    config.name = name
    config.tagger_model = "tagger_cnn14"  # a configuration beside this one, or a model
    config.sed_model = "tagger_sed"
    config.separator = ml_collections.ConfigDict(SEPARATORS[scale][kind])
    config.evaluation.every = 0  # the trained model is evaluated, by the average and other protocols
    if scale == "small":
        _shorten(config, steps=400, batch_size=8)
        config.half_weights = True
        config.query.hidden = 256
        config.optimiser.learning_rate = 4e-3
        config.optimiser.schedule = "cosine"  # the paper's first 30,000 steps only warm up
        config.optimiser.clip_norm = 5.0
    return config


def tagger(scale: str, name: str, kind: str) -> ml_collections.ConfigDict:
    """A tagger of PANNs' recipe.

    Args:
      scale: `small` or `paper`.
      name: of the configuration, as of its file.
      kind: one of `TAGGERS`.

    Raises:
      ValueError: there is no such scale.
    """
    _check_scale(scale)
    config = cnn14_sed.get_config()
    config.name = name
    config.tagger = ml_collections.ConfigDict({"kind": kind} | TAGGERS[scale][kind])
    if scale == "small":
        config.tagger.update(SMALL_TAGGER)
        _shorten(config, steps=600, batch_size=16)
        config.optimiser.learning_rate = 2e-3
        config.data.clip_seconds = 2.0
        config.data.loudest = True
        config.data.gain_range_db = 6.0
        config.data.speed_range = 1.1
        config.data.mixup_alpha = 5.0
        config.data.mixup_share = 0.5
        config.data.mixup_union = True
        config.optimiser.weight_decay = 1e-3
    return config


def _check_scale(scale: str) -> None:
    if scale not in SEPARATORS:
        raise ValueError(f"scale {scale!r}: expected one of {', '.join(SEPARATORS)}")


def _shorten(config: ml_collections.ConfigDict, steps: int, batch_size: int) -> None:
    """What both tasks have in common at the small scale."""
    config.steps = steps
    config.batch_size = batch_size
    config.log_every = steps // 20
    config.checkpoint_every = steps // 2
    config.checkpoints_kept = 1
    config.data.split = "train"
    config.data.workers = 0
    config.optimiser.warmup_steps = steps // 10
