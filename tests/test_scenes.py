"""The benchmark `scenes`, on scenes that are wrong and a recording in stereo."""

import json

import numpy as np
import pytest
import soundfile
from test_training import SMALL

from uss_jax import model_dir
from uss_jax.evaluation import scenes

EVENT = {"stem": "dog", "labels": ["Dog"], "onset": 0.0, "offset": 0.5}


@pytest.fixture(scope="module")
def networks():
    import jax

    variables = model_dir.initial_variables(model_dir.build_networks(SMALL, {}), jax.random.key(0))
    return model_dir.build_networks(SMALL, variables)


def write_scene(folder, **changes) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (16_000, 2)).astype(np.float32)
    for name in ("mix.wav", "dog.wav"):
        soundfile.write(folder / name, samples, 32_000)
    scene = {"mixture": "mix.wav", "stems": {"dog": "dog.wav"}, "events": [EVENT]} | changes
    (folder / "scene.json").write_text(json.dumps(scene))


def test_stereo_is_scored_over_all_channels(networks, tmp_path):
    write_scene(tmp_path)
    result = scenes.evaluate_scenes(networks, tmp_path)
    assert list(result["per_class"]) == ["scene: dog"]
    assert np.isfinite(result["mean"]["sdr"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"events": []}, "no labelled event"),
        ({"events": [EVENT | {"labels": []}]}, "no labelled event"),
        ({"events": [{"stem": "dog"}]}, "an event needs"),
        ({"stems": {"dog": "dog.wav", "noise": "dog.wav"}}, "no labelled event of the stem 'noise'"),
        ({"mixture": "../mix.wav"}, "outside of its folder"),
        ({"mixture": "gone.wav"}, "gone.wav: no such file"),
    ],
)
def test_a_wrong_scene_is_named(networks, tmp_path, changes, says):
    write_scene(tmp_path, **changes)
    with pytest.raises(ValueError, match=says):
        scenes.evaluate_scenes(networks, tmp_path)


def test_a_folder_without_scenes_is_named(networks, tmp_path):
    with pytest.raises(ValueError, match="no scenes"):
        scenes.evaluate_scenes(networks, tmp_path)
