"""What runs leave behind: read only where it is of the run that is asked for."""

import json
from typing import Any

from uss_jax import files
from uss_jax.dataset import Clips
from uss_jax.grid.plan import Job, Study
from uss_jax.training import workdir

FREE = ("checkpoint_every", "checkpoints_kept", "data.workers")  # fields that change nothing in a result


def read(job: Job, study: Study) -> dict[str, Any] | None:
    """The result of a run that is done, of all evaluations that are asked for and perhaps others; None elsewhere.

    Raises:
      ValueError: it is that of another configuration, or of other data; the message says what differs.
    """
    path = study.folder(job) / "result.json"
    if not path.is_file():
        return None
    found = files.read_json(path)
    differing = difference(found["config"], job)
    for name, now in asked(job, study).items():
        if not differing and found[name] != now:
            differing = f"{name} was {found[name]!r} and is {now!r}"
    if differing:
        raise ValueError(f"{path}: of a run with another configuration ({differing}); choose another workdir")
    return found if set(study.evaluations_of(job)) <= set(found["mean"]) else None


def asked(job: Job, study: Study) -> dict[str, Any]:
    """What a result depends on besides the configuration."""
    found: dict[str, Any] = {"dataset": Clips(study.dataset, job.config["data"]["split"]).fingerprint()}
    if job.kind == "separator":
        places = {name: str(path) for name, path in study.benchmarks.items()}
        found |= {"per_class": study.per_class, "benchmarks": places}
    return found


def difference(config: dict[str, Any], job: Job) -> str:
    """The first field in which a configuration, as read from JSON, is not the job's; "" where there is none."""
    return workdir.difference(config, json.loads(json.dumps(job.config)), FREE)
