"""Whole models from the files of the PyTorch reference, and back."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import uss_jax
from uss_jax import audioset, files, model_dir
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.model_dir import Networks
from uss_jax.models.cnn14 import Cnn14, Cnn14DecisionLevelMax
from uss_jax.models.query import QueryNet
from uss_jax.models.resunet import ResUNet
from uss_jax.pytorch import checkpoints, names
from uss_jax.pytorch.checkpoints import Checkpoint

SEGMENT_SECONDS = 2.0
EMBEDDING_SIZE = 2048
QUERY_KINDS = {audioset.CLASS_COUNT: "soft", EMBEDDING_SIZE: "latent"}  # by the size of the bottleneck
KIND_NAMES = {"soft": "at_soft", "latent": "embedding"}  # in the reference's configurations

# Prefixes in the reference's Lightning checkpoints
SEPARATOR = "ss_model."
QUERY = "query_net."
QUERY_TAGGER = "query_net.base."
SED = "anchor_segment_detector.sed_model."
NOT_NEEDED = (SED, "anchor_segment_detector.anchor_segment_scorer.", "loss_function.")


def convert(name: str, separator: Path | None, tagger: Path | None, sed: Path | None) -> Networks:
    """A model from released or self-trained checkpoints.

    Whether the query is soft or latent, its size, and whether the query net has learnable layers are read from the
    separator's file. A Lightning checkpoint of `uss` also holds the taggers that it was trained with.

    Args:
      name: of the model.
      separator: checkpoint of `uss`, or the state dict of a ResUNet30; None for a model that only tags.
      tagger: weights of PANNs' Cnn14; None for those in the separator's checkpoint. Where these differ (a query net
        that was trained too), the tagger says what is active, and theirs gives the query, as in the reference.
      sed: weights of Cnn14_DecisionLevelMax, for mining anchors; where it is the only file, it becomes the tagger.

    Raises:
      ValueError: a file is missing, not safe to read, or not these weights; the message lists every wrong tensor.
    """
    config: dict[str, Any] = {
        "name": name,
        "segment_seconds": SEGMENT_SECONDS,
        "classes": list(range(audioset.CLASS_COUNT)),
    }
    variables: dict[str, Any] = {}
    if separator is not None:
        checkpoint = Checkpoint(separator)
        config["query"], config["separator"] = _query_config(checkpoint), {"kind": "resunet"}
        variables = _separator_variables(checkpoint, config["query"])
    if tagger is not None:
        config["tagger"] = {"kind": "cnn14"}
        variables["tagger"] = _tagger_variables(tagger, QUERY_TAGGER)
        if "query_tagger" in variables:
            if _same(variables["tagger"], variables["query_tagger"]):
                del variables["query_tagger"]
            else:
                config["query_tagger"] = {"kind": "cnn14"}
    elif "query_tagger" in variables:
        config["tagger"], variables["tagger"] = {"kind": "cnn14"}, variables.pop("query_tagger")
    elif separator is not None:
        raise ValueError(f"{separator}: holds no tagger; give one (--tagger)")
    if sed is not None:
        part = "sed" if "tagger" in config else "tagger"
        config[part], variables[part] = {"kind": "cnn14_decision_level_max"}, _tagger_variables(sed, SED)
    if "tagger" not in config:
        raise ValueError("there is nothing to convert: give --separator, --tagger or --sed")
    return model_dir.build_networks(config, variables)


def _query_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read from the sizes of the linear maps in the checkpoint."""
    fc1, fc2 = (checkpoint.shape(rf"query_net\.{name}\.weight") for name in ("fc1", "fc2"))
    film = checkpoint.shape(r"(ss_model\.)?film\..*->beta[12]\.weight")
    adaptor = len(fc1 or ()) == len(fc2 or ()) == 2
    size = fc1[-1] if adaptor and fc1 else film[-1] if film else 0
    if size not in QUERY_KINDS:
        sizes = " or ".join(f"{size} ({kind})" for size, kind in QUERY_KINDS.items())
        raise ValueError(f"{checkpoint.path}: not a separator of `uss`: its query has {size} elements, not {sizes}")
    query: dict[str, Any] = {"kind": QUERY_KINDS[size]}
    return query | ({"adaptor_size": fc2[0], "hidden": fc2[1]} if adaptor and fc2 else {})


