"""Tagger Cnn14_DecisionLevelMax, which finds the anchors."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    return study.tagger(scale, "tagger_sed", "cnn14_decision_level_max")
