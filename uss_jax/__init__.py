"""Universal source separation in JAX: finds which sounds a recording holds, and takes them apart."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uss_jax.separation import Model

__version__ = "0.1.0"
__all__ = ["load"]


def load(name_or_dir: str = "tiny") -> "Model":
    """A bundled model by its name, or the model in a directory.

    Raises:
      ValueError: there is no such model, or its directory does not hold a complete one.
    """
    from uss_jax.separation import Model  # here, so that `import uss_jax` stays free of jax

    return Model.load(name_or_dir)
