"""Ours, and FiLM with a scale beside the shift."""

import ml_collections

from configs.grid import better


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = better.get_config(scale)
    config.name = "better_film_scale"
    config.separator.film_scale = True
    return config
