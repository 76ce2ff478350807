"""What a configuration says of its data reaches the items that are trained on."""

import jax
import ml_collections
import numpy as np
import pytest

from configs import cnn14_sed, resunet30_soft
from uss_jax import model_dir
from uss_jax.anchors import anchors_path, anywhere
from uss_jax.dataset import Clips
from uss_jax.training.card import model_card
from uss_jax.training.step import TrainState
from uss_jax.training.tasks import make_task

SECONDS = 0.5


@pytest.fixture(scope="module")
def anchors(tones, tmp_path_factory):
    """Folder of anchors anywhere in the clips."""
    folder, clips = tmp_path_factory.mktemp("anchors"), Clips(tones.dataset, "train")
    anywhere(clips, round(SECONDS * 32_000), 0).save(anchors_path(folder, "train"), clips)
    return folder


@pytest.fixture
def make_items(tones, anchors, monkeypatch):
    """A function (task, fields of data) → items; of the paper's recipes, and with no network made."""
    monkeypatch.setattr(model_dir, "initial_variables", lambda *_: {"tagger": {"params": {}, "batch_stats": {}}})

    def make(task, **fields):
        config = {"tagger": cnn14_sed, "separator": resunet30_soft}[task].get_config()
        config.data.dataset, config.data.split = str(tones.dataset), "train"
        config.evaluation.every = 0
        if task == "tagger":
            config.data.clip_seconds = SECONDS
        else:
            config.data.anchors, config.data.anchor_seconds, config.tagger_model = str(anchors), SECONDS, "tiny"
        config.data.update(fields)
        return make_task(config, items=8).source.items(range(8))

    return make


def changed(items, others):
    """Names of the arrays that differ in any item."""
    pairs = list(zip(items, others, strict=True))
    return {name for name in items[0] if any((one[name] != other[name]).any() for one, other in pairs)}


@pytest.mark.parametrize(
    ("field", "value", "of_mixtures"),
    [
        ("equaliser_range_db", 6.0, {"mixture", "source"}),
        ("reverb_share", 1.0, {"mixture", "source"}),
        ("noise_share", 1.0, {"mixture"}),
        ("most_sources", 4, {"mixture"}),
    ],
)
def test_effects_and_numbers_of_sources_reach_the_items(make_items, field, value, of_mixtures):
    assert changed(make_items("separator"), make_items("separator", **{field: value})) == of_mixtures
    of_clips = {"audio", "labels"} if field == "most_sources" else {"audio"}
    assert changed(make_items("tagger"), make_items("tagger", **{field: value})) == of_clips


def test_a_tagger_hears_mixtures_at_levels_within_the_range(make_items):
    plain, pairs = make_items("tagger"), make_items("tagger", source_count=2)
    for single, following, pair in zip(plain, plain[1:], pairs, strict=False):
        np.testing.assert_array_equal(pair["labels"], np.maximum(single["labels"], following["labels"]))
    assert changed(pairs, make_items("tagger", source_count=2, level_range_db=6.0)) == {"audio"}
    assert not changed(plain, make_items("tagger", level_range_db=6.0))


def test_impossible_shares_are_refused(make_items):
    with pytest.raises(ValueError, match=r"data\.reverb_share 2: expected 0 to 1"):
        make_items("tagger", reverb_share=2.0)


@pytest.fixture(scope="module")
def small_tagger(tmp_path_factory):
    """A tagger's model directory."""
    fields = {"kind": "cnn14_decision_level_max", "patch": (4, 4), "widths": (8,), "embedding_size": 8}
    config = {"name": "small", "segment_seconds": SECONDS, "tagger": fields, "classes": [0]}
    networks = model_dir.build_networks(config, {})
    variables = jax.device_get(model_dir.initial_variables(networks, jax.random.key(0)))
    folder = tmp_path_factory.mktemp("tagger") / "model"
    model_dir.save(folder, model_dir.build_networks(config, variables), "")
    return str(folder)


def goes_on(config, model):
    """Saves a model of this configuration, and checks that a run goes on from it. Returns the run's task."""
    first = make_task(config, items=8)
    assert "initial_model" not in first.inputs
    params, batch_stats = jax.tree.map(lambda x: x + 1, (first.params, first.batch_stats))
    state = TrainState(0, 0, params, batch_stats, {}, None)
    networks = first.networks(state)
    assert "went on" not in model_card(config, networks, 8)
    model_dir.save(model, networks, "")
    config.initial_model, config.seed = str(model), 1
    task = make_task(config, items=8)
    jax.tree.map(np.testing.assert_array_equal, task.params, params)
    jax.tree.map(np.testing.assert_array_equal, task.batch_stats, batch_stats)
    assert task.inputs["initial_model"]
    assert f"went on from `{model}`" in model_card(config, task.networks(state), 8)
    return task


