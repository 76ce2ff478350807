"""Ours, with the latent query."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "better_query_latent")
    config.loss = "negative_sdr"
    config.separator.magnitude_power = 0.5
    config.separator.normalise_level = True
    config.query.kind = "latent"
    return config
