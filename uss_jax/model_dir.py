"""Model directories: `config.json`, `weights.safetensors` and a model card, read and written whole.

A model is a tagger, and, once separation is trained, a query net and a separator. Weights are tensors under names
such as `separator/params/encoder0/conv1/kernel`; nothing is ever unpickled.
"""

import dataclasses
import importlib.resources
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from uss_jax import audioset, files
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.models import cnn14
from uss_jax.models.query import QueryNet
from uss_jax.models.registry import SEPARATORS, TAGGERS

FORMAT = "uss_jax 1"
OWN_TAGGERS = ("sed", "query_tagger")  # parts that are the tagger itself unless the configuration has them
RUN_FIELDS = ("axis_name", "dtype", "rematerialise")  # of a training run and not of a model: set by `clone`


@dataclasses.dataclass(frozen=True)
class Networks:
    """The modules of a model and their variables.

    Attributes:
      config: what `config.json` says.
      tagger: tells what is active, and, unless there is a `query_tagger`, gives the query.
      sed: hears when a class sounds, to find anchors; the tagger itself where it can.
      query_tagger: gives the query in place of the tagger, where it is another one; else the tagger itself.
      query, separator: None in a model that only tags.
      variables: Linen variables by part, `tagger`, `sed`, `query_tagger`, `query` and `separator`.
      class_conditions: (classes, condition), the mean condition of the training anchors of each class in
        `config["classes"]`; None where it is not known.
    """

    config: dict[str, Any]
    tagger: Any
    sed: Any
    query_tagger: Any
    query: QueryNet | None
    separator: Any
    variables: dict[str, Any]
    class_conditions: np.ndarray | None = None

    @property
    def own_parts(self) -> list[str]:
        """The parts that have variables of their own, rather than the tagger's."""
        return [part for part in self.variables if part not in OWN_TAGGERS or self.config.get(part)]

    def parameter_counts(self) -> dict[str, int]:
        """How many parameters each part has that has some of its own."""
        trees = {part: self.variables[part].get("params") for part in self.own_parts}
        return {part: sum(x.size for x in jax.tree.leaves(tree)) for part, tree in trees.items() if tree}

    @property
    def segment_samples(self) -> int:
        """Samples of a segment, the separator's and the anchors' length."""
        return round(self.config["segment_seconds"] * SAMPLE_RATE_HZ)

    def with_segments(self, seconds: float) -> "Networks":
        """The same model with segments, and so anchors, of another length."""
        return dataclasses.replace(self, config=self.config | {"segment_seconds": seconds})

    @property
    def condition_size(self) -> int:
        """Size of the separator's condition; raises ValueError where the model has none."""
        if self.query is None:
            raise ValueError(f"the model {self.config['name']!r} tags and does not separate")
        return self.query.size(self.query_tagger)


def build(kinds: Mapping[str, type[nn.Module]], fields: Mapping[str, Any]) -> Any:
    """A module from its description: `kind` names the class, the rest are its fields, but for those of a training run.

    Raises:
      ValueError: the kind or a field is unknown.
    """
    fields = dict(fields)
    kind = fields.pop("kind", None)
    if kind not in kinds:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(kinds)}")
    _check_fields(kinds[kind], kind, fields)
    return kinds[kind](**{name: as_tuple(value) for name, value in fields.items()})


def build_query(fields: Mapping[str, Any]) -> QueryNet:
    """A query net from its description; raises ValueError where a field is unknown."""
    _check_fields(QueryNet, "query", fields)
    return QueryNet(**fields)


def _check_fields(module: type[nn.Module], name: str, fields: Mapping[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(module)} - {"parent", "name", *RUN_FIELDS}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"{name} has no field {unknown[0]!r}")


def build_tagger(fields: Mapping[str, Any]) -> Any:
    """A tagger of AudioSet's classes from its description; raises ValueError where it is another."""
    tagger = build(TAGGERS, fields)
    if (tagger.sample_rate_hz, tagger.class_count) != (SAMPLE_RATE_HZ, audioset.CLASS_COUNT):
        raise ValueError(f"models hear {SAMPLE_RATE_HZ} Hz and tell {audioset.CLASS_COUNT} classes")
    return tagger


def as_tuple(value: Any) -> Any:
    """Lists, nested ones too, as tuples: module fields must be hashable."""
    return tuple(map(as_tuple, value)) if isinstance(value, list | tuple) else value


