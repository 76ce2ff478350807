"""What is trained: the tagger, or the separator with that tagger as its query net."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from uss_jax import mining, model_dir, queries
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.mixtures import ClipSource, MixtureSource
from uss_jax.model_dir import Networks
from uss_jax.parallel import AXIS
from uss_jax.training.step import LossFunction, TrainState, separator_loss, tagger_loss


@dataclasses.dataclass(frozen=True)
class Task:
    """A training task, set up.

    Attributes:
      source: Grain random-access source of training items.
      loss: what is minimised.
      params, batch_stats, frozen: initial variables; see `TrainState`.
      export: the trained model of a state.
    """

    source: Any
    loss: LossFunction
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    frozen: dict[str, Any]
    export: Callable[[TrainState], Networks]


def make_task(config: Any, items: int) -> Task:
    """The task that `config.task` names. Raises ValueError where it names none, or its data are missing.

    Args:
      config: the run's configuration.
      items: how many training items the run takes.
    """
    tasks = {"tagger": tagger_task, "separator": separator_task}
    if config.task not in tasks:
        raise ValueError(f"task {config.task!r}: expected one of {', '.join(tasks)}")
    return tasks[config.task](config, items)


def tagger_task(config: Any, items: int) -> Task:
    """Trains a tagger from weak labels."""
    clips = Clips(config.data.dataset, config.data.split)
    classes = sorted(map(int, np.unique(clips.label_pairs()[1])))
    model_config = {
        "name": config.name,
        "segment_seconds": config.segment_seconds,
        "tagger": config.tagger.to_dict(),
        "classes": classes,
    }
    networks = with_batch_axis(model_dir.build_networks(model_config, {}))
    variables = model_dir.initial_variables(networks, jax.random.key(config.seed))["tagger"]
    source = ClipSource(
        clips,
        seed=config.seed,
        length=items,
        clip_samples=round(config.data.clip_seconds * SAMPLE_RATE_HZ),
        class_power=config.data.class_power,
        loudest=config.data.loudest,
        gain_range_db=config.data.gain_range_db,
        speed_range=config.data.speed_range,
    )

    def export(state: TrainState) -> Networks:
        variables = {"tagger": {"params": state.params, "batch_stats": state.batch_stats}}
        return model_dir.build_networks(model_config, jax.device_get(variables))

    return Task(
        source=source,
        loss=tagger_loss(networks, config.data.mixup_alpha, config.data.mixup_share, config.data.mixup_union),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        frozen={},
        export=export,
    )


def separator_task(config: Any, items: int) -> Task:
    """Trains a separator (and a learnable query net) under a frozen tagger."""
    clips = Clips(config.data.dataset, config.data.split)
    anchors = mining.load_anchors(config.data.anchors, clips).at_least(config.data.least_confidence)
    base = model_dir.load(config.tagger_model)
    model_config = base.config | {
        "name": config.name,
        "query": config.query.to_dict(),
        "separator": config.separator.to_dict(),
        "classes": sorted(map(int, np.unique(anchors.label))),
    }
    model_config.pop("query_tagger", None)  # the query comes from the tagger
    frozen = base.variables
    if config.sed_model:
        sed = model_dir.load(config.sed_model)
        model_config["sed"] = sed.config["tagger"]
        frozen = frozen | {"sed": sed.variables["tagger"]}
    networks = with_batch_axis(model_dir.build_networks(model_config, frozen))
    variables = model_dir.initial_variables(networks, jax.random.key(config.seed))
    source = MixtureSource(
        clips,
        anchors,
        seed=config.seed,
        length=items,
        segment_samples=networks.segment_samples,
        source_count=config.data.source_count,
        class_power=config.data.class_power,
        shift_seconds=config.data.shift_seconds,
        level_range_db=config.data.level_range_db,
        gain_range_db=config.data.gain_range_db,
        speed_range=config.data.speed_range,
    )

    def export(state: TrainState) -> Networks:
        trained = {
            "query": {"params": state.params["query"]} if state.params["query"] else {},
            "separator": {"params": state.params["separator"], "batch_stats": state.batch_stats},
        }
        exported = model_dir.build_networks(model_config, frozen | jax.device_get(trained))
        return dataclasses.replace(exported, class_conditions=queries.class_conditions(exported, clips, anchors))

    return Task(
        source=source,
        loss=separator_loss(networks, config.loss, config.data.label_query_share),
        params={"query": variables["query"].get("params", {}), "separator": variables["separator"]["params"]},
        batch_stats=variables["separator"]["batch_stats"],
        frozen=frozen["tagger"],
        export=export,
    )


def with_batch_axis(networks: Networks) -> Networks:
    """The same networks with BatchNorm statistics synchronised over the devices in training."""
    separator = networks.separator.clone(axis_name=AXIS) if networks.separator is not None else None
    return dataclasses.replace(networks, tagger=networks.tagger.clone(axis_name=AXIS), separator=separator)
