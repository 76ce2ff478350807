"""Models and benchmarks by name: what is refused."""

import dataclasses

import pytest

from uss_jax import model_dir
from uss_jax.evaluation import registry


def test_a_model_that_only_tags_is_refused(monkeypatch):
    tagger = dataclasses.replace(model_dir.load("tiny"), separator=None)
    monkeypatch.setattr(model_dir, "load", lambda name: tagger)
    with pytest.raises(ValueError, match="the model 'tiny' tags and does not separate"):
        registry.load_model("tiny", batch_size=8)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="gone: no such folder"):
        registry.open_benchmark("fsd50k", tmp_path / "gone")
