"""Data: the balanced part alone; at the small scale a quarter, six clips of each class."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "data_balanced")
    config.data.split = "train"
    config.data.clips_per_class = 6 if scale == "small" else 0  # AudioSet's balanced part is a split of its own
    return config
