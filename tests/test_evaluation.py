"""What the benchmarks measure on, and how scores are summed up; no model takes part."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from uss_jax import audio, audioset, evaluation
from uss_jax.dataset import Clips
from uss_jax.evaluation import Category

DOG, BARK, RAIN, SPEECH = 74, 75, 289, 0


class Labelled:
    """Stands for a split of a dataset: the labels of its clips."""

    folder = "labelled"

    def __init__(self, *labels):
        self._labels = labels

    def __len__(self):
        return len(self._labels)

    def labels(self, clip):
        return np.array(self._labels[clip])

    def label_pairs(self):
        pairs = [(clip, label) for clip, labels in enumerate(self._labels) for label in labels]
        return tuple(np.array(pairs).T)


@pytest.fixture(scope="module")
def train(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def validation(tones):
    return Clips(tones.dataset, "validation")


def test_classes_that_always_stand_together_are_one_category(train, validation):
    found = evaluation.categories(train, validation)
    assert {category.name: category.labels for category in found} == {
        "Speech": audioset.parse_labels("Speech"),
        "Dog / Bark": (DOG, BARK),
        "Rain": audioset.parse_labels("Rain"),
        "Helicopter": audioset.parse_labels("Helicopter"),
    }


def test_classes_that_part_in_either_split_are_two_categories():
    together, apart = Labelled((DOG, BARK), (DOG, BARK)), Labelled((DOG, BARK), (DOG,))
    assert [c.name for c in evaluation.categories(together, together)] == ["Dog / Bark"]
    assert [c.name for c in evaluation.categories(together, apart)] == ["Dog", "Bark"]
    assert [c.name for c in evaluation.categories(apart, together)] == ["Dog", "Bark"]


def test_a_class_without_clips_in_either_split_is_not_evaluated():
    found = evaluation.categories(Labelled((DOG,), (RAIN,)), Labelled((DOG,), (SPEECH,)))
    assert found == [Category("Dog", (DOG,))]


def test_items_are_a_function_of_dataset_number_and_seed(train, validation):
    found = evaluation.categories(train, validation)
    items = evaluation.choose_items(found, train, per_class=6, seed=0)
    assert evaluation.choose_items(found, train, per_class=6, seed=0) == items
    assert evaluation.choose_items(found, train, per_class=6, seed=1) != items
    for category in found:  # those of a class do not depend on the other classes
        alone = evaluation.choose_items([category], train, per_class=6, seed=0)
        assert alone == [item for item in items if item.category == category]


@pytest.mark.parametrize("per_class", [1, 2, 6, 7])
def test_each_class_has_its_number_of_items_and_each_clip_an_equal_share(train, validation, per_class):
    found = evaluation.categories(train, validation)
    items = evaluation.choose_items(found, train, per_class, seed=0)
    assert Counter(item.category for item in items) == dict.fromkeys(found, per_class)
    for category in found:
        members = evaluation.clips_with(train, category)
        shares = Counter(item.clip for item in items if item.category == category)
        assert set(shares) <= set(members.tolist())
        assert max(shares.values()) - min(shares[clip] for clip in members.tolist()) <= 1


def test_partners_share_no_label_and_vary(train, validation):
    items = evaluation.choose_items(evaluation.categories(train, validation), train, per_class=30, seed=0)
    for item in items:
        assert audioset.disjoint(train.labels(item.clip), train.labels(item.partner))
    assert {item.partner for item in items} == set(range(len(train)))


def test_where_all_clips_share_a_label_there_is_nothing_to_mix():
    dogs = Labelled((DOG,), (DOG, BARK))
    with pytest.raises(ValueError, match="labelled: no two validation clips without a common label"):
        evaluation.choose_items([Category("Dog", (DOG,))], dogs, per_class=2, seed=0)


def test_the_loudest_segment_is_found_in_the_clip_or_padded(validation):
    starts = []
    for clip in range(len(validation)):
        samples = validation.audio(clip)
        starts.append(audio.loudest_start(samples, 32_000, 3_200))
        segment = evaluation.loudest_segment(validation, clip, 32_000)
        np.testing.assert_array_equal(segment, samples[starts[-1] : starts[-1] + 32_000])
        longer = evaluation.loudest_segment(validation, clip, len(samples) + 10)
        np.testing.assert_array_equal(longer, np.pad(samples, (0, 10)))
    assert max(starts) > 0


def test_scores_are_the_median_of_a_class_then_the_mean_of_classes():
    scores = {"Dog": [(1.0, 10.0), (2.0, 30.0), (9.0, 20.0)], "Rain": [(4.0, 0.0), (6.0, 2.0)], "Speech": []}
    result = evaluation.summary(SimpleNamespace(config={"name": "some"}), "folder", "oracle", scores)
    assert result["per_class"] == {"Dog": {"sdr": 2.0, "sdri": 20.0, "n": 3}, "Rain": {"sdr": 5.0, "sdri": 1.0, "n": 2}}
    assert result["mean"] == {"sdr": 3.5, "sdri": 10.5}
    assert (result["benchmark"], result["model"], result["query"], result["n"]) == ("folder", "some", "oracle", 5)
    assert set(result["versions"]) == {"uss-jax", "jax", "flax", "numpy"}
    assert json.loads(json.dumps(result)) == result


def test_a_tagger_and_an_unknown_query_are_refused(tones):
    tagger = SimpleNamespace(separator=None, config={"name": "hears"})
    with pytest.raises(ValueError, match="'hears' tags and does not separate"):
        evaluation.evaluate_folder(tagger, tones.dataset, "oracle", 1, 0)
    separator = SimpleNamespace(separator=object(), config={"name": "parts"})
    with pytest.raises(ValueError, match="query 'best': expected 'average' or 'oracle'"):
        evaluation.evaluate_folder(separator, tones.dataset, "best", 1, 0)
