"""Tagger Cnn6."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    return study.tagger(scale, "tagger_cnn6", "cnn6")
