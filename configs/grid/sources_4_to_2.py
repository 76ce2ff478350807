"""Sources: 4 in a mixture, 2 to be separated together."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "sources_4_to_2")
    config.data.source_count = 4
    config.data.target_count = 2
    return config
