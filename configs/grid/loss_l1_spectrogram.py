"""Loss: L1 of waveforms and of magnitude spectrograms."""

import ml_collections

from configs import study


def get_config(scale: str = "small") -> ml_collections.ConfigDict:
    config = study.separator(scale, "loss_l1_spectrogram")
    config.loss = "l1_spectrogram"
    return config
