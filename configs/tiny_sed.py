"""The tagger that hears when a class sounds, and so finds the anchors for `tiny`.

python train.py --config=configs/tiny_sed.py --workdir=runs/sed --config.data.dataset=DATASET
"""

import ml_collections

from configs import tiny_tagger


def get_config() -> ml_collections.ConfigDict:
    config = tiny_tagger.get_config()
    config.name = "tiny_sed"
    config.steps = 2500
    config.tagger.kind = "cnn14_decision_level_max"
    return config
