"""Model directories: what is written comes back, and what does not fit is refused."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy
from test_training import SMALL

from uss_jax import cli, model_dir
from uss_jax.inference import Inference
from uss_jax.separation import Model


@pytest.fixture
def networks() -> model_dir.Networks:
    built = model_dir.build_networks(SMALL, {})
    return model_dir.build_networks(SMALL, model_dir.initial_variables(built, jax.random.key(0)))


@pytest.fixture
def folder(networks, tmp_path):
    model_dir.save(tmp_path / "model", networks, "# card")
    return tmp_path / "model"


def test_weights_come_back_to_the_bit(networks, folder):
    loaded = model_dir.load(folder)
    for part in ("tagger", "separator"):
        jax.tree.map(np.testing.assert_array_equal, networks.variables[part], loaded.variables[part])
    assert loaded.config == networks.config
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "weights.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # who may read one may read the others


def test_in_use_variables_lie_on_the_device_once(folder):
    loaded = model_dir.load(folder)
    assert any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded.variables))
    variables = Model(loaded).networks.variables
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))
    assert variables["query_tagger"] is variables["tagger"]


def test_another_tagger_tells_what_is_active_and_queries_stay(networks, tmp_path):
    own = {"kind": "cnn14", "patch": [2, 4], "widths": [4], "embedding_size": 6}
    alone = {name: SMALL[name] for name in ("segment_seconds", "classes")} | {"name": "other", "tagger": own}
    variables = model_dir.initial_variables(model_dir.build_networks(alone, {}), jax.random.key(1))
    other = model_dir.build_networks(alone, variables)
    conditions = np.ones((1, 527), np.float32)
    networks = dataclasses.replace(networks, config=networks.config | {"classes": [3]}, class_conditions=conditions)
    sources = {"model": networks, "other": other}
    for name, of in sources.items():
        model_dir.save(tmp_path / name, of, f"# card of {name}")
    paths = {name: str(tmp_path / name) for name in ("model", "other", "new", "newer")}
    assert cli.main(["retag", paths["model"], "--tagger", paths["other"], "--out", paths["new"]]) == 0
    new = model_dir.load(tmp_path / "new")
    segments = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    models = {name: Inference(model_dir.load(paths[name])) for name in ("model", "other", "new")}
    np.testing.assert_array_equal(models["new"].probabilities(segments), models["other"].probabilities(segments))
    np.testing.assert_array_equal(models["new"].conditions(segments), models["model"].conditions(segments))
    np.testing.assert_array_equal(new.class_conditions, conditions)
    jax.tree.map(np.testing.assert_array_equal, new.variables["separator"], networks.variables["separator"])
    assert (new.config["name"], new.config["sed"]) == ("new", networks.config["tagger"])  # the other cannot hear when
    jax.tree.map(np.testing.assert_array_equal, new.variables["sed"], networks.variables["tagger"])
    assert all(f"# card of {name}" in (tmp_path / "new" / "README.md").read_text() for name in sources)

    (tmp_path / "new" / "README.md").unlink()  # a model may have no card
    assert cli.main(["retag", paths["new"], "--tagger", paths["model"], "--half", "--out", paths["newer"]]) == 0
    back = model_dir.load(tmp_path / "newer")
    own = networks.config["tagger"]
    assert back.config == networks.config | {"name": "newer", "query_tagger": own, "sed": own}
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3), back.variables["sed"], networks.variables["sed"]
    )
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("new", "newer")]
    assert sizes[1] < 0.7 * sizes[0]
    both_hear_when = model_dir.with_tagger(networks, networks, "twice")
    assert both_hear_when.own_parts.count("sed") == 0


def test_a_model_that_only_tags_is_not_retagged(folder, tmp_path, capsys):
    assert cli.main(["retag", "TAGS", "--tagger", str(folder), "--out", str(tmp_path / "x")]) == 1
    assert "TAGS: neither a known model" in capsys.readouterr().err
    config = {name: SMALL[name] for name in ("name", "segment_seconds", "classes", "tagger")}
    with pytest.raises(ValueError, match="'small' tags and does not separate"):
        model_dir.with_tagger(model_dir.build_networks(config, {}), model_dir.load(folder), "x")


def test_a_query_net_may_have_a_tagger_of_its_own(tmp_path):
    """The latent query comes from it, so that the tagger need not have an embedding."""
    own = {"kind": "cnn14", "patch": [2, 4], "widths": [8, 8], "embedding_size": 6}
    hears_everything = SMALL["tagger"] | {"prior": 0.6}
    config = SMALL | {"tagger": hears_everything, "query_tagger": own, "query": {"kind": "latent"}}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(0))
    model_dir.save(tmp_path / "own", model_dir.build_networks(config, variables), "")
    loaded = model_dir.load(tmp_path / "own")
    assert loaded.condition_size == 6
    assert loaded.query_tagger is not loaded.tagger
    jax.tree.map(np.testing.assert_array_equal, loaded.variables["query_tagger"], variables["query_tagger"])
    model = Model(loaded)
    noise = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    bottlenecks = model.inference.bottlenecks(noise[None, :8000])
    expected = loaded.query_tagger.apply(variables["query_tagger"], noise[None, :8000]).embedding
    np.testing.assert_allclose(bottlenecks, expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"Dog: the query of this model is latent.*--query"):
        model.separate(noise, 32_000, classes=["Dog"])
    with pytest.raises(ValueError, match="Dog: a query of 6 elements cannot be masked"):
        model.separate(noise, 32_000, classes=["Dog"], paper=True)


def test_half_precision_keeps_three_digits(networks, tmp_path):
    model_dir.save(tmp_path / "half", networks, "", half=True)
    loaded = model_dir.load(tmp_path / "half")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        networks.variables["separator"],
        loaded.variables["separator"],
    )


def test_a_saved_model_is_not_replaced_unless_asked(networks, folder):
    with pytest.raises(ValueError, match="exists already"):
        model_dir.save(folder, networks, "")
    model_dir.save(folder, networks, "new", overwrite=True)
    assert (folder / "README.md").read_text() == "new"


def change_weights(folder, change) -> None:
    path = folder / "weights.safetensors"
    weights = safetensors.numpy.load_file(path)
    change(weights)
    safetensors.numpy.save_file(weights, path)


def test_missing_extra_and_misshapen_tensors_are_all_named_at_once(folder):
    def change(weights):
        weights["separator/params/extra"] = np.zeros(3, np.float32)
        del weights["separator/params/pre_conv/bias"]
        weights["tagger/params/fc1/bias"] = np.zeros(5, np.float32)

    change_weights(folder, change)
    with pytest.raises(ValueError, match=r"weights\.safetensors") as error:
        model_dir.load(folder)
    for part in ("pre_conv/bias is missing", "params/extra is not part", "fc1/bias has shape (5,)"):
        assert part in str(error.value)


def test_weights_that_are_not_finite_are_refused(folder):
    change_weights(folder, lambda weights: weights["separator/params/pre_conv/bias"].fill(np.nan))
    with pytest.raises(ValueError, match="pre_conv/bias holds numbers that are not finite"):
        model_dir.load(folder)


def test_mean_conditions_come_back_and_must_fit_the_classes(networks, tmp_path):
    networks = dataclasses.replace(
        networks, config=networks.config | {"classes": [0, 74]}, class_conditions=np.ones((2, 527), np.float32)
    )
    model_dir.save(tmp_path / "model", networks, "")
    np.testing.assert_array_equal(model_dir.load(tmp_path / "model").class_conditions, networks.class_conditions)
    change_weights(tmp_path / "model", lambda weights: weights.update(class_conditions=np.ones((3, 527), np.float32)))
    with pytest.raises(ValueError, match="class_conditions has shape"):
        model_dir.load(tmp_path / "model")


def test_a_truncated_weight_file_is_named(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        model_dir.load(folder)


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(folder, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    (folder / "weights.safetensors").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        model_dir.load(folder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(format="other"), "format"),
        (lambda c: c.pop("tagger"), "tagger"),
        (lambda c: c["tagger"].update(kind="os.system"), "kind 'os.system'"),
        (lambda c: c["separator"].update(depth=3), "no field 'depth'"),
        (lambda c: c["separator"].update(widths="wide"), "config.json"),
        (lambda c: c["separator"].update(hop=0), "config.json"),
        (lambda c: c["separator"].update(widths=[8, 8]), "2 widths, but 1 strides"),
        (lambda c: c["tagger"].update(prior=1), "config.json"),
        (lambda c: c["tagger"].update(sample_rate_hz=16_000), "32000 Hz"),
        (lambda c: c["tagger"].update(class_count=10), "527 classes"),
        (lambda c: c.update(segment_seconds=float("inf")), "config.json"),
        (lambda c: c.update(classes=[9999]), "class indices"),
        (lambda c: c.pop("query"), "goes with a query"),
        (lambda c: c.update(sed=c["tagger"] | {"kind": "cnn14"}), "hears when"),
    ],
)
def test_a_wrong_configuration_is_named(folder, change, says):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=says) as error:
        model_dir.load(folder)
    assert "config.json" in str(error.value)


def test_an_unknown_model_is_told_the_known_ones():
    with pytest.raises(ValueError, match="neither a known model"):
        model_dir.load("no such model")