def build_networks(config: dict[str, Any], variables: dict[str, Any]) -> Networks:
    """The modules that a configuration describes. Raises ValueError where it is wrong."""
    tagger = build_tagger(config["tagger"])
    if not all(isinstance(index, int) and 0 <= index < audioset.CLASS_COUNT for index in config["classes"]):
        raise ValueError("classes: expected a list of class indices")
    if bool(config.get("separator")) != bool(config.get("query")):
        raise ValueError("a separator goes with a query")
    sed = build_tagger(config["sed"]) if config.get("sed") else None
    if sed is not None and not isinstance(sed, cnn14.Cnn14DecisionLevelMax):
        raise ValueError("sed: expected a tagger that hears when a class sounds (cnn14_decision_level_max)")
    if sed is None and isinstance(tagger, cnn14.Cnn14DecisionLevelMax):
        sed, variables = tagger, variables | {"sed": variables.get("tagger")}
    query_tagger = build_tagger(config["query_tagger"]) if config.get("query_tagger") else None
    if query_tagger is None:
        query_tagger, variables = tagger, variables | {"query_tagger": variables.get("tagger")}
    query = build_query(config["query"]) if config.get("query") else None
    separator = build(SEPARATORS, config["separator"]) if config.get("separator") else None
    return Networks(config, tagger, sed, query_tagger, query, separator, variables)


def with_tagger(networks: Networks, other: Networks, name: str) -> Networks:
    """A model that separates, with another's tagger to tell what is active; its queries come from where they came.

    Args:
      networks: the model.
      other: whose tagger to take, and, where it has one beside, whose `sed`; where it cannot hear when a class
        sounds, the model's own still does.
      name: of the new model.

    Raises:
      ValueError: the model does not separate.
    """
    if networks.separator is None:
        raise ValueError(f"the model {networks.config['name']!r} tags and does not separate")
    query_tagger = networks.config.get("query_tagger") or networks.config["tagger"]
    config = networks.config | {"name": name, "tagger": other.config["tagger"], "query_tagger": query_tagger}
    variables = networks.variables | {"tagger": other.variables["tagger"]}
    if other.config.get("sed"):
        config["sed"], variables["sed"] = other.config["sed"], other.variables["sed"]
    elif not config.get("sed"):
        variables.pop("sed", None)
        if other.sed is None and networks.sed is not None:  # what was tagger and `sed` still finds anchors
            config["sed"], variables["sed"] = networks.config["tagger"], networks.variables["tagger"]
    return dataclasses.replace(build_networks(config, variables), class_conditions=networks.class_conditions)


def initial_variables(networks: Networks, key: jax.Array) -> dict[str, Any]:
    """Freshly drawn variables of every part of a model."""
    return _compiled_draw(key, *_draw_arguments(networks))


def variable_shapes(networks: Networks) -> dict[str, Any]:
    """The same tree as `initial_variables` returns, of shapes and types."""
    audio, modules = _draw_arguments(networks)
    return jax.eval_shape(lambda key: _draw(key, audio, modules), jax.random.key(0))


def _draw_arguments(networks: Networks) -> tuple[jax.Array, tuple[tuple[str, Any], ...]]:
    own_taggers = {part: getattr(networks, part) for part in OWN_TAGGERS if networks.config.get(part)}
    modules = {"tagger": networks.tagger, "query": networks.query, "separator": networks.separator} | own_taggers
    return jnp.zeros((1, networks.segment_samples)), tuple(modules.items())


def _draw(key: jax.Array, audio: jax.Array, modules: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """As one program, compiled once for modules of the same fields: what else they do than draw is left out."""
    of = dict(modules)
    tags, tagger = of["tagger"].init_with_output(key, audio)
    variables: dict[str, Any] = {"tagger": tagger}
    for part in OWN_TAGGERS:
        if part in of:
            variables[part] = of[part].init(key, audio)
    if of["separator"] is not None:
        if "query_tagger" in of:
            tags = of["query_tagger"].apply(variables["query_tagger"], audio)
        condition, variables["query"] = of["query"].init_with_output(key, tags)
        variables["separator"] = of["separator"].init(key, audio, condition)
    return variables


# It runs once: LLVM would take far longer to make many random draws fast than they take.
_compiled_draw = jax.jit(_draw, static_argnums=2, compiler_options={"xla_backend_optimization_level": 0})


def save(folder: Path, networks: Networks, card: str, *, half: bool = False, overwrite: bool = False) -> None:
    """Writes a model directory, all or nothing.

    Args:
      folder: where to.
      networks: what.
      card: text of the model card.
      half: store weights as 16-bit floats.
      overwrite: replace an existing directory.

    Raises:
      ValueError: the folder exists, and may not be replaced.
    """
    parts = {part: tree for part, tree in networks.variables.items() if part in networks.own_parts}
    flat = {name: np.asarray(value) for name, value in traverse_util.flatten_dict(parts, sep="/").items()}
    if networks.class_conditions is not None:
        flat["class_conditions"] = np.asarray(networks.class_conditions)
    if half:
        flat = {name: _as_half(value) for name, value in flat.items()}
    with files.new_folder(folder, overwrite) as temporary:
        files.write_json(temporary / "config.json", {"format": FORMAT} | networks.config)
        weights, readme = temporary / "weights.safetensors", temporary / "README.md"
        safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in flat.items()}, weights)
        readme.write_text(card, encoding="utf-8")
        shutil.copymode(readme, weights)  # which else its owner alone may read


