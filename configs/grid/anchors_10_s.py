"""Anchors: 10 s long."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "anchors_10_s")
    config.data.anchor_seconds = 10.0
    return config
