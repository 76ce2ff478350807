"""Anchors: 6 s long."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "anchors_6_s")
    config.data.anchor_seconds = 6.0
    return config
