"""Query nets: what each kind makes of tags, and separation by class under a hard query."""

import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_separation import assert_sum
from test_training import SMALL

from uss_jax import conditions, model_dir, queries, targets
from uss_jax.inference import Inference
from uss_jax.models.query import KINDS, QueryNet
from uss_jax.models.registry import TAGGERS
from uss_jax.models.tagger import Tags
from uss_jax.separation import Model
from uss_jax.targets import Target

SPEECH, DOG, BARK = 0, 74, 75
ADAPTOR = {"adaptor_size": 6, "hidden": 5}


def heard(*clipwise: list[float]) -> Tags:
    """Tags of these probabilities, with an embedding of 3."""
    x = jnp.array(clipwise, jnp.float32)
    return Tags(jax.scipy.special.logit(x), x, embedding=jnp.arange(3.0 * len(x)).reshape(-1, 3))


# Kinds


@pytest.mark.parametrize(
    ("clipwise", "expected"),
    [
        ([0.9, 0.5, 0.49, 0.0], [1, 1, 0, 0]),
        ([0.1, 0.2, 0.3, 0.0], [0, 0, 1, 0]),
        ([0.1, 0.3, 0.3, 0.0], [0, 1, 0, 0]),  # the first of those that are as probable
        ([0.7, 0.7, 0.3, 0.0], [1, 1, 0, 0]),
        ([0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0]),
        ([0.0, 1.0, 1.0, 0.0], [0, 1, 1, 0]),  # labels
    ],
)
def test_a_hard_query_is_of_what_is_probable(clipwise: list[float], expected: list[int]) -> None:
    tags = heard(clipwise)
    found = QueryNet("hard").apply({}, tags)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [expected])
    np.testing.assert_array_equal(QueryNet("hard").apply({}, tags.replace(clipwise=found)), found)


