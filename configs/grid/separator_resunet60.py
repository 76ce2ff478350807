"""Separator: ResUNet60."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    return study.separator(scale, "separator_resunet60", kind="resunet60")