def test_a_tagger_goes_on_from_another_of_its_shapes(tones, tmp_path):
    fields = {"kind": "cnn14_decision_level_max", "patch": (2, 4), "widths": (8,), "embedding_size": 8}
    config = cnn14_sed.get_config()
    config.data.dataset, config.data.split, config.data.clip_seconds = str(tones.dataset), "train", SECONDS
    config.evaluation.every, config.segment_seconds = 0, SECONDS
    config.tagger = ml_collections.ConfigDict(fields)
    goes_on(config, tmp_path / "model")
    config.tagger.widths = (4,)
    with pytest.raises(
        ValueError, match=r"initial_model .*model: tagger: batch_stats/block0/bn1/mean is \(8,\), and is to be \(4,\)"
    ):
        make_task(config, items=8)


@pytest.mark.parametrize("tagger_training", ["frozen", "fine_tuned"])
def test_a_separator_goes_on_from_another_of_its_shapes(
    tagger_training, tones, anchors, small_tagger, tmp_path, caplog
):
    config = resunet30_soft.get_config()
    config.data.dataset, config.data.split, config.evaluation.every = str(tones.dataset), "train", 0
    config.data.anchors, config.data.anchor_seconds, config.tagger_model = str(anchors), SECONDS, small_tagger
    config.query.adaptor_size, config.query.hidden, config.tagger_training = 4, 8, tagger_training
    config.separator = ml_collections.ConfigDict({"kind": "resunet", "patch": (4, 8), "widths": (8,), "window": 512})
    config.separator.strides = ((2, 2),)
    task = goes_on(config, tmp_path / "model")
    assert {"query", "separator"} <= task.params.keys()
    assert not caplog.messages  # the queries are those that it was trained by
    config.separator.widths = (4,)
    with pytest.raises(ValueError, match=r"initial_model .*model: separator: .* is \(16,\), and is to be \(8,\)"):
        make_task(config, items=8)
    config.initial_model = small_tagger
    with pytest.raises(ValueError, match=r"initial_model .*: has no query"):
        make_task(config, items=8)


@pytest.fixture
def separator_config(tones, anchors):
    """A run that separates as the bundled model does."""
    config = resunet30_soft.get_config()
    config.data.dataset, config.data.split, config.evaluation.every = str(tones.dataset), "train", 0
    config.data.anchors, config.data.anchor_seconds = str(anchors), SECONDS
    config.separator = ml_collections.ConfigDict(model_dir.load("tiny").config["separator"])
    return config


def test_a_separator_that_goes_on_under_another_tagger_says_so(separator_config, small_tagger, caplog):
    """And not under its own."""
    separator_config.initial_model = "tiny"
    for separator_config.tagger_model in ("tiny", small_tagger):
        make_task(separator_config, items=8)
    assert caplog.messages == [f"the queries of tiny come from another tagger than {small_tagger}"]


@pytest.mark.parametrize("tagger_training", ["frozen", "fine_tuned"])
def test_a_model_with_two_taggers_is_gone_on_with(separator_config, small_tagger, tagger_training, tmp_path, caplog):
    """One tells what is active and stays; the other makes the queries that the separator learned by."""
    tiny, other = model_dir.load("tiny"), model_dir.load(small_tagger)
    model_dir.save(tmp_path / "two", model_dir.with_tagger(tiny, other, "two"), "")
    config = separator_config
    config.initial_model = config.tagger_model = str(tmp_path / "two")
    config.tagger_training = tagger_training
    task = make_task(config, items=8)
    assert not caplog.messages
    trained = task.networks(TrainState(0, 0, task.params, task.batch_stats, task.frozen, None))
    for part, of in (("tagger", other), ("query_tagger", tiny), ("separator", tiny)):
        jax.tree.map(np.testing.assert_array_equal, trained.variables[part], of.variables[part])
    assert ("query_tagger" in task.params) == (tagger_training == "fine_tuned")
    if tagger_training == "frozen":
        jax.tree.map(np.testing.assert_array_equal, task.frozen, tiny.variables["query_tagger"])
        assert task.inputs["query_tagger"] != task.inputs["tagger"]
