"""Query: two learnable layers on the latent one, Cnn14 from scratch."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_mlp_latent_from_scratch")
    config.query.kind = "latent"
    config.query.adaptor_size = study.ADAPTOR_SIZE[scale]
    config.tagger_training = "from_scratch"
    return config
