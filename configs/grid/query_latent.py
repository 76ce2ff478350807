"""Query: the embedding of Cnn14 (latent)."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_latent")
    config.query.kind = "latent"
    return config
