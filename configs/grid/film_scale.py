"""FiLM: a scale beside the shift."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "film_scale")
    config.separator.film_scale = True
    return config
