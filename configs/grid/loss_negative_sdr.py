"""Loss: SDR in dB, up to 30 dB."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "loss_negative_sdr")
    config.loss = "negative_sdr"
    return config
