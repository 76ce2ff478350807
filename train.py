"""Trains a tagger or a separator: python train.py --config=configs/X.py --workdir=W [--config.a.b=v].

On several hosts the same command runs once on each, with --multihost; the workdir is one that all of them see.
"""

import logging
import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from uss_jax import parallel
from uss_jax.training.loop import train
from uss_jax.training.stopping import Stopped

CONFIG = config_flags.DEFINE_config_file("config", None, "what to train", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; a run found there is resumed")
MULTIHOST = flags.DEFINE_bool("multihost", False, "one process of several, a host each; the cluster says which")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster says it")
PROCESSES = flags.DEFINE_integer("processes", None, "how many there are, with --coordinator")
PROCESS = flags.DEFINE_integer("process", None, "the number of this one, from 0, with --coordinator")
PROFILE = flags.DEFINE_bool("profile", False, "write an XLA trace of a few steps to the workdir")


def main(argv: list[str]) -> None:
    """Trains; one sentence and exit status 1 where the input is wrong."""
    assert WORKDIR.value is not None
    if len(argv) > 1:
        refuse(f"unexpected argument {argv[1]!r}")
    absl_logging.set_verbosity(absl_logging.WARNING)  # of the libraries
    logger = logging.getLogger("uss_jax")
    cluster = [flag for flag in (COORDINATOR, PROCESSES, PROCESS) if flag.value is not None]
    if cluster and not MULTIHOST.value:
        refuse(f"--{cluster[0].name} goes with --multihost")
    try:
        if MULTIHOST.value:
            parallel.initialise(COORDINATOR.value, PROCESSES.value, PROCESS.value)
        logger.setLevel(logging.INFO if parallel.is_main() else logging.WARNING)
        folder = train(CONFIG.value, Path(WORKDIR.value), PROFILE.value)
    except Stopped as stopped:
        sys.stderr.write(f"train.py: {stopped}\n")
        sys.exit(stopped.status)
    except (ValueError, FloatingPointError, OSError) as error:
        sys.stderr.write(f"train.py: {error}\n")
        parallel.exit_at_once(1)
    except AttributeError as error:
        if not isinstance(innermost(error), KeyError):
            raise
        sys.stderr.write(f"train.py: {config_path(sys.argv)}: {message(error)}\n")
        parallel.exit_at_once(1)
    logger.info("model written to %s", folder)


def parse_flags(argv: list[str]) -> list[str]:
    """As absl does, but that a wrong flag, configuration or field gets one sentence, and exit status 1."""
    try:
        rest: list[str] = flags.FLAGS(argv)
        _ = CONFIG.value.task  # only now a missing file is told
        return rest
    except flags.Error as error:
        refuse(message(error))
    except Exception as error:  # a configuration is a program
        refuse(f"{config_path(argv)}: {message(error)}")


def refuse(says: str) -> NoReturn:
    """Ends with a sentence."""
    sys.stderr.write(f"train.py: {says}\n")
    sys.exit(1)


def config_path(argv: list[str]) -> str:
    """What the flag `--config` has been given."""
    for given, following in zip(argv, [*argv[1:], ""], strict=True):
        name, _, value = given.lstrip("-").partition("=")
        if name == "config":
            return value or following
    return "--config"


def message(error: BaseException) -> str:
    """What an error says, or the last of it: where a configuration raises one, absl gives all of the traceback."""
    error = innermost(error)
    lines = [
        line.strip() for line in str(error.args[0] if len(error.args) == 1 else error).splitlines() if line.strip()
    ]
    if isinstance(error, KeyError):  # ml_collections' answer to a field that it has not
        return f"has no {'; '.join(lines)}"
    return lines[-1] if lines else type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """The error that others were made of."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
