"""Sources: 4 in a mixture, 3 to be separated together."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "sources_4_to_3")
    config.data.source_count = 4
    config.data.target_count = 3
    return config