def _separator_variables(checkpoint: Checkpoint, query: dict[str, Any]) -> dict[str, Any]:
    """Of the separator, the query net's learnable layers, and the query net's own tagger if the checkpoint has it."""
    net = QueryNet(**query)
    condition = jax.eval_shape(lambda: _initialised_condition(net))
    prefix = SEPARATOR if checkpoint.has(SEPARATOR) else ""
    shapes = jax.eval_shape(ResUNet().init, jax.random.key(0), jnp.zeros((1, 64_000)), condition[0])
    wanted = {"separator": (prefix, shapes, names.resunet_tensors(), names.resunet_constants())}
    if net.adaptor_size:
        wanted["query"] = (QUERY, condition[1], names.adaptor_tensors(), {})
    if checkpoint.has(QUERY_TAGGER):
        wanted["query_tagger"] = (QUERY_TAGGER, _tagger_shapes(), names.tagger_tensors(), names.tagger_constants())

    states = {}
    for part, (prefix, shapes, tensors, constants) in wanted.items():
        states[part] = checkpoint.take(prefix, names.torch_shapes(shapes, tensors), constants)
    for prefix in NOT_NEEDED:
        checkpoint.ignore(prefix)
    checkpoint.finish()
    return {"query": {}} | {part: names.to_linen(state, wanted[part][2]) for part, state in states.items()}


def _initialised_condition(net: QueryNet) -> Any:
    tags = Cnn14().init_with_output(jax.random.key(0), jnp.zeros((1, 64_000)))[0]
    return net.init_with_output(jax.random.key(0), tags)


def _tagger_shapes() -> Any:
    return jax.eval_shape(Cnn14().init, jax.random.key(0), jnp.zeros((1, 64_000)))


def _tagger_variables(path: Path, prefix: str) -> dict[str, Any]:
    """Of a PANNs file, or of the tagger that stands under the prefix in a Lightning checkpoint."""
    checkpoint = Checkpoint(path)
    tensors = names.tagger_tensors()
    inside = checkpoint.has(SEPARATOR) and checkpoint.has(prefix)
    shapes = names.torch_shapes(_tagger_shapes(), tensors)
    state = checkpoint.take(prefix if inside else "", shapes, names.tagger_constants())
    if inside:
        checkpoint.ignore("")
    checkpoint.finish()
    return names.to_linen(state, tensors)


def _same(tree: Any, other: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, tree, other))


# Back to PyTorch


def export(networks: Networks, folder: Path) -> list[str]:
    """Writes a model as files that the reference loads.

    `separator.ckpt` is a Lightning checkpoint, `config.yaml` the configuration that goes with it; `cnn14.pth` and
    `cnn14_decision_level_max.pth` are the taggers in the form of PANNs.

    Returns:
      The names of the files.

    Raises:
      ValueError: the reference has no such network, or the folder exists.
    """
    expected: dict[str, nn.Module] = {"tagger": Cnn14()}
    others: dict[str, nn.Module] = {}
    if networks.separator is not None:
        expected["query_tagger"] = Cnn14()
        others = {"query": _their_query(networks.query), "separator": ResUNet()}
    elif networks.sed is networks.tagger:  # a model that only detects events
        expected = {}
    if networks.sed is not None:
        expected["sed"] = Cnn14DecisionLevelMax()
    for part, module in (expected | others).items():
        _check_like(module, getattr(networks, part), part)
    taggers = {part: _tagger_state(networks.variables[part]) for part in expected}
    contents: dict[str, Any] = {}
    for part, name in {"tagger": "cnn14", "sed": "cnn14_decision_level_max"}.items():
        if part in taggers:
            contents[f"{name}.pth"] = {"model": taggers[part]}
    if networks.separator is not None:
        contents["separator.ckpt"] = _lightning(networks, taggers)
    with files.new_folder(folder) as temporary:
        for name, content in contents.items():
            checkpoints.write(temporary / name, content)
        if networks.separator is not None:
            files.write_text(temporary / "config.yaml", _configuration(networks))
        return sorted(path.name for path in temporary.iterdir())


