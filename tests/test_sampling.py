"""The balanced order: every class equally often, every item of a class once before any again."""

import pickle
from collections import Counter

import numpy as np
import pytest

from uss_jax.sampling import BalancedSampler, choose_places

ITEM_CLASSES = np.array([7, 3, 3, 7, 3, 9, 3, 3, 7, 3])  # six items of class 3, three of 7, one of 9


def take(sampler, count):
    return [sampler[index] for index in range(count)]


def test_every_round_holds_every_class_once():
    chosen = ITEM_CLASSES[take(BalancedSampler(ITEM_CLASSES, seed=0), 300)].reshape(100, 3)
    np.testing.assert_array_equal(np.sort(chosen, axis=1), np.tile([3, 7, 9], (100, 1)))
    assert len({tuple(row) for row in chosen}) == 6  # in every order


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_all_items_of_a_class_come_before_any_comes_again(power):
    order = take(BalancedSampler(ITEM_CLASSES, seed=1, power=power), 400)
    for label in (3, 7, 9):
        items = {item for item in range(10) if ITEM_CLASSES[item] == label}
        of_class = [item for item in order if ITEM_CLASSES[item] == label]
        epochs = [of_class[i : i + len(items)] for i in range(0, len(of_class) - len(items) + 1, len(items))]
        assert len(epochs) > 10
        assert all(set(epoch) == items for epoch in epochs)
    of_largest = [item for item in order if ITEM_CLASSES[item] == 3]
    assert of_largest[:6] != of_largest[6:12]  # shuffled anew


@pytest.mark.parametrize(("power", "of_round"), [(0.0, (1, 1, 1)), (0.5, (2, 2, 1)), (1.0, (6, 3, 1))])
def test_a_class_comes_by_a_power_of_its_size(power, of_round):
    rounds = 50
    counts = Counter(ITEM_CLASSES[take(BalancedSampler(ITEM_CLASSES, 2, power), rounds * sum(of_round))].tolist())
    assert tuple(counts[label] for label in (3, 7, 9)) == tuple(rounds * number for number in of_round)


def test_an_item_is_a_function_of_seed_and_place_alone():
    order = take(BalancedSampler(ITEM_CLASSES, seed=3), 60)
    other = pickle.loads(pickle.dumps(BalancedSampler(ITEM_CLASSES, seed=3)))
    assert [other[index] for index in reversed(range(60))] == order[::-1]
    assert take(BalancedSampler(ITEM_CLASSES, seed=4), 60) != order


def test_nothing_to_sample_from_is_refused():
    with pytest.raises(ValueError, match="no items"):
        BalancedSampler(np.array([], int), seed=0)


def test_orders_in_use_are_not_pickled():
    sampler = BalancedSampler(np.repeat(np.arange(10), 1000), seed=0)
    fresh = len(pickle.dumps(sampler))
    take(sampler, 10_000)
    assert len(pickle.dumps(sampler)) == fresh < 60_000


def test_partners_are_the_next_in_the_order_without_a_common_label():
    labels = [{7}, {3}, {3}, {7, 3}, {3}, {9}, {3}, {3}, {7}, {3}]
    sampler = BalancedSampler(ITEM_CLASSES, seed=5)
    for place in range(40):
        chosen = choose_places(sampler, place, 2, lambda item: np.array(sorted(labels[item])))
        target, partner = chosen
        assert target == place
        assert not labels[sampler[target]] & labels[sampler[partner]]
        assert all(labels[sampler[target]] & labels[sampler[between]] for between in range(place + 1, partner))


def test_fewer_places_where_there_are_no_partners():
    sampler = BalancedSampler(np.array([4, 4, 4]), seed=0)
    assert choose_places(sampler, 1, 2, lambda item: np.array([4])) == [1]