def test_each_example_has_its_own_query() -> None:
    tags = heard([0.9, 0.6, 0.1], [0.2, 0.1, 0.3])
    np.testing.assert_array_equal(QueryNet("hard").apply({}, tags), [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(QueryNet("soft").apply({}, tags), tags.clipwise)
    np.testing.assert_array_equal(QueryNet("latent").apply({}, tags), [[0, 1, 2], [3, 4, 5]])


def test_a_tagger_learns_from_every_query_but_a_hard_one() -> None:
    gradients = {
        kind: jax.grad(lambda tags, kind=kind: jnp.sum(QueryNet(kind).apply({}, tags)))(heard([0.9, 0.2]))
        for kind in KINDS
    }
    learns = {kind: any(np.any(leaf) for leaf in jax.tree.leaves(tags)) for kind, tags in gradients.items()}
    assert not learns.pop("hard")
    assert all(learns.values())


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    for ask in (lambda query: query.apply({}, heard([0.5])), lambda query: query.size(TAGGERS["cnn14"]())):
        with pytest.raises(ValueError, match=f"query kind 'loud': expected one of {', '.join(KINDS)}"):
            ask(QueryNet("loud"))


@pytest.mark.parametrize("adaptor", [{}, ADAPTOR])
@pytest.mark.parametrize("tagger", TAGGERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_told_is_that_of_the_condition(kind: str, tagger: str, adaptor: dict[str, int]) -> None:
    module, query = TAGGERS[tagger](embedding_size=12, class_count=7), QueryNet(kind, **adaptor)
    tags = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((2, 32_000)))[0]
    if kind == "latent" and tags.embedding is None:
        with pytest.raises(ValueError, match="a latent query needs a tagger with an embedding"):
            jax.eval_shape(query.init, jax.random.key(0), tags)
        return
    condition, variables = jax.eval_shape(query.init_with_output, jax.random.key(0), tags)
    assert condition.shape == (2, query.size(module))
    expected = {"fc1": (12 if kind == "latent" else 7, 5), "fc2": (5, 6)} if adaptor else {}
    kernels = {name: layer["kernel"].shape for name, layer in variables.get("params", {}).items()}
    assert kernels == expected


def test_an_adaptor_is_two_layers_with_dropout_in_training() -> None:
    query, tags = QueryNet("hard", **ADAPTOR), heard([0.9, 0.2], [0.4, 0.6])
    variables = query.init(jax.random.key(0), tags)
    x = np.array([[1, 0], [0, 1]], np.float32)
    for layer in variables["params"].values():
        x = x @ layer["kernel"] + layer["bias"]
        x = np.where(x > 0, x, 0.01 * x)
    np.testing.assert_allclose(query.apply(variables, tags), x, atol=1e-6)
    trained = query.apply(variables, tags, train=True, rngs={"dropout": jax.random.key(1)})
    assert np.any((trained == 0.0) & (x != 0.0))


# Separation under a hard query


def hard_networks(adaptor: dict[str, int]) -> model_dir.Networks:
    config = SMALL | {
        "tagger": SMALL["tagger"] | {"prior": 0.3},  # hears everything everywhere
        "query": {"kind": "hard", **adaptor},
        "classes": [DOG, SPEECH],
    }
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    return model_dir.build_networks(config, variables)


@pytest.fixture(scope="module", params=[{}, ADAPTOR], ids=["alone", "adaptor"])
def inference(request: pytest.FixtureRequest) -> Inference:
    """Of a model of random weights under a hard query."""
    return Inference(hard_networks(request.param))


def of_classes(inference: Inference, *classes: int) -> np.ndarray:
    """The condition of the classes together, as the query net makes it."""
    networks = inference.networks
    there = np.isin(np.arange(527), classes)[None].astype(np.float32)
    return np.asarray(networks.query.apply(networks.variables["query"], Tags(there, there)))[0]


def blocks_hearing(*blocks: dict[int, float]) -> np.ndarray:
    """Probabilities: (blocks, 527), 0.01 but for these classes."""
    found = np.full((len(blocks), 527), 0.01, np.float32)
    for row, block in zip(found, blocks, strict=True):
        row[list(block)] = list(block.values())
    return found


def found_conditions(inference: Inference, target: Target, probabilities: np.ndarray, **options: Any) -> np.ndarray:
    segments = np.zeros((len(probabilities), 1), np.float32)  # nothing is heard in them but these probabilities
    return conditions.conditions(inference, [target], segments, probabilities, **options)[0]


def test_a_class_is_asked_for_by_its_one_whatever_is_heard(inference: Inference) -> None:
    probabilities = blocks_hearing({DOG: 0.9}, {DOG: 0.3, SPEECH: 0.8}, {})
    dog = np.tile(of_classes(inference, DOG), (3, 1))
    for options in ({}, {"paper": True}):
        found = found_conditions(inference, Target("Dog", (DOG,)), probabilities, **options)
        np.testing.assert_allclose(found, dog, atol=1e-6)


def test_several_classes_are_those_that_are_active_in_the_block(inference: Inference) -> None:
    target = Target("Domestic animals", (BARK, DOG, SPEECH))
    probabilities = blocks_hearing({DOG: 0.3, SPEECH: 0.8}, {BARK: 0.2}, {DOG: 0.1}, {9: 1.0, DOG: 0.19, BARK: 0.19})
    active = [(DOG, SPEECH), (BARK,), (DOG,), (DOG, BARK)]
    expected = np.stack([of_classes(inference, *classes) for classes in active])
    np.testing.assert_allclose(found_conditions(inference, target, probabilities), expected, atol=1e-6)


def test_weights_are_of_the_conditions(inference: Inference) -> None:
    target = Target("Speech + Dog", (SPEECH, DOG), weights=(1.0, 3.0))
    found = found_conditions(inference, target, blocks_hearing({DOG: 0.5, SPEECH: 0.5}))
    expected = 0.25 * of_classes(inference, SPEECH) + 0.75 * of_classes(inference, DOG)
    np.testing.assert_allclose(found, expected[None], atol=1e-6)


def test_any_class_can_be_asked_for(inference: Inference) -> None:
    conditions.check_known(inference, Target("Bark", (BARK,)))


def test_the_condition_of_a_class_is_that_of_the_class_alone(inference: Inference) -> None:
    """No anchor is heard."""
    found = queries.class_conditions(inference.networks, None, None, 8000)
    expected = np.stack([of_classes(inference, DOG), of_classes(inference, SPEECH)])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    known = Inference(dataclasses.replace(inference.networks, class_conditions=found))
    probabilities = blocks_hearing({DOG: 0.3, SPEECH: 0.8}, {})
    for label in (DOG, SPEECH):
        target = Target("known", (label,))
        by_known, by_kind = (found_conditions(x, target, probabilities) for x in (known, inference))
        np.testing.assert_allclose(by_known, by_kind, atol=1e-6)


def test_stems_by_hard_queries_and_the_residual_are_the_input(inference: Inference) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    conditions_of = queries.class_conditions(inference.networks, None, None, 8000)
    for known in (None, conditions_of):
        model = Model(dataclasses.replace(inference.networks, class_conditions=known))
        result = model.separate(samples, 32_000, classes=["Dog", "Bark", "Speech"])
        stems = [stem.audio for stem in result.stems.values()]
        assert list(result.stems) == ["Dog", "Bark", "Speech"]
        assert all(np.abs(stem).max() > 1e-3 for stem in stems)
        assert np.abs(stems[0] - stems[1]).max() > 1e-5
        assert_sum(stems, result.residual, samples)


# Anchors


class Recorder:
    """Clips whose every sample tells where it stands, and that note what was read of them."""

    def __init__(self) -> None:
        self.read: list[tuple[int, int, int]] = []

    def audio(self, clip: int, start: int, count: int) -> np.ndarray:
        self.read.append((clip, start, count))
        return np.sin(np.arange(start, start + count) * (1 + clip)).astype(np.float32)


def test_anchors_are_read_in_the_length_given() -> None:
    """The two of each class in the order of their confidence; the mean of what is heard in them."""
    config = SMALL | {"classes": [DOG, SPEECH]}
    variables = model_dir.initial_variables(model_dir.build_networks(config, {}), jax.random.key(3))
    networks = model_dir.build_networks(config, variables)
    anchors = types.SimpleNamespace(
        label=np.array([DOG, SPEECH, DOG]),
        clip=np.array([4, 5, 6]),
        start=np.array([10, 20, 30]),
        confidence=np.array([0.5, 0.9, 0.7]),
    )
    clips = Recorder()
    found = queries.class_conditions(networks, clips, anchors, 12_000)
    assert networks.segment_samples == 8000
    assert clips.read == [(6, 30, 12_000), (4, 10, 12_000), (5, 20, 12_000)]
    dogs = Inference(networks).conditions(np.stack([clips.audio(6, 30, 12_000), clips.audio(4, 10, 12_000)]))
    np.testing.assert_allclose(found[0], dogs.mean(axis=0), atol=1e-6)


def test_soft_queries_are_masked_as_ever() -> None:
    variables = model_dir.initial_variables(model_dir.build_networks(SMALL, {}), jax.random.key(3))
    inference = Inference(model_dir.build_networks(SMALL, variables))
    probabilities = blocks_hearing({DOG: 0.3, SPEECH: 0.8}, {BARK: 0.7})
    target = Target("dogs", (DOG, BARK))
    np.testing.assert_array_equal(
        found_conditions(inference, target, probabilities), targets.masked(target, probabilities)
    )
