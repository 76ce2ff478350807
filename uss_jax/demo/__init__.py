"""A local page that separates the recordings dropped on it: `uss-jax demo`, with the extra `demo`."""

from uss_jax.demo.jobs import Limits
from uss_jax.demo.server import serve

__all__ = ["Limits", "serve"]
