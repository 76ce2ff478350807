"""Query: the clip's labels, one or more ones (hard)."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "query_hard")
    config.query.kind = "hard"
    return config
