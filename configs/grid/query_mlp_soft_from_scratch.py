"""Query: two learnable layers on the soft one, Cnn14 from scratch."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_mlp_soft_from_scratch")
    config.query.adaptor_size = study.ADAPTOR_SIZE[scale]
    config.tagger_training = "from_scratch"
    return config
