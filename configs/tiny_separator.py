"""Separator of the bundled model `tiny`: few time-frequency positions, many channels, quick on two CPU cores.

    python train.py --config=configs/tiny_separator.py --workdir=runs/separator \
        --config.data.dataset=DATASET --config.data.anchors=ANCHORS --config.tagger_model=runs/tagger/model
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = "separator"
    config.name = "tiny"
    config.seed = 0
    config.steps = 5600
    config.batch_size = 8  # over all devices of all hosts
    config.log_every = 50  # steps
    config.checkpoint_every = 500  # steps
    config.checkpoints_kept = 2
    config.accumulate = 1  # parts in which a device takes its batch, to need less memory
    config.precision = "float32"  # or tensorfloat32, bfloat16: of matrix products; parameters stay float32
    config.rematerialise = False  # make activations again in the backward pass, to need less memory
    config.half_weights = True  # store the model's weights as 16-bit floats
    config.tagger_model = ""  # model directory of the frozen tagger
    config.tagger_training = "frozen"  # or fine_tuned, from_scratch: of the tagger that gives the query
    config.sed_model = ""  # model directory of the tagger that found the anchors, to go with the model; "" for none
    config.initial_model = ""  # model directory of a separator to go on from; "" to begin anew
    config.loss = "negative_sdr"  # l1, l1_spectrogram or negative_sdr

    config.data = data = ml_collections.ConfigDict()
    data.dataset = ""  # folder made by `uss-jax prepare`
    data.anchors = ""  # folder made by `uss-jax anchors`
    data.split = "train"
    data.least_confidence = 0.1  # anchors of which the tagger is less sure are left out
    data.clips_per_class = 0  # anchors of at most so many clips of each class; 0 for all
    data.anchors_from = "mined"  # or out_of_clip: any part of the clips; in_clip: any parts of one clip are mixed
    data.anchor_seconds = 2.0  # length of an anchor
    data.source_count = 2  # sources in a mixture
    data.most_sources = 3  # a mixture has from source_count to this many sources; 0 for no more
    data.target_count = 1  # how many of them are to be separated, together
    data.class_power = 0.7  # 0: every class equally often; 1: as often as it is in the data
    data.shift_seconds = 0.5  # an anchor is moved by up to this much
    data.match_energy = True  # partners get the energy of the target
    data.level_range_db = 5.0  # a partner is up to this much louder or softer than that
    data.gain_range_db = 6.0  # a mixture is up to this much louder or softer
    data.speed_range = 1.1  # sources are played up to this factor faster or slower
    data.equaliser_range_db = 6.0  # a random equaliser makes a source's frequencies up to this much louder or softer
    data.reverb_share = 0.3  # share of sources that sound in a random room
    data.noise_share = 0.3  # share of mixtures that coloured noise is added to, 10 to 40 dB below
    data.label_query_share = 0.3  # share of queries that keep only the labelled classes
    data.workers = 0  # reading processes; 0 reads in threads

    config.query = query = ml_collections.ConfigDict()
    query.kind = "soft"
    query.adaptor_size = 0  # outputs of learnable layers after the tagger; 0 for none
    query.hidden = 2048  # units between them

    config.separator = separator = ml_collections.ConfigDict()
    separator.kind = "resunet"
    separator.window = 2048  # samples
    separator.hop = 512  # samples
    separator.patch = (4, 16)  # frames × bins folded into channels
    separator.widths = (48, 96, 160)
    separator.strides = ((2, 2), (2, 2), (2, 2))
    separator.magnitude_power = 0.5
    separator.normalise_level = True
    separator.film_scale = True
    separator.momentum = 0.95

    config.evaluation = evaluation = ml_collections.ConfigDict()
    evaluation.every = 0  # steps; 0 for never
    evaluation.dataset = ""  # folder of the dataset; "" for the training data's
    evaluation.split = "validation"
    evaluation.anchors = ""  # folder of its anchors; "" for the training data's
    evaluation.per_class = 10  # mixtures of each class

    config.optimiser = optimiser = ml_collections.ConfigDict()
    optimiser.schedule = "cosine"
    optimiser.learning_rate = 3e-3
    optimiser.warmup_steps = 100
    optimiser.beta1, optimiser.beta2, optimiser.eps = 0.9, 0.999, 1e-8
    optimiser.weight_decay = 0.0
    optimiser.clip_norm = 5.0  # greatest norm of the gradient; 0 for no limit
    return config
