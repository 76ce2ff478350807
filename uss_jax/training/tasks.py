"""What is trained: a tagger, or a separator with that tagger as its query net."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from uss_jax import anchor_store, model_dir, queries
from uss_jax.anchors import Anchors, anywhere, check_length, load_anchors
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.effects import Effects
from uss_jax.mixtures import ClipSource, MixtureSource, Source
from uss_jax.model_dir import Networks
from uss_jax.parallel import AXIS
from uss_jax.training.checkpoints import digest
from uss_jax.training.step import PRECISIONS, LossFunction, TrainState, separator_loss, tagger_loss
from uss_jax.training.validation import SeparatorValidation, TaggerValidation

logger = logging.getLogger(__name__)

TAGGER_TRAININGS = ("frozen", "fine_tuned", "from_scratch")  # of the tagger that gives a separator's query


@dataclasses.dataclass(frozen=True)
class Task:
    """A training task, set up.

    Attributes:
      source: of training items.
      clip_ids: the clips in an item.
      loss: what is minimised.
      params, batch_stats, frozen: initial variables; see `TrainState`.
      inputs: a digest of everything that is read, by name.
      networks: the model of a state of host arrays.
      complete: adds to a model what is made once, when it is exported.
      validate: scores of a model, where the run is evaluated; the same on every host.
      score: name of the score by which the best checkpoint is kept, the higher the better.
    """

    source: Source
    clip_ids: Callable[[int], list[str]]
    loss: LossFunction
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    frozen: dict[str, Any]
    inputs: dict[str, str]
    networks: Callable[[TrainState], Networks]
    complete: Callable[[Networks], Networks]
    validate: Callable[[Networks], dict[str, float]] | None
    score: str


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
    if anchor_store.is_store(Path(config.data.dataset)):
        raise ValueError(f"{config.data.dataset}: holds anchors alone; a tagger learns from whole clips")
    clips = Clips(config.data.dataset, config.data.split)
    classes = sorted(map(int, np.unique(clips.label_pairs()[1])))
    model_config = {
        "name": config.name,
        "segment_seconds": config.segment_seconds,
        "tagger": config.tagger.to_dict(),
        "classes": classes,
    }
    networks = for_training(model_dir.build_networks(model_config, {}), config)
    if config.initial_model:
        shapes = {"tagger": model_dir.variable_shapes(networks)["tagger"]}
        variables = _initial_parts(config, shapes)["tagger"]
    else:
        variables = jax.device_get(model_dir.initial_variables(networks, jax.random.key(config.seed)))["tagger"]
    source = ClipSource(
        clips,
        seed=config.seed,
        length=items,
        clip_samples=round(config.data.clip_seconds * SAMPLE_RATE_HZ),
        class_power=config.data.class_power,
        loudest=config.data.loudest,
        gain_range_db=config.data.gain_range_db,
        speed_range=config.data.speed_range,
        source_count=config.data.source_count,
        most_sources=config.data.most_sources,
        level_range_db=config.data.level_range_db,
        effects=_effects(config),
    )

    inputs = {"dataset": clips.fingerprint()}
    if config.initial_model:
        inputs["initial_model"] = digest(variables)
    validate = None
    if config.evaluation.every:
        held_back = Clips(config.evaluation.dataset or config.data.dataset, config.evaluation.split)
        validate = TaggerValidation(held_back, source.clip_samples, config.evaluation.per_class)
        inputs["evaluation"] = held_back.fingerprint()

    def trained(state: TrainState) -> Networks:
        variables = {"tagger": {"params": state.params, "batch_stats": state.batch_stats}}
        return model_dir.build_networks(model_config, variables)

    return Task(
        source=source,
        clip_ids=functools.partial(_clip_ids, source, clips),
        loss=tagger_loss(
            networks,
            config.data.mixup_alpha,
            config.data.mixup_share,
            config.data.mixup_union,
            config.positive_weight,
        ),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        frozen={},
        inputs=inputs,
        networks=trained,
        complete=lambda networks: networks,
        validate=validate,
        score="average_precision",
    )


def separator_task(config: Any, items: int) -> Task:
    """Trains a separator, and with it a learnable query net, under a tagger that is frozen or trained too.

    Of a `tagger_model` with two taggers, the one that made its queries makes them here, too.
    """
    if config.data.label_query_share and config.query.kind != "soft":
        raise ValueError("data.label_query_share needs a soft query")
    if config.tagger_training not in TAGGER_TRAININGS:
        raise ValueError(f"tagger_training {config.tagger_training!r}: expected one of {', '.join(TAGGER_TRAININGS)}")
    if config.query.kind == "hard" and config.tagger_training != "frozen":
        raise ValueError(f"tagger_training is {config.tagger_training!r}: from hard queries a tagger cannot learn")
    clips = Clips(config.data.dataset, config.data.split)
    anchor_samples = round(config.data.anchor_seconds * SAMPLE_RATE_HZ)
    anchors = _anchors(config, clips, anchor_samples)
    base = model_dir.load(config.tagger_model)
    query_tagger = base.variables["query_tagger"]  # the tagger itself, unless the model has been given another
    model_config = base.config | {
        "name": config.name,
        "query": config.query.to_dict(),
        "separator": config.separator.to_dict(),
        "classes": sorted(map(int, np.unique(anchors.label))),
    }
    kept = {part: base.variables[part] for part in ("tagger", "sed") if base.config.get(part)}
    if config.sed_model:
        sed = model_dir.load(config.sed_model)
        model_config["sed"] = sed.config["tagger"]
        kept["sed"] = sed.variables["tagger"]
    if config.tagger_training != "frozen":  # the tagger that tells what is active stays as it is
        model_config["query_tagger"] = base.config.get("query_tagger") or base.config["tagger"]
    elif base.config.get("query_tagger"):
        kept["query_tagger"] = query_tagger
    networks = for_training(model_dir.build_networks(model_config, kept), config)
    variables = jax.device_get(model_dir.initial_variables(networks, jax.random.key(config.seed)))
    if config.tagger_training == "fine_tuned":
        variables["query_tagger"] = query_tagger
    trained_parts = [part for part in ("query_tagger", "query", "separator") if part in variables.keys() - kept]
    if config.initial_model:
        trees = {part: variables[part] for part in trained_parts}
        variables |= _initial_parts(config, trees, query_tagger if config.tagger_training == "frozen" else None)
    source = MixtureSource(
        clips,
        anchors,
        seed=config.seed,
        length=items,
        segment_samples=anchor_samples,
        source_count=config.data.source_count,
        most_sources=config.data.most_sources,
        target_count=config.data.target_count,
        anchors_from=config.data.anchors_from,
        class_power=config.data.class_power,
        shift_seconds=config.data.shift_seconds,
        match_energy=config.data.match_energy,
        level_range_db=config.data.level_range_db,
        gain_range_db=config.data.gain_range_db,
        speed_range=config.data.speed_range,
        label_query_share=config.data.label_query_share,
        effects=_effects(config),
    )

    inputs = {"dataset": clips.fingerprint(), "anchors": _digest(anchors), "tagger": digest(kept["tagger"])}
    if config.sed_model:
        inputs["sed"] = digest(kept["sed"])
    if "query_tagger" in kept:
        inputs["query_tagger"] = digest(query_tagger)
    if config.initial_model:
        inputs["initial_model"] = digest([variables[part] for part in trained_parts])
    validate = None
    if config.evaluation.every:
        held_back = Clips(config.evaluation.dataset or config.data.dataset, config.evaluation.split)
        of_held_back = load_anchors(config.evaluation.anchors or config.data.anchors, held_back)
        validate = SeparatorValidation(held_back, of_held_back, networks.segment_samples, config.evaluation.per_class)
        inputs["evaluation"] = held_back.fingerprint()
        inputs["evaluation_anchors"] = _digest(of_held_back)

    def trained(state: TrainState) -> Networks:
        by_part = {
            part: {"params": state.params[part], "batch_stats": state.batch_stats.get(part)} for part in trained_parts
        }
        found = {part: {name: tree for name, tree in of.items() if tree} for part, of in by_part.items()}
        return model_dir.build_networks(model_config, kept | found)

    conditions: dict[str, np.ndarray] = {}  # by the query's variables: `model` and `best` may have the same

    def complete(networks: Networks) -> Networks:
        key = digest([networks.variables[part] for part in ("query_tagger", "query")])
        if key not in conditions:
            conditions[key] = queries.class_conditions(networks, clips, anchors, anchor_samples)
        return dataclasses.replace(networks, class_conditions=conditions[key])

    return Task(
        source=source,
        clip_ids=functools.partial(_clip_ids, source, clips),
        loss=separator_loss(networks, config.loss),
        params={part: variables[part].get("params", {}) for part in trained_parts},
        batch_stats={
            part: variables[part]["batch_stats"] for part in trained_parts if "batch_stats" in variables[part]
        },
        frozen=query_tagger if config.tagger_training == "frozen" else {},
        inputs=inputs,
        networks=trained,
        complete=complete,
        validate=validate,
        score="sdri",
    )


def _initial_parts(config: Any, trees: dict[str, Any], query_tagger: Any = None) -> dict[str, Any]:
    """The parts of `initial_model` that a run goes on with.

    Args:
      config: the run's configuration.
      trees: of each part, arrays or shapes as the run has them.
      query_tagger: variables of the frozen tagger that makes the run's queries, if there is one.

    Raises:
      ValueError: the model lacks a part, or has other names or shapes.
    """
    parts = model_dir.load(config.initial_model).variables
    if query_tagger is not None and digest(parts["query_tagger"]) != digest(query_tagger):
        logger.warning("the queries of %s come from another tagger than %s", config.initial_model, config.tagger_model)
    for part, tree in trees.items():
        if part not in parts:
            raise ValueError(f"initial_model {config.initial_model}: has no {part}")
        found, wanted = ({name: x.shape for name, x in flatten_dict(of, sep="/").items()} for of in (parts[part], tree))
        differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if differing:
            name = differing[0]
            shapes = f"is {found.get(name, 'missing')}, and is to be {wanted.get(name, 'none')}"
            raise ValueError(f"initial_model {config.initial_model}: {part}: {name} {shapes}")
    return {part: parts[part] for part in trees}


def _effects(config: Any) -> Effects:
    """What is done to the sources and mixtures that a model is trained on."""
    return Effects(**{field.name: config.data[field.name] for field in dataclasses.fields(Effects)})


def _anchors(config: Any, clips: Clips, anchor_samples: int) -> Anchors:
    """The anchors that a separator is trained on. Raises ValueError where they are missing, or not of this length."""
    data = config.data
    folder = Path(data.dataset)
    if data.anchors_from != "mined":
        if anchor_store.is_store(folder):
            raise ValueError(f"{folder}: holds mined anchors alone, and data.anchors_from is {data.anchors_from!r}")
        if data.shift_seconds or data.least_confidence:
            raise ValueError("data.shift_seconds and data.least_confidence are for mined anchors")
        anchors = anywhere(clips, anchor_samples, config.seed)
        if data.anchors_from == "in_clip":  # of a clip that is no longer all parts are the same
            longer = clips.samples > anchor_samples
            if not longer.any():
                raise ValueError(f"{folder}: no clip is longer than data.anchor_seconds ({data.anchor_seconds:g} s)")
            anchors = anchors.of_clips(longer)
    else:
        check_length(data.anchors, clips, anchor_samples)
        faster = (data.speed_range - 1) * anchor_samples
        anchor_store.check_stored(folder, anchor_samples, math.ceil(data.shift_seconds * SAMPLE_RATE_HZ + faster))
        anchors = load_anchors(data.anchors, clips).at_least(data.least_confidence)
    return anchors.of_few_clips(data.clips_per_class) if data.clips_per_class else anchors


def for_training(networks: Networks, config: Any) -> Networks:
    """The same networks as a run computes them.

    BatchNorm statistics are synchronised over the devices; what is trained computes in the run's precision, and makes
    its activations again in the backward pass if the run asks for it. A frozen tagger stays in float32, but its
    products are the run's.
    """
    fields = {
        "axis_name": AXIS,
        "dtype": PRECISIONS[config.precision][0],
        "rematerialise": config.rematerialise,
    }
    if networks.separator is None:
        return dataclasses.replace(networks, tagger=networks.tagger.clone(**fields))
    query = networks.query.clone(dtype=fields["dtype"])  # type: ignore[union-attr]
    separator = networks.separator.clone(**fields)
    tagger = networks.query_tagger
    if config.tagger_training != "frozen":
        tagger = tagger.clone(**fields)
    return dataclasses.replace(networks, query=query, separator=separator, query_tagger=tagger)


def _digest(anchors: Anchors) -> str:
    return digest([anchors.start, anchors.confidence])


def _clip_ids(source: Source, clips: Clips, index: int) -> list[str]:
    return [str(clips.clip_ids[clip]) for clip in source.clips_of(index)]
