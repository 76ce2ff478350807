"""Query: two learnable layers on the latent one, Cnn14 fine-tuned."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_mlp_latent_fine_tuned")
    config.query.kind = "latent"
    config.query.adaptor_size = study.ADAPTOR_SIZE[scale]
    config.tagger_training = "fine_tuned"
    return config
