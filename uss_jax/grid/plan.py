"""What is to be done for a study, in which order, and where it goes in the workdir."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uss_jax.grid.cells import Cell


@dataclasses.dataclass(frozen=True)
class Study:
    """What all runs have in common.

    Attributes:
      workdir: gets `taggers`, `anchors`, `runs` and the tables.
      dataset: folder made by `uss-jax prepare`, to train on.
      benchmarks: folder of each benchmark that separators are evaluated on, by name.
      protocols: of queries, see `evaluation.systems`.
      per_class: items of a class in an evaluation.
      models: model directories to be taken in place of training a tagger of this name.
    """

    workdir: Path
    dataset: Path
    benchmarks: Mapping[str, Path]
    protocols: tuple[str, ...]
    per_class: int
    models: Mapping[str, str]

    def tagger(self, name: str) -> str:
        """The model directory, or name, of a tagger."""
        return self.models.get(name, str(self.workdir / "taggers" / name / "model"))

    def anchors(self, sed: str, seconds: float) -> Path:
        """The folder of the anchors that a tagger found."""
        return self.workdir / "anchors" / f"{sed}-{seconds:g}s"

    def run(self, name: str, seed: int) -> Path:
        """The workdir of a separator's run."""
        return self.workdir / "runs" / name / f"seed-{seed}"

    def folder(self, job: "Job") -> Path:
        """The workdir of a training."""
        return self.run(job.name, job.seed) if job.kind == "separator" else self.workdir / "taggers" / job.name

    @property
    def evaluations(self) -> list[str]:
        """What a separator is evaluated on, and how: `benchmark/protocol`."""
        return [f"{benchmark}/{protocol}" for benchmark in self.benchmarks for protocol in self.protocols]

    def evaluations_of(self, job: "Job") -> list[str]:
        """The same of a job."""
        return self.evaluations if job.kind == "separator" else ["tagging"]

    def result(self, name: str, seed: int, evaluation: str) -> Path:
        """The result of an evaluation of a run."""
        return self.run(name, seed) / f"{evaluation.replace('/', '-')}.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """A piece of work for one process.

    Attributes:
      kind: `tagger`, `anchors` or `separator`.
      name: of the cell; of the tagger that finds the anchors.
      config: of what is trained, its inputs filled in; empty for anchors.
      about: the cell's.
      seed: of a separator's run.
      seconds: length of anchors.
      splits: of the dataset, in which anchors are to be found.
    """

    kind: str
    name: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False, compare=False)
    about: str = ""
    seed: int = 0
    seconds: float = 0.0
    splits: tuple[str, ...] = ()

    def __str__(self) -> str:
        details = {"tagger": "", "anchors": f" of {self.seconds:g} s", "separator": f" seed {self.seed}"}
        return f"{self.kind} {self.name}{details[self.kind]}"


def stages(study: Study, cells: Mapping[str, Cell], seeds: Sequence[int]) -> list[list[Job]]:
    """Jobs, those of a stage needing only what earlier stages made: taggers, anchors, then all cells seed by seed.

    Raises:
      ValueError: a cell names a tagger that is neither a cell, nor given as a model.
    """
    taggers = {name: cell for name, cell in cells.items() if cell.config["task"] == "tagger"}
    separators = [cell for cell in cells.values() if cell.config["task"] == "separator"]
    mined: dict[tuple[str, float], dict[str, None]] = {}  # splits by tagger and seconds
    for cell in separators:
        config, data = cell.config, cell.config["data"]
        for field in ("tagger_model", "sed_model"):
            if config[field] and config[field] not in study.models and config[field] not in taggers:
                raise ValueError(
                    f"{cell.name}: {field} is {config[field]!r}, which is no configuration of a tagger here; name its "
                    f"file, or a model to take for it (--model {config[field]}=NAME_OR_DIR)"
                )
        if data["anchors_from"] == "mined" and not data["anchors"]:
            key = (config["sed_model"] or config["tagger_model"], data["anchor_seconds"])
            mined.setdefault(key, {}).update(dict.fromkeys(data["split"].split("+")))
    return [
        [
            Job("tagger", name, _of_tagger(study, cell), cell.about)
            for name, cell in taggers.items()
            if name not in study.models
        ],
        [Job("anchors", sed, seconds=seconds, splits=tuple(splits)) for (sed, seconds), splits in mined.items()],
        [
            Job("separator", cell.name, _of_separator(study, cell, seed), cell.about, seed)
            for seed in seeds
            for cell in separators
        ],
    ]


def _of_tagger(study: Study, cell: Cell) -> dict[str, Any]:
    return cell.config | {"data": cell.config["data"] | {"dataset": str(study.dataset)}}


def _of_separator(study: Study, cell: Cell, seed: int) -> dict[str, Any]:
    config = cell.config
    data = config["data"] | {"dataset": str(study.dataset)}
    if data["anchors_from"] == "mined" and not data["anchors"]:
        data["anchors"] = str(study.anchors(config["sed_model"] or config["tagger_model"], data["anchor_seconds"]))
    return config | {
        "seed": seed,
        "data": data,
        "tagger_model": study.tagger(config["tagger_model"]),
        "sed_model": study.tagger(config["sed_model"]) if config["sed_model"] else "",
    }
