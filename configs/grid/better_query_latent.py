"""Ours, with the latent query."""

import ml_collections

from configs.grid import better


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = better.get_config(scale)
    config.name = "better_query_latent"
    config.query.kind = "latent"
    return config
