"""Anchors: any two parts of one clip, mixed."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "anchors_in_clip")
    config.data.anchors_from = "in_clip"
    return config
