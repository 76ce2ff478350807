"""Ours, and FiLM with a scale beside the shift."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "better_film_scale")
    config.loss = "negative_sdr"
    config.separator.magnitude_power = 0.5
    config.separator.normalise_level = True
    config.separator.film_scale = True
    return config
