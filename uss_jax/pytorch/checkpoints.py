"""PyTorch files in and out. What is read is hostile until shown otherwise: nothing but tensors is ever unpickled."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from uss_jax import files
from uss_jax.pytorch.names import State

LEAST_TORCH = (2, 6)  # before, even loading with weights_only=True could run code (CVE-2025-32434)
MOST_LISTED = 50  # problems of a file that are named one by one
LONGEST_NAME = 100  # characters of an unknown tensor's name that are told
CONSTANT_TOLERANCE = 1e-3  # relative; releases of librosa and NumPy make constants that differ by about 1e-7


def import_torch() -> ModuleType:
    """PyTorch, which only conversion needs. Raises ValueError where it is missing or too old to read files safely."""
    try:
        import torch
    except ImportError as error:
        raise ValueError("conversion needs PyTorch, which is not installed: pip install 'uss-jax[convert]'") from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < LEAST_TORCH:
        raise ValueError(f"PyTorch {torch.__version__} does not read files safely: pip install 'uss-jax[convert]'")
    return torch


class Checkpoint:
    """The tensors of a file, by name, from which parts are taken; what nobody took is an error at the end.

    Attributes:
      path: of the file.
      tensors: by name; where the file allows it they stay on the disk until they are used.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file, a state dict or something that holds one: PANNs' `model`, Lightning's `state_dict`.

        Raises:
          ValueError: it is missing, not complete, or holds anything besides tensors and plain containers.
        """
        self.path = path
        self.tensors = _state_dict(path, _load(path))
        self._problems: list[str] = []
        self._known: set[str] = set()

    def has(self, prefix: str) -> bool:
        """Whether there is a tensor whose name begins so."""
        return any(name.startswith(prefix) for name in self.tensors)

    def shape(self, pattern: str) -> tuple[int, ...] | None:
        """The shape of the first tensor whose name matches the whole pattern, or None."""
        for name, tensor in self.tensors.items():
            if re.fullmatch(pattern, name):
                return tuple(tensor.shape)
        return None

    def take(self, prefix: str, shapes: Mapping[str, tuple[int, ...]], constants: State | None = None) -> State:
        """A module's tensors as float32, by their names without the prefix.

        Whatever is wrong is remembered for `finish`; wrong tensors are left out.

        Args:
          prefix: of their names in the file.
          shapes: of each that must be there.
          constants: what may be there, and then must have this value.
        """
        found = {}
        for name, shape in shapes.items():
            tensor = self.tensors.get(prefix + name)
            if tensor is None:
                self._problems.append(f"{prefix + name} is missing")
            elif (problem := _misfit(tensor, shape)) is not None:
                self._problems.append(f"{prefix + name} {problem}")
            else:
                found[name] = tensor.detach().float().numpy()
                if not np.isfinite(found[name]).all():
                    self._problems.append(f"{prefix + name} holds numbers that are not finite")
        for name, constant in (constants or {}).items():
            tensor = self.tensors.get(prefix + name)
            if tensor is not None and not _close(tensor, constant):
                self._problems.append(f"{prefix + name} is not the front end's at 32 kHz")
        # PyTorch counts the batches of every module that has running statistics.
        counters = [name.replace("running_mean", "num_batches_tracked") for name in shapes if "running_mean" in name]
        self._known |= {prefix + name for name in (*shapes, *(constants or {}), *counters)}
        return found

    def ignore(self, prefix: str) -> None:
        """Lets tensors be whose names begin so."""
        self._known |= {name for name in self.tensors if name.startswith(prefix)}

    def finish(self) -> None:
        """Raises one ValueError that names every tensor that is missing, of a wrong shape, or unknown."""
        unknown = sorted(set(self.tensors) - self._known)
        problems = self._problems + [f"{name[:LONGEST_NAME]} is unknown" for name in unknown]
        if problems:
            listed = "; ".join(problems[:MOST_LISTED])
            more = f"; and {len(problems) - MOST_LISTED} more" if len(problems) > MOST_LISTED else ""
            raise ValueError(f"{self.path}: not the weights of this network: {listed}{more}")


def _misfit(tensor: Any, shape: tuple[int, ...]) -> str | None:
    """What is wrong with a tensor; None if nothing is. Looks at its shape before its content, which may be vast."""
    if tuple(tensor.shape) != shape:
        return f"has shape {tuple(tensor.shape)}, not {shape}"
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, not floating-point numbers"
    if tensor.device.type != "cpu" or "strided" not in str(tensor.layout):
        return "is not a dense tensor with content"
    return None


def _close(tensor: Any, constant: np.ndarray) -> bool:
    if _misfit(tensor, constant.shape) is not None:
        return False
    difference = np.linalg.norm(tensor.detach().float().numpy() - constant)
    return bool(difference <= CONSTANT_TOLERANCE * np.linalg.norm(constant))  # False for NaN


def _load(path: Path) -> Any:
    torch = import_torch()
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = named.group(1) if named else "what is no PyTorch file"
        raise ValueError(
            f"{path}: refused, and nothing of it was run: it holds {what}, where only tensors and plain containers"
            " are read"
        ) from error
    except Exception as error:  # broken bytes make the unpickler fail in any way
        reason = str(error).partition(".")[0].strip() or type(error).__name__
        raise ValueError(f"{path}: not a complete PyTorch file ({reason})") from error


def _state_dict(path: Path, content: Any) -> dict[str, Any]:
    torch = import_torch()
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: holds no weights (expected a state dict)")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{path}: holds no state dict: {str(name)[:LONGEST_NAME]!r} is no tensor")
    return dict(content)


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a PyTorch file, whole or not at all; NumPy arrays, also in dicts inside, become tensors."""
    torch = import_torch()

    def tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: tensors(inner) for name, inner in value.items()}
        return torch.from_numpy(np.array(value, order="C")) if isinstance(value, np.ndarray) else value

    with files.new_file(path) as temporary:
        torch.save(tensors(content), temporary)
