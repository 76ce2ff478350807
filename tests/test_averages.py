"""Average queries: which training sources they are made of, and how they are kept; no model takes part."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from test_clips import RATE_HZ, SEGMENT, anchor_mixtures, make_small, numbers, plan_of

from uss_jax import audio
from uss_jax.dataset import Clips
from uss_jax.evaluation import averages
from uss_jax.evaluation.clips import Folder
from uss_jax.evaluation.workers import Workers


@pytest.fixture(scope="module")
def train(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_small(tmp_path_factory)


def test_the_training_sources_of_a_folder_are_the_loudest_parts_of_its_clips(tones, train):
    items, left_out = plan_of(Folder(tones.dataset), "train", per_class=9, seed=7)
    assert not left_out
    assert Counter(item.label for item in items) == {"Speech": 3, "Dog / Bark": 3, "Rain": 3, "Helicopter": 3}
    assert len({item.source for item in items}) == 12
    for item, clip in zip(items, numbers(train, [item.source for item in items]), strict=True):
        assert item.start_s * RATE_HZ == audio.loudest_start(train.audio(clip), SEGMENT, 3_200)
        assert not item.partner


def test_a_folder_takes_at_most_so_many_training_clips_of_a_class(tones):
    items = plan_of(Folder(tones.dataset), "train", per_class=2).items
    assert set(Counter(item.label for item in items).values()) == {2}


def test_the_training_sources_of_anchors_are_balanced_anchors_of_the_training_clips(tones, train):
    benchmark = anchor_mixtures(tones.dataset)
    items, left_out = plan_of(benchmark, "train", per_class=3, seed=7)
    assert not left_out
    assert set(Counter(item.label for item in items).values()) == {3}
    for item, clip in zip(items, numbers(train, [item.source for item in items]), strict=True):
        assert benchmark.classes(item)[0] in train.labels(clip)
    assert len({item.source for item in items}) == 12  # each of a class's three clips once


class Feature:
    """Stands for a model: its condition of a sound is the first four samples. It counts what it is given.

    It can be made to stop when it has heard its `last` sounds.
    """

    def __init__(self, batch_size=8, last=None):
        self.heard = 0
        self.inference = SimpleNamespace(conditions=self._conditions, batch_size=batch_size)
        self._last = last

    def _conditions(self, pieces):
        if self.heard == self._last:
            raise KeyboardInterrupt
        self.heard += len(pieces)
        return pieces[:, :4]


def averages_of(model, benchmark, labels, fingerprint="a", seed=0):
    key = averages.state(benchmark, model, fingerprint, seed)
    with Workers(0, benchmark) as workers:
        return averages.average_conditions(model, key, workers, labels, seed)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("make", "most", "count"),
    [(Folder, 2, 2), (Folder, 9, 3), (anchor_mixtures, 2, 2), (anchor_mixtures, 7, 7), (anchor_mixtures, None, 100)],
)
def test_an_average_query_is_the_mean_over_the_training_sources_of_its_label(
    tones, cache, monkeypatch, make, most, count
):
    """A source that comes up several times counts as often. At most 100 are taken, as in the paper."""
    if most is not None:
        monkeypatch.setattr(averages, "CLIPS_OF_CLASS", most)
    benchmark, model = make(tones.dataset), Feature()
    labels = ["Rain", "Speech"]
    found, left_out = averages_of(model, benchmark, labels)
    assert not left_out
    assert list(found) == labels
    assert model.heard == 2 * min(count, 3)  # each of the three clips once
    for label in labels:
        items = [item for item in plan_of(benchmark, "train", most or 100).items if item.label == label]
        assert len(items) == count
        expected = np.mean([benchmark.query_source(item)[:4] for item in items], axis=0)
        np.testing.assert_allclose(found[label], expected, rtol=1e-6)


def test_average_queries_are_kept_and_only_what_is_missing_is_made(tones, cache):
    benchmark, model = Folder(tones.dataset), Feature()
    first, _ = averages_of(model, benchmark, ["Rain"])
    assert model.heard == 3
    again, _ = averages_of(model, benchmark, ["Rain", "Speech"])
    assert model.heard == 6
    np.testing.assert_array_equal(again["Rain"], first["Rain"])
    assert averages_of(model, benchmark, ["Speech", "Rain"])[0].keys() == again.keys()
    assert model.heard == 6
    (folder,) = (cache / "queries").iterdir()
    assert folder.name == averages.state(benchmark, model, "a", 0)
    assert len(list(folder.iterdir())) == 2  # a file of each label


def test_the_query_of_a_label_is_kept_as_soon_as_it_is_made(tones, cache):
    """What was interrupted goes on there, and ends with the same."""
    benchmark, interrupted, model = Folder(tones.dataset), Feature(last=6), Feature()
    labels = ["Rain", "Speech", "Helicopter"]
    with pytest.raises(KeyboardInterrupt):
        averages_of(interrupted, benchmark, labels)
    assert len(list(cache.glob("queries/*/*"))) == 2
    found, _ = averages_of(model, benchmark, labels)
    assert (interrupted.heard, model.heard) == (6, 3)
    once, _ = averages_of(Feature(), benchmark, labels, fingerprint="b")
    assert list(found) == list(once) == labels
    for label in labels:
        np.testing.assert_array_equal(found[label], once[label])


@pytest.mark.parametrize("change", [{"fingerprint": "b"}, {"seed": 1}])
def test_average_queries_are_made_anew_for_another_model_or_seed(tones, cache, change):
    benchmark, model = anchor_mixtures(tones.dataset), Feature()
    averages_of(model, benchmark, ["Rain"])
    before = model.heard
    averages_of(model, benchmark, ["Rain"], **change)
    assert model.heard > before


def test_average_queries_are_made_anew_for_another_batch_size(tones, cache):
    """It changes the last bits."""
    for batch_size in (8, 4):
        model = Feature(batch_size)
        averages_of(model, Folder(tones.dataset), ["Rain"])
        assert model.heard == 3


def test_average_queries_are_made_anew_for_other_anchors(tones, cache):
    one, other = (anchor_mixtures(tones.dataset, seed) for seed in (0, 1))
    first, second = (averages_of(Feature(), benchmark, ["Rain"])[0]["Rain"] for benchmark in (one, other))
    assert np.abs(first - second).max() > 1e-3


def test_a_label_without_training_sources_has_no_average_and_is_not_looked_for_again(tones, cache):
    benchmark, model = Folder(tones.dataset), Feature()
    for _ in range(2):
        found, _ = averages_of(model, benchmark, ["Rain", "Cat"])
        assert list(found) == ["Rain"]
    assert model.heard == 3


def test_training_sources_that_cannot_be_read_are_left_out_by_name_each_time(small, cache):
    class Damaged(Folder):
        def query_source(self, item):
            if item.source in ("train/dog-0.wav", "train/rain-0.wav", "train/rain-1.wav"):
                raise ValueError(f"{self.data}/{item.source}: damaged")
            return super().query_source(item)

    path, sounds = small
    for _ in range(2):
        found, left_out = averages_of(Feature(), Damaged(path), ["Dog", "Rain"])
        assert left_out == {
            "train/dog-0.wav": "train/dog-0.wav: damaged",
            "train/rain-0.wav": "train/rain-0.wav: damaged",
            "train/rain-1.wav": "train/rain-1.wav: damaged",
        }
        assert list(found) == ["Dog"]
        np.testing.assert_allclose(found["Dog"], sounds["dog-1.wav"][:4], atol=1e-4)
        json.dumps(left_out)


def test_a_damaged_cache_of_queries_is_named(tones, cache):
    averages_of(Feature(), Folder(tones.dataset), ["Rain"])
    (path,) = cache.glob("queries/*/*")
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=rf"{path.name}: not a complete index"):
        averages_of(Feature(), Folder(tones.dataset), ["Rain"])
