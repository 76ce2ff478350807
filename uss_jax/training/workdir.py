"""Whose a workdir is: the configuration and the data that a run began with, and must go on with."""

import contextlib
import fcntl
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uss_jax import files, parallel

logger = logging.getLogger(__name__)

# What may differ when a run is resumed: it changes nothing in the result, or is the place of an input with a digest.
FREE = (
    "checkpoint_every",
    "checkpoints_kept",
    "data.workers",
    "data.dataset",
    "data.anchors",
    "tagger_model",
    "sed_model",
    "initial_model",
    "evaluation.dataset",
    "evaluation.anchors",
)


def claim(workdir: Path, config: dict[str, Any], inputs: dict[str, str]) -> None:
    """Writes what a run is made of to `run.json`, or compares with what stands there.

    Args:
      workdir: of the run.
      config: its configuration, nested.
      inputs: a digest of each of its inputs, by name.

    Raises:
      ValueError: the workdir belongs to a run with another configuration or other data; the message says what differs.
    """
    path = workdir / "run.json"
    wanted = json.loads(json.dumps({"config": config, "inputs": inputs}))
    if parallel.is_main() and not path.exists():
        files.write_json(path, wanted)
    parallel.wait_for_all("run described")  # so that every host compares its own with that of the first
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before, now = (content["config"] for content in (found, wanted))
        differing = difference(before, now)
        inputs_before = dict(found["inputs"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not the description of a run ({error}); choose another workdir") from error
    if differing:
        raise ValueError(
            f"{path}: this workdir belongs to a run with another configuration ({differing}); choose another one"
        )
    for name in sorted(inputs_before.keys() | inputs.keys()):
        if inputs_before.get(name) != inputs.get(name):
            raise ValueError(f"{path}: this workdir belongs to a run with another {name}; choose another one")


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keeps a second run out of a workdir while the block runs.

    Raises:
      ValueError: another process trains there.
    """
    if not parallel.is_main():
        yield
        return
    files.make_folder(workdir)
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{workdir}: another process trains in this workdir") from error
        except OSError as error:  # some network file systems know no locks
            logger.warning("%s: cannot be locked (%s); see that no other process trains there", workdir, error)
        yield


def difference(before: dict[str, Any], now: dict[str, Any], free: Sequence[str] = FREE) -> str:
    """The first field, but for those in `free`, in which two nested configurations differ, and how; "" for none."""
    old, new = _flat(before), _flat(now)
    for name in sorted(old.keys() | new.keys()):
        if name not in free and old.get(name) != new.get(name):
            return f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
    return ""


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
