"""Levels: as they are in the clips."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "levels_as_recorded")
    config.data.match_energy = False
    return config
