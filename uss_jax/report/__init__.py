"""`report.html`: what was found in a recording, to be looked at and listened to."""

from uss_jax.report.page import Builder

__all__ = ["Builder"]
