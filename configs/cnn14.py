"""Cnn14 of PANNs on ten-second clips: the tagger whose output is the paper's query.

python train.py --config=configs/cnn14.py --workdir=runs/cnn14 --config.data.dataset=DATASET
"""

import ml_collections

from configs import cnn14_sed


def get_config() -> ml_collections.ConfigDict:
    config = cnn14_sed.get_config()
    config.name = "cnn14"
    config.tagger.kind = "cnn14"
    return config
