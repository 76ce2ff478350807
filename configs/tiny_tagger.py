"""Tagger of the bundled model `tiny`: small enough to train on two CPU cores.

python train.py --config=configs/tiny_tagger.py --workdir=runs/tagger --config.data.dataset=DATASET
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = "tagger"
    config.name = "tiny_tagger"
    config.seed = 0
    config.steps = 4000
    config.batch_size = 16  # over all devices of all hosts
    config.log_every = 50  # steps
    config.checkpoint_every = 500  # steps
    config.checkpoints_kept = 2
    config.accumulate = 1  # parts in which a device takes its batch, to need less memory
    config.precision = "float32"  # or tensorfloat32, bfloat16: of matrix products; parameters stay float32
    config.rematerialise = False  # make activations again in the backward pass, to need less memory
    config.half_weights = False  # store the model's weights as 16-bit floats
    config.segment_seconds = 2.0  # of anchors
    config.initial_model = ""  # model directory of a tagger to go on from; "" to begin anew
    config.positive_weight = 1.0  # how much more a class counts where it sounds; above 1 more is heard

    config.data = data = ml_collections.ConfigDict()
    data.dataset = ""  # folder made by `uss-jax prepare`
    data.split = "train"
    data.clip_seconds = 2.0  # clips are cut or padded to this length
    data.loudest = True  # cut around the loudest part of a clip; otherwise anywhere
    data.gain_range_db = 6.0  # a clip is up to this much louder or softer
    data.speed_range = 1.1  # it is played up to this factor faster or slower
    data.equaliser_range_db = 6.0  # a random equaliser makes a clip's frequencies up to this much louder or softer
    data.reverb_share = 0.3  # share of clips that sound in a random room
    data.noise_share = 0.3  # share of items that coloured noise is added to, 10 to 40 dB below
    data.source_count = 1  # clips that are mixed in an item, which has all their labels
    data.most_sources = 3  # an item has from source_count to this many clips; 0 for no more
    data.level_range_db = 6.0  # a further clip has the energy of the first, or is up to this much louder or softer
    data.class_power = 0.5  # 0: every class equally often; 1: as often as it is in the data
    data.mixup_alpha = 5.0  # of the Beta distribution of mixing weights
    data.mixup_share = 0.0  # share of clips that are mixed with another
    data.mixup_union = True  # a mixture has all labels of both clips, rather than weighted ones
    data.workers = 0  # reading processes; 0 reads in threads

    config.tagger = tagger = ml_collections.ConfigDict()
    tagger.kind = "cnn14_decision_level_max"
    tagger.sample_rate_hz = 32_000
    tagger.window = 1024  # samples
    tagger.hop = 320  # samples
    tagger.mel_bands = 64
    tagger.patch = (4, 4)  # frames × mel bands folded into channels
    tagger.widths = (64, 128, 256)
    tagger.embedding_size = 256
    tagger.block_dropout = 0.0
    tagger.head_dropout = 0.2
    tagger.prior = 0.01  # initial probability of every class

    config.evaluation = evaluation = ml_collections.ConfigDict()
    evaluation.every = 0  # steps; 0 for never
    evaluation.dataset = ""  # folder of the dataset; "" for the training data's
    evaluation.split = "validation"
    evaluation.per_class = 10  # clips of each class, at most

    config.optimiser = optimiser = ml_collections.ConfigDict()
    optimiser.schedule = "cosine"
    optimiser.learning_rate = 2e-3
    optimiser.warmup_steps = 100
    optimiser.beta1, optimiser.beta2, optimiser.eps = 0.9, 0.999, 1e-8
    optimiser.weight_decay = 1e-3
    optimiser.clip_norm = 0.0  # greatest norm of the gradient; 0 for no limit
    return config
