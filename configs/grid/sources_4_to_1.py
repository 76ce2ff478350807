"""Sources: 4 in a mixture, 1 to be separated."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "sources_4_to_1")
    config.data.source_count = 4
    return config
