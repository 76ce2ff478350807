"""Trains a tagger or a separator: python train.py --config=configs/X.py --workdir=W [--config.a.b=v]."""

import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from uss_jax.training.loop import train

CONFIG = config_flags.DEFINE_config_file("config", None, "what to train", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; a run found there is resumed")


def main(argv: list[str]) -> None:
    """Parses flags and trains; one sentence and exit status 1 where the input is wrong."""
    assert WORKDIR.value is not None
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    absl_logging.set_verbosity(absl_logging.WARNING)  # of the libraries
    logger = logging.getLogger("uss_jax")
    logger.setLevel(logging.INFO)
    try:
        folder = train(CONFIG.value, Path(WORKDIR.value))
    except (ValueError, FloatingPointError, OSError) as error:
        sys.exit(f"train.py: {error}")
    logger.info("model written to %s", folder)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
