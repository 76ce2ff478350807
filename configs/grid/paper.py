"""The paper's recipe: soft query of a frozen Cnn14, ResUNet30, mined 2-s anchors of equal energy, L1."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    return study.separator(scale, "paper")
