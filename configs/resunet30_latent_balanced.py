"""The paper's separator under the latent query, on the balanced part of AudioSet.

    python train.py --config=configs/resunet30_latent_balanced.py --workdir=runs/resunet30_latent_balanced \
        --config.data.dataset=DATASET --config.data.anchors=ANCHORS --config.tagger_model=cnn14
"""

import ml_collections

from configs import resunet30_latent


def get_config() -> ml_collections.ConfigDict:
    config = resunet30_latent.get_config()
    config.name = "resunet30_latent_balanced"
    config.data.split = "train"
    return config
