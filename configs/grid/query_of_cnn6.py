"""Query: soft, of Cnn6 in place of Cnn14."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_of_cnn6")
    config.tagger_model = "tagger_cnn6"
    return config
