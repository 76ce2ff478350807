"""The paper's separator under the soft query, on the balanced part of AudioSet.

    python train.py --config=configs/resunet30_soft_balanced.py --workdir=runs/resunet30_soft_balanced \
        --config.data.dataset=DATASET --config.data.anchors=ANCHORS --config.tagger_model=cnn14
"""

import ml_collections

from configs import resunet30_soft


def get_config() -> ml_collections.ConfigDict:
    config = resunet30_soft.get_config()
    config.name = "resunet30_soft_balanced"
    config.data.split = "train"
    return config
