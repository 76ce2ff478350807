"""Anchors: 4 s long."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "anchors_4_s")
    config.data.anchor_seconds = 4.0
    return config
