"""The cells of a study: configurations, each under its file's name."""

import ast
import dataclasses
import os
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Cell:
    """A configuration.

    Attributes:
      name: of its file, without the suffix.
      about: the first line of its docstring.
      config: nested, as `train` takes it once it is a ConfigDict.
    """

    name: str
    about: str
    config: dict[str, Any]


def load(paths: Sequence[Path], scale: str | None, settings: Mapping[str, Sequence[str]]) -> dict[str, Cell]:
    """Reads configuration files.

    Args:
      paths: of the files, in the order of the table.
      scale: what their `get_config` is given; nothing where it is None.
      settings: for each task, `tagger` and `separator`, fields to be set, as `optimiser.learning_rate=1e-3`.

    Raises:
      ValueError: a file is no configuration, a field or a scale is unknown, or two files have one name.
    """
    cells: dict[str, Cell] = {}
    for path in paths:
        cell = _load(path, scale, settings)
        if cell.name in cells:
            raise ValueError(f"{path}: another configuration has the name {cell.name!r}")
        cells[cell.name] = cell
    return cells


def _load(path: Path, scale: str | None, settings: Mapping[str, Sequence[str]]) -> Cell:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        module = runpy.run_path(os.fspath(path))
        config = module["get_config"](*([] if scale is None else [scale]))
        task, name = config.task, config.name
    except Exception as error:  # whatever a file of Python raises
        raise ValueError(f"{path}: gives no configuration ({type(error).__name__}: {error})") from error
    if name != path.stem:
        raise ValueError(f"{path}: its name is {name!r}; expected that of the file")
    config.lock()
    for setting in settings.get(task, ()):
        field, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r}: expected FIELD=VALUE")
        try:
            config.update_from_flattened_dict({field: _value(text)})
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: cannot set {setting!r} ({str(error).splitlines()[0]})") from error
    about = (module.get("__doc__") or name).strip().splitlines()[0]
    return Cell(name, about, config.to_dict())


def _value(text: str) -> Any:
    """A literal of Python, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
