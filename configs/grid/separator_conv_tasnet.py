"""Separator: Conv-TasNet."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    return study.separator(scale, "separator_conv_tasnet", kind="conv_tasnet")
