"""Anchors: 0.5 s long."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "anchors_0_5_s")
    config.data.anchor_seconds = 0.5
    return config
