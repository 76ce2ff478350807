"""The paper's separator under the latent query, the embedding of Cnn14, on all of AudioSet.

    python train.py --config=configs/resunet30_latent.py --workdir=runs/resunet30_latent \
        --config.data.dataset=DATASET --config.data.anchors=ANCHORS --config.tagger_model=cnn14
"""

import ml_collections

from configs import resunet30_soft


def get_config() -> ml_collections.ConfigDict:
    config = resunet30_soft.get_config()
    config.name = "resunet30_latent"
    config.query.kind = "latent"
    return config