def _as_half(value: np.ndarray) -> np.ndarray:
    """The array in 16 bits, or as it is where they would overflow."""
    return value.astype(np.float16) if np.abs(value).max(initial=0.0) <= np.finfo(np.float16).max else value


def bundled() -> dict[str, Path]:
    """The models that come with the package, by name."""
    root = Path(str(importlib.resources.files("uss_jax"))) / "bundled"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / "config.json").is_file()}


def installed() -> dict[str, Path]:
    """The models that were fetched, by name."""
    root = files.cache_folder() / "models"
    return {folder.name: folder for folder in sorted(root.glob("[!.]*")) if (folder / "config.json").is_file()}


def known() -> dict[str, Path]:
    """All models that go by a name; a bundled one's cannot be taken by another."""
    models = bundled()
    return models | {name: folder for name, folder in installed().items() if name not in models}


def find(name_or_dir: str | Path) -> Path:
    """The directory of a model: a bundled or installed one by name, or any by path.

    Raises:
      ValueError: there is none.
    """
    models = known()
    if str(name_or_dir) in models:
        return models[str(name_or_dir)]
    folder = Path(name_or_dir)
    if not folder.is_dir():
        raise ValueError(f"{name_or_dir}: neither a known model ({', '.join(models)}) nor a model directory")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: not a model directory, it holds no config.json")
    return folder


def load(name_or_dir: str | Path) -> Networks:
    """Reads a model directory, weights as float32.

    Raises:
      ValueError: it is missing, not in this format, or its weights do not fit its configuration.
    """
    folder = find(name_or_dir)
    config = _read_config(folder / "config.json")
    flat = _read_weights(folder / "weights.safetensors")
    try:
        networks = build_networks(config, {})
        expected = variable_shapes(networks)
        shapes = {name: value.shape for name, value in traverse_util.flatten_dict(expected, sep="/").items()}
        if "class_conditions" in flat:
            shapes["class_conditions"] = (len(config["classes"]), networks.condition_size)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{folder / 'config.json'}: does not describe a model ({error})") from error
    _check_weights(folder / "weights.safetensors", shapes, flat)
    conditions = flat.pop("class_conditions", None)
    empty: dict[str, Any] = {part: {} for part, tree in expected.items() if not tree}
    variables = empty | traverse_util.unflatten_dict(flat, sep="/")
    return dataclasses.replace(build_networks(config, variables), class_conditions=conditions)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not a configuration of the format {FORMAT!r}")
    missing = [name for name in ("name", "tagger", "segment_seconds", "classes") if name not in config]
    if missing:
        raise ValueError(f"{path}: lacks {missing[0]!r}")
    return config


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the model directory is not complete")
    try:
        flat = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as safetensors ({error})") from error
    return {name: value.astype(np.float32, copy=False) for name, value in flat.items()}


def _check_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, np.ndarray]) -> None:
    """Raises one ValueError that lists every missing, extra, misshapen and not finite tensor."""
    problems = [f"{name} is missing" for name in sorted(set(shapes) - set(found))]
    problems += [f"{name} is not part of the model" for name in sorted(set(found) - set(shapes))]
    for name in sorted(set(found) & set(shapes)):
        if found[name].shape != shapes[name]:
            problems.append(f"{name} has shape {found[name].shape}, not {shapes[name]}")
        elif not np.isfinite(found[name]).all():
            problems.append(f"{name} holds numbers that are not finite")
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(f"{path}: does not fit config.json: {shown}")