def _check_like(theirs: nn.Module, module: nn.Module, part: str) -> None:
    """Raises ValueError where a module computes something else than the reference's does."""
    only_in_training = ("parent", "name", "axis_name", "momentum", "block_dropout", "head_dropout", "prior")
    if type(module) is not type(theirs):
        raise ValueError(f"{part}: the reference has only {type(theirs).__name__}, this is a {type(module).__name__}")
    for field in dataclasses.fields(theirs):
        value, expected = getattr(module, field.name), getattr(theirs, field.name)
        if field.name not in only_in_training and value != expected:
            raise ValueError(f"{part}: {field.name} is {value}; the reference has only {expected}")


def _their_query(query: Any) -> QueryNet:
    """The reference's query net of the same kind and size; raises ValueError where it has none."""
    if query.kind not in KIND_NAMES:
        raise ValueError(f"query: the reference has only {' and '.join(KIND_NAMES)}, this is {query.kind}")
    return QueryNet(query.kind, query.adaptor_size)


def _lightning(networks: Networks, taggers: Mapping[str, names.State]) -> dict[str, Any]:
    """A checkpoint for `LitSeparation.load_from_checkpoint`."""
    assert networks.query is not None
    tensors = names.resunet_tensors()
    state = names.to_torch(networks.variables["separator"], tensors) | names.resunet_constants()
    parts = {SEPARATOR: state | _batch_counts(state), QUERY_TAGGER: taggers["query_tagger"]}
    if networks.query.adaptor_size:
        parts[QUERY] = names.to_torch(networks.variables["query"], names.adaptor_tensors())
    if "sed" in taggers:
        parts[SED] = taggers["sed"]
    return {
        "state_dict": {prefix + name: value for prefix, part in parts.items() for name, value in part.items()},
        "pytorch-lightning_version": "2.0.0",
        "epoch": 0,
        "global_step": 0,
    }


def _tagger_state(variables: Any) -> names.State:
    state = names.to_torch(variables, names.tagger_tensors()) | names.tagger_constants()
    return state | _batch_counts(state)


def _batch_counts(state: names.State) -> names.State:
    """PyTorch's BatchNorms count their batches; nothing that the reference does depends on it."""
    means = [name for name in state if name.endswith("running_mean")]
    return {name.replace("running_mean", "num_batches_tracked"): np.array(0, np.int64) for name in means}


def _configuration(networks: Networks) -> str:
    """What `uss.inference` reads of its `--config_yaml`."""
    assert networks.query is not None
    query = networks.query
    wrapper = "AdaptiveCnn14_Wrapper" if query.adaptor_size else "Cnn14_Wrapper"
    return f"""\
data:
    sample_rate: {SAMPLE_RATE_HZ}
    segment_seconds: {networks.config["segment_seconds"]}
query_net:
    model_type: {wrapper}
    base_checkpoint_type: Cnn14
    freeze_base: True
    freeze_adaptor: False
    bottleneck_type: {KIND_NAMES[query.kind]}
    outputs_num: {networks.condition_size}
ss_model:
    model_type: ResUNet30
    input_channels: 1
    output_channels: 1
"""


# The card


def model_card(networks: Networks, sources: Mapping[str, Path], about: str = "") -> str:
    """What is known of a converted model, as Markdown: where every weight comes from.

    Args:
      networks: the model.
      sources: file by part.
      about: what is known of the files beyond their content.
    """
    lines = [
        f"# {networks.config['name']}",
        "",
        f"Converted from PyTorch by uss_jax {uss_jax.__version__} (`uss-jax convert`): {summary(networks)}.",
        "The numbers are those of the files below; nothing was trained or measured here.",
        "",
        "| part | file | bytes | SHA-256 |",
        "| --- | --- | --- | --- |",
        *(f"| {part} | {path.name} | {path.stat().st_size} | `{sha256(path)}` |" for part, path in sources.items()),
        "",
        about or "Data, licence and scores: see where the files come from.",
        "",
    ]
    return "\n".join(lines)


def summary(networks: Networks) -> str:
    """The parts of a model in a few words."""
    parts = [networks.config["tagger"]["kind"]]
    parts += [f"{part} {networks.config[part]['kind']}" for part in model_dir.OWN_TAGGERS if part in networks.config]
    if networks.query is not None:
        parts += [f"separator with a {networks.query.kind} query of {networks.condition_size} numbers"]
    return ", ".join(parts)


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
