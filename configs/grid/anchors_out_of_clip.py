"""Anchors: any parts of clips of different classes."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "anchors_out_of_clip")
    config.data.anchors_from = "out_of_clip"
    return config
