"""Input: square root of magnitudes, each clip at one level."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "level_free")
    config.separator.magnitude_power = 0.5
    config.separator.normalise_level = True
    return config
