"""Doing one job of a study: to be called in a process of its own, for it takes the devices."""

import json
import statistics
from pathlib import Path
from typing import Any

import jax
import ml_collections

from uss_jax import files, mining, model_dir
from uss_jax.evaluation.evaluate import Request, evaluate
from uss_jax.evaluation.summary import versions
from uss_jax.evaluation.tagging import evaluate_tagging
from uss_jax.grid import results
from uss_jax.grid.plan import Job, Study
from uss_jax.training.loop import train


def do(job: Job, study: Study) -> str:
    """Does a job, or what is missing of it. Returns what came out, in a few words.

    Raises:
      ValueError, OSError, FloatingPointError: as what it calls.
      Stopped: a signal came; what was reached is saved.
    """
    if job.kind == "anchors":
        networks = model_dir.load(study.tagger(job.name)).with_segments(job.seconds)
        out = study.anchors(job.name, job.seconds)
        mined = [mining.mine_split(study.dataset, split, networks, out) for split in job.splits]
        return "mined" if any(mined) else "there already"
    result = results.read(job, study)
    if result is None:
        folder = study.folder(job)
        _train(job, folder)
        networks = model_dir.load(folder / "model")
        result = {
            "name": job.name,
            "about": job.about,
            "seed": job.config["seed"],
            "config": job.config,
            **results.asked(job, study),
            "parameters": networks.parameter_counts(),
            "mean": _scores(job, study, networks, folder),
            **_speed(folder),
            "versions": versions(),
        }
        files.write_json(folder / "result.json", result)
        jax.clear_caches()  # all programs of a study would be too many to hold
    metric = "average_precision" if job.kind == "tagger" else "sdri"
    return ", ".join(f"{name} {metric} {scores[metric]:.2f}" for name, scores in result["mean"].items())


def _train(job: Job, folder: Path) -> None:
    """Trains, unless that is done: written again, a model's last bits may differ from those that were evaluated."""
    if not (folder / "model").is_dir():
        train(ml_collections.ConfigDict(job.config).lock(), folder)
    elif differing := results.difference(files.read_json(folder / "run.json")["config"], job):
        raise ValueError(f"{folder}: of a run with another configuration ({differing}); choose another workdir")


def _speed(folder: Path) -> dict[str, Any]:
    """Items a second in training, the median over what was logged, and the devices that did it."""
    lines = [json.loads(line) for line in (folder / "speed.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "items_per_second": statistics.median(line["items_per_second"] for line in lines),
        "device": " and ".join(sorted({line["device"] for line in lines})),
    }


def _scores(job: Job, study: Study, networks: model_dir.Networks, folder: Path) -> dict[str, dict[str, float]]:
    """Means over the classes by evaluation: of a tagger, `tagging`; of a separator, those of the study."""
    if job.kind == "tagger":
        return {"tagging": evaluate_tagging(networks, study.dataset)["mean"]}
    found = {}
    for name in study.evaluations:
        benchmark, protocol = name.split("/")
        request = Request(
            benchmark=benchmark,
            data=study.benchmarks[benchmark],
            out=study.result(job.name, job.seed, name),
            model=str(folder / "model"),
            query=protocol,
            per_class=study.per_class,
            workers=0,
        )
        found[name] = evaluate(request)[0]["mean"]
    return found
