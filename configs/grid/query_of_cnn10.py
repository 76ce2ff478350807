"""Query: soft, of Cnn10 in place of Cnn14."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_of_cnn10")
    config.tagger_model = "tagger_cnn10"
    return config
