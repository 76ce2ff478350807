"""The bundled model on recordings: the example that the repository holds, and real ones where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest

import uss_jax
from uss_jax import audio, model_dir, storage, weak_labels
from uss_jax.evaluation import scenes, tagging
from uss_jax.evaluation.evaluate import Request, evaluate

EXAMPLES = Path(__file__).parents[1] / "examples"
MEGABYTES = 1e6


@pytest.fixture(scope="module")
def tiny():
    return uss_jax.load("tiny")


def test_the_model_is_small():
    folder = model_dir.bundled()["tiny"]
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 20 * MEGABYTES


def test_the_example_is_the_sum_of_its_stems():
    scene = json.loads((EXAMPLES / "yard.json").read_text())
    mixture, _ = audio.read(EXAMPLES / scene["mixture"])
    stems = [audio.read(EXAMPLES / file)[0] for file in scene["stems"].values()]
    np.testing.assert_allclose(sum(stems), mixture, atol=1e-6)


def test_speech_in_the_example_is_found_and_comes_out_closer_to_the_truth(tiny):
    mixture, rate = audio.read(EXAMPLES / "yard.flac")
    events = tiny.tag(mixture, rate, levels=(1,))
    assert {"Human sounds", "Speech"} <= {event.name for event in events}
    result = scenes.evaluate_scenes(tiny.networks, EXAMPLES)
    assert result["per_class"]["yard: speech"]["sdri"] > 6.0
    assert result["mean"]["sdri"] > 14.0
    assert result["mean"]["events_found"] > 0.9


def test_silence_in_gives_silence_out(tiny):
    for condition in tiny.networks.class_conditions[:3]:
        result = tiny.separate(np.zeros(64_000, np.float32), 32_000, embedding=condition)
        assert np.abs(result.stems["query"].audio).max() < 1e-6


def test_a_gain_on_the_input_is_the_same_gain_on_the_output(tiny):
    mixture, rate = audio.read(EXAMPLES / "yard.flac")
    query = tiny.networks.class_conditions[tiny.networks.config["classes"].index(0)]
    loud = tiny.separate(mixture[:100_000], rate, embedding=query).stems["query"].audio
    soft = tiny.separate(0.25 * mixture[:100_000], rate, embedding=query).stems["query"].audio
    assert np.linalg.norm(4 * soft - loud) / np.linalg.norm(loud) < 0.01


@pytest.mark.slow
def test_real_scenes_are_taken_apart(tiny, data_dir):
    result = scenes.evaluate_scenes(tiny.networks, data_dir / "scenes")
    assert result["mean"]["events_found"] > 0.9
    assert result["mean"]["sdri"] > 10.0


@pytest.mark.slow
def test_unseen_clips_of_esc10_are_separated_by_more_than_6_db(tiny, data_dir, tmp_path, monkeypatch):
    """A part of the benchmark of the model card: fold 4, which was held back, by average queries and by name."""
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    esc10 = data_dir / "esc10"
    splits = weak_labels.collect([esc10 / "audio"], [esc10 / "weak_labels.csv"], [esc10 / "meta.csv"], "fold=4")
    folder = storage.store("esc10", splits, tmp_path)
    assert not storage.left_out(folder, "train")
    for query in ("average", "label"):
        out = tmp_path / f"{query}.json"
        result, _ = evaluate(Request("folder", folder, out=out, model="tiny", query=query, per_class=20, workers=0))
        assert result["n"] == 200
        assert len(result["per_class"]) == 10
        assert result["mean"]["sdri"] > 6.0, query
    tags = tagging.evaluate_tagging(tiny.networks, folder)["mean"]
    assert tags["top1"] > 0.8
    assert tags["average_precision"] > 0.9
