"""Query: soft, of a transformer in place of Cnn14."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_of_transformer")
    config.tagger_model = "tagger_transformer"
    return config
