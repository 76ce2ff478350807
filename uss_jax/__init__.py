"""Universal source separation in JAX: finds which sounds a recording holds, and takes them apart."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax.export

    from uss_jax.separation import Model

__version__ = "0.1.0"
__all__ = ["export", "load"]


def load(name_or_dir: str = "tiny") -> "Model":
    """A bundled model by its name, or the model in a directory.

    Raises:
      ValueError: there is no such model, or its directory does not hold a complete one.
    """
    from uss_jax.separation import Model  # here, so that `import uss_jax` stays free of jax

    return Model.load(name_or_dir)


def export(model: "Model", samples: int | None = None) -> "jax.export.Exported":
    """The separator of a model as one StableHLO program, which runs without this package.

    Args:
      model: that separates.
      samples: of each mixture, at 32 kHz; a segment's unless given.

    Raises:
      ValueError: the model does not separate.
    """
    from uss_jax import stablehlo

    return stablehlo.export(model.networks, samples)
