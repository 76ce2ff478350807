"""Separator: Open-Unmix (BLSTM)."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    return study.separator(scale, "separator_open_unmix", kind="open_unmix")
