"""What is separated, and by which query."""

import numpy as np
import pytest

from uss_jax import audioset, listening, targets
from uss_jax.targets import EXPECTED, FAINT, Target

PROBABILITIES = np.random.default_rng(0).random((4, 527)).astype(np.float32)


def test_levels_are_all_their_nodes_coarse_to_fine_and_wanted_where_active():
    wanted = targets.of_levels([2, 1, 2])
    nodes = [*audioset.nodes_at(1), *audioset.nodes_at(2)]
    assert [(t.name, t.class_indices, t.level, t.mid) for t in wanted] == [
        (node.name, node.class_indices, node.level, node.mid) for node in nodes
    ]
    assert not any(target.always for target in wanted)
    assert len(targets.of_levels([1])) == 7


@pytest.mark.parametrize("levels", [[0], [1, 7], [-1]])
def test_an_unknown_level_is_told_the_range(levels):
    with pytest.raises(ValueError, match=f"level {levels[-1]}: ontology levels run from 1 to 6"):
        targets.of_levels(levels)


def test_no_level_is_refused():
    with pytest.raises(ValueError, match="levels run from 1 to 6"):
        targets.of_levels([])


def test_classes_are_a_target_each_in_the_order_asked_for_and_always_wanted():
    wanted = targets.of_classes(["Speech", 74, "/m/0bt9lr", "dog"])
    assert wanted == [
        Target("Speech", (0,), mid="/m/09x0r", least=EXPECTED),
        Target("Dog", (74,), mid="/m/0bt9lr", least=EXPECTED),
    ]
    assert all(target.always and target.level is None for target in wanted)


def test_classes_together_are_one_target():
    assert targets.of_classes(["Dog", 0, "Dog"], together=True) == [Target("Dog + Speech", (74, 0), least=EXPECTED)]


@pytest.mark.parametrize("together", [False, True])
def test_unknown_classes_and_none_are_refused(together):
    with pytest.raises(ValueError, match="'Dgo' is not"):
        targets.of_classes(["Dog", "Dgo"], together)
    with pytest.raises(ValueError, match="no classes"):
        targets.of_classes([], together)


@pytest.mark.parametrize(
    ("heard", "active"),
    [
        ((0.9, 0.04, 0.02, 0.0), (1, 1, 0, 0)),  # it is heard: all goes by the usual probability
        ((0.07, 0.031, 0.029, 0.0), (1, 1, 0, 0)),
        ((0.04, 0.021, 0.019, 0.0), (1, 1, 0, 0)),  # hardly: up to half as likely as at best
        ((0.024, 0.013, 0.011, 0.0), (1, 1, 0, 0)),
        ((0.012, 0.011, 0.009, 0.0), (1, 1, 0, 0)),  # but no less than faint
        ((1.01 * FAINT, 0.0, 0.0, 0.0), (1, 0, 0, 0)),
        ((0.009, 0.008, 0.0, 0.0), (0, 0, 0, 0)),  # not at all
    ],
)
def test_a_sound_asked_for_by_name_is_active_where_it_is_likeliest(heard, active):
    probabilities = np.zeros((4, 527), np.float32)
    probabilities[:, 74] = heard
    (dog,) = targets.of_classes(["Dog"])
    found = listening.activities([targets.at_best(dog, probabilities)], probabilities)
    np.testing.assert_array_equal(found, [np.array(active, bool)])
    node = next(node for node in targets.of_levels([2]) if 74 in node.class_indices)
    for other in (node, Target("query", condition=np.zeros(8))):
        assert targets.at_best(other, probabilities) is other


def test_a_target_is_as_active_as_its_most_probable_class():
    dog = Target("Dog and Bark", (74, 75))
    np.testing.assert_array_equal(
        targets.activity(dog, PROBABILITIES), np.maximum(PROBABILITIES[:, 74], PROBABILITIES[:, 75])
    )


def test_a_fixed_query_is_always_active():
    query = Target("query", condition=np.zeros(3, np.float32))
    np.testing.assert_array_equal(targets.activity(query, PROBABILITIES), np.ones(4))


def test_the_soft_query_has_only_the_targets_classes():
    before = PROBABILITIES.copy()
    masked = targets.masked(Target("some", (0, 74)), PROBABILITIES)
    np.testing.assert_array_equal(masked[:, [0, 74]], PROBABILITIES[:, [0, 74]])
    assert np.count_nonzero(masked) == 8
    np.testing.assert_array_equal(PROBABILITIES, before)


@pytest.mark.parametrize(
    ("heard", "weights"),
    [
        ({74: 0.6, 75: 0.2}, (0.75, 0.25)),  # both active, weighted by how active they are
        ({74: 0.6, 75: 0.1}, (1.0, 0.0)),  # the second is not active
        ({74: 0.05, 75: 0.1}, (0.0, 1.0)),  # none is: the most probable stands for the target
        ({74: 0.1, 75: 0.1}, (0.5, 0.5)),
        ({}, (0.5, 0.5)),
        ({74: 0.6, 0: 0.9, 76: 0.9}, (1.0, 0.0)),  # neither other classes nor those without a condition count
    ],
)
def test_a_class_mixture_is_weighted_by_activity(heard, weights):
    conditions = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)  # of Bark, Speech, Dog
    probabilities = np.zeros((1, 527), np.float32)
    probabilities[0, list(heard)] = list(heard.values())
    target = Target("Dog", (74, 75, 76), least=0.15)
    mixture = targets.class_mixture(target, probabilities, (75, 0, 74), conditions)
    expected = weights[0] * conditions[2] + weights[1] * conditions[0]
    np.testing.assert_allclose(mixture, expected[None], atol=1e-5)
    assert mixture.dtype == np.float32


def test_each_block_has_its_own_class_mixture():
    conditions = np.eye(2, dtype=np.float32)
    probabilities = np.zeros((2, 527), np.float32)
    probabilities[0, 74] = probabilities[1, 75] = 0.9
    mixture = targets.class_mixture(Target("Dog", (74, 75)), probabilities, (74, 75), conditions)
    np.testing.assert_array_equal(mixture, conditions)


def test_what_is_asked_for_by_name_is_active_sooner_than_what_is_looked_for():
    probabilities = np.zeros((3, 527), np.float32)
    probabilities[:, 74] = 0.19, 0.04, 0.02
    asked = targets.of_classes(["Dog"]) + targets.of_classes(["Dog", "Speech"], together=True)
    nodes = [target for target in targets.of_levels([3]) if 74 in target.class_indices]
    found = listening.activities([*asked, *nodes], probabilities)
    np.testing.assert_array_equal(found, [[True, True, False]] * 2 + [[False] * 3] * len(nodes))
    assert nodes
    assert listening.activities(nodes, probabilities + np.float32(0.011)).any(axis=1).all()
