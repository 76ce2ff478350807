"""Levels: as they are in the clips, and up to 20 dB more or less."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "levels_20_db")
    config.data.match_energy = False
    config.data.level_range_db = 20.0
    return config
