"""From scores to a result: medians and means by hand, and intervals against a slow, plain bootstrap."""

import dataclasses
import importlib.metadata
import json

import numpy as np
import pytest

import uss_jax
from uss_jax.evaluation import summary
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.summary import Scores

HEADING = {"benchmark": "made", "model": "some", "query": "oracle"}
DOG = [(1.0, 10.0), (2.0, 30.0), (9.0, 20.0), (4.0, 0.0)]
RAIN = [(4.0, 0.0), (6.0, 2.0), (5.0, 7.0)]


def scored(**values):
    """Items of these labels, each of a recording of its own, and their rows; a value is SDR and SDRi."""
    items = [Item(label, i, f"{label}/{i}.wav") for label, several in values.items() for i in range(len(several))]
    every = [value for several in values.values() for value in several]
    return items, {
        place: {"item": place, "estimate": {"sdr": sdr, "sdri": sdri}, "mixture": {"sdr": sdr - sdri, "sdri": 0.0}}
        for place, (sdr, sdri) in enumerate(every)
    }


def with_copies(items, rows, copies):
    """The list with further copies of its items, numbered anew, and the rows."""
    row_of = {item.content: rows[place] for place, item in enumerate(items)}
    longer = numbered([*items, *copies])
    return longer, {place: row_of[item.content] for place, item in enumerate(longer)}


def result_of(items, rows, left_out=None, group_name=""):
    return summary.summarise(items, rows, left_out or {}, HEADING, group_name)


# Medians and means


def test_scores_are_the_median_of_a_class_then_the_mean_of_classes():
    result = result_of(*scored(Dog=DOG, Rain=RAIN))
    assert result["per_class"] == {
        "Dog": {"sdr": 3.0, "sdri": 15.0, "n": 4},
        "Rain": {"sdr": 5.0, "sdri": 2.0, "n": 3},
    }
    assert result["mean"] == {"sdr": 4.0, "sdri": 8.5}
    assert result["mixture"]["per_class"]["Rain"] == {"sdr": 4.0, "sdri": 0.0, "n": 3}
    assert result["mixture"]["mean"] == {"sdr": np.mean([np.median([-9.0, -28.0, -11.0, 4.0]), 4.0]), "sdri": 0.0}
    assert (result["benchmark"], result["model"], result["query"]) == ("made", "some", "oracle")
    assert (result["n"], result["distinct_mixtures"]) == (7, 7)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101])
def test_medians_are_those_of_numpy(count):
    values = np.random.default_rng(count).normal(5, 3, (count, 2))
    result = result_of(*scored(Dog=values.tolist()))
    assert [result["per_class"]["Dog"][metric] for metric in ("sdr", "sdri")] == np.median(values, axis=0).tolist()
    assert result["mean"] == {metric: result["per_class"]["Dog"][metric] for metric in ("sdr", "sdri")}


def test_classes_stand_in_the_order_of_the_list_and_their_size_does_not_weigh():
    result = result_of(*scored(Rain=[(0.0, 0.0)] * 9, Dog=[(10.0, 10.0)]))
    assert list(result["per_class"]) == ["Rain", "Dog"]
    assert result["mean"] == {"sdr": 5.0, "sdri": 5.0}


def test_equal_items_have_the_row_of_the_first_of_them():
    items, rows = scored(Dog=[(1.0, 1.0), (2.0, 2.0)])
    longer, _ = with_copies(items, rows, [items[1], items[1]])
    result = result_of(longer, rows)
    assert result["per_class"]["Dog"] == {"sdr": 2.0, "sdri": 2.0, "n": 4}
    assert (result["n"], result["distinct_mixtures"]) == (4, 2)


def test_groups_have_the_median_over_the_items_of_all_their_labels():
    items, rows = scored(Dog=DOG, Cat=[(0.0, 1.0)], Rain=RAIN)
    items = [dataclasses.replace(item, group="Weather" if item.label == "Rain" else "Animal") for item in items]
    result = result_of(items, rows, group_name="family")
    assert result["per_family"] == {
        "Animal": {"sdr": 2.0, "sdri": 10.0, "n": 5},
        "Weather": {"sdr": 5.0, "sdri": 2.0, "n": 3},
    }
    assert len(result["per_class"]) == 3
    assert "per_family" not in result_of(items, rows)


# What is left out


def test_what_is_left_out_is_named_and_counted_and_scores_nothing():
    items, rows = scored(Dog=DOG, Rain=RAIN, Wind=[(99.0, 99.0)])
    rows |= {0: {"item": 0, "left_out": "silent source"}, 7: {"item": 7, "left_out": "no such file"}}
    result = result_of(items, rows, {"train/broken.wav": "not readable"})
    assert result["per_class"]["Dog"] == {"sdr": 4.0, "sdri": 20.0, "n": 3}
    assert list(result["per_class"]) == list(result["intervals"]["per_class"]) == ["Dog", "Rain"]
    assert result["n"] == 6
    assert result["left_out"] == {
        "count": 3,
        "items": 2,
        "classes": ["Wind"],
        "names": {
            "train/broken.wav": "not readable",
            "Dog, 0: Dog/0.wav": "silent source",
            "Wind, 0: Wind/0.wav": "no such file",
        },
    }


def test_classes_without_any_scored_item_are_named_in_the_order_of_the_list():
    items, rows = scored(Wind=DOG[:2], Dog=DOG, Rain=RAIN, Cat=DOG[:1])
    rows |= {place: {"item": place, "left_out": "gone"} for place in (0, 1, 2, 9)}
    result = result_of(items, rows)
    assert result["left_out"]["classes"] == ["Wind", "Cat"]
    assert list(result["per_class"]) == ["Dog", "Rain"]
    assert result_of(*scored(Dog=DOG))["left_out"]["classes"] == []


def test_a_mask_that_has_no_score_for_some_items_is_summed_up_over_the_others():
    items, rows = scored(Dog=DOG, Rain=RAIN)
    for place in (1, 2):
        rows[place]["ideal_ratio_mask"] = {"sdr": 10.0 * place, "sdri": 1.0}
    result = result_of(items, rows)
    assert result["ideal_ratio_mask"] == {
        "mean": {"sdr": 15.0, "sdri": 1.0},
        "per_class": {"Dog": {"sdr": 15.0, "sdri": 1.0, "n": 2}},
    }


def test_silent_estimates_are_counted_by_label_copies_included():
    items, rows = scored(Dog=DOG, Rain=RAIN)
    rows[1]["silent_estimate"] = rows[4]["silent_estimate"] = rows[5]["silent_estimate"] = True
    assert result_of(*with_copies(items, rows, items[:2]))["silent_estimates"] == {"Dog": 2, "Rain": 2}
    assert result_of(*scored(Dog=DOG))["silent_estimates"] == {}


def test_where_all_is_left_out_the_first_reason_is_given():
    items, _ = scored(Dog=DOG[:2])
    rows = {place: {"item": place, "left_out": f"reason {place}"} for place in range(2)}
    with pytest.raises(ValueError, match="none of 2 items could be scored; the first: reason 0"):
        result_of(items, rows)
    with pytest.raises(ValueError, match="none of 0 items could be scored"):
        result_of([], {})


# The bootstrap


def plainly(values, counts):
    """Medians of samples in which each item stands as often as it is drawn."""
    return np.array([np.median(np.repeat(values, row)) if row.any() else np.median(values) for row in counts])


def draw(recordings):
    """How often each item is in each sample of recordings: (draws, items)."""
    return summary.draw_recordings({"": Scores({}, recordings)})[:, recordings]


@pytest.mark.parametrize(
    ("item_count", "recording_count"), [(1, 1), (2, 2), (3, 2), (5, 5), (10, 3), (11, 4), (40, 40), (99, 30)]
)
@pytest.mark.parametrize("rounded", [False, True])
def test_medians_of_drawn_samples_are_those_of_samples_built_item_by_item(item_count, recording_count, rounded):
    random = np.random.default_rng(item_count)
    values = random.normal(0, 2, item_count)
    values = values.round() if rounded else values  # many ties
    recordings = np.concatenate(
        [np.arange(recording_count), random.integers(recording_count, size=item_count - recording_count)]
    )
    random.shuffle(recordings)
    counts = draw(recordings)
    np.testing.assert_array_equal(summary.bootstrap_medians(values, counts), plainly(values, counts))


def test_samples_hold_as_many_recordings_as_there_are_drawn_with_replacement():
    drawn = summary.draw_recordings({"Dog": Scores({}, np.arange(30)), "Rain": Scores({}, np.arange(20, 50))})
    assert drawn.shape == (summary.DRAWS, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert drawn.mean() == 1.0
    assert drawn.var() == pytest.approx(49 / 50, abs=0.03)  # of a binomial


def test_recordings_that_stand_in_several_classes_are_drawn_for_all_of_them_at_once():
    """Stems of the same tracks: a mean of four classes that vary together is no surer than one of them."""
    random = np.random.default_rng(0)
    of_track = random.normal(0, 3, (40, 1)).repeat(2, axis=1)
    labels = "ABCD"
    items, rows = scored(**{label: (of_track + random.normal(0, 0.1, (40, 2))).tolist() for label in labels})
    shared = [dataclasses.replace(item, mixture=f"{item.index}/mixture") for item in items]
    together, apart = (result_of(several, rows)["intervals"] for several in (shared, items))
    widths = [np.ptp(together["per_class"][label]["sdr"]) for label in labels]
    assert np.ptp(together["mean"]["sdr"]) == pytest.approx(np.mean(widths), rel=0.1)
    assert np.ptp(apart["mean"]["sdr"]) == pytest.approx(np.mean(widths) / 2, rel=0.2)


def test_every_item_twice_changes_no_interval():
    items, rows = scored(Dog=np.random.default_rng(0).normal(0, 3, (20, 2)).tolist(), Rain=RAIN)
    once, again = result_of(items, rows), result_of(*with_copies(items, rows, items))
    assert again["intervals"] == once["intervals"]
    assert again["mean"] == once["mean"]
    assert again["n"] == 2 * once["n"]


def test_items_of_one_recording_say_less_than_as_many_recordings():
    values = np.random.default_rng(0).normal(0, 3, (30, 2)).tolist()
    items, rows = scored(Dog=values)
    of_few = [dataclasses.replace(item, start_s=float(i), source=f"{i % 3}.wav") for i, item in enumerate(items)]
    shifted = {place: {"estimate": {"sdr": 10.0 * (place % 3) + values[place][0]}} for place in rows}
    wide = result_of(of_few, shifted)["intervals"]["per_class"]["Dog"]["sdr"]
    narrow = result_of(items, shifted)["intervals"]["per_class"]["Dog"]["sdr"]
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_segments_of_one_mixture_are_of_one_recording():
    items, rows = scored(Dog=DOG)
    stems = [dataclasses.replace(item, mixture="one/mix.flac") for item in items]
    assert result_of(stems, rows)["intervals"]["per_class"]["Dog"] == {"sdr": None, "sdri": None}


def test_a_class_of_one_recording_has_no_interval_and_is_taken_as_it_is_in_the_mean():
    items, rows = scored(Dog=DOG, Rain=[(3.0, 3.0)])
    intervals = result_of(items, rows)["intervals"]
    assert intervals["per_class"]["Rain"] == {"sdr": None, "sdri": None}
    low, high = intervals["per_class"]["Dog"]["sdr"]
    assert intervals["mean"]["sdr"] == pytest.approx([(low + 3.0) / 2, (high + 3.0) / 2])
    alone = result_of(*scored(Dog=DOG[:1], Rain=RAIN[:1]))["intervals"]
    assert alone["mean"] == {"sdr": None, "sdri": None}
    json.dumps(intervals, allow_nan=False)


def test_intervals_are_the_percentiles_of_the_drawn_medians():
    items, rows = scored(Dog=DOG)
    values, recordings = np.array([sdr for sdr, _ in DOG]), np.arange(4)
    expected = np.percentile(plainly(values, draw(recordings)), [2.5, 97.5])
    intervals = result_of(items, rows)["intervals"]
    assert intervals["per_class"]["Dog"]["sdr"] == expected.tolist()
    assert intervals["mean"]["sdr"] == pytest.approx(expected.tolist())


def test_the_interval_of_the_mean_is_that_of_independent_classes():
    """Four equal classes: the deviation of a mean of four is half of that of one."""
    values = np.random.default_rng(0).normal(0, 3, (50, 1)).repeat(2, axis=1).tolist()
    intervals = result_of(*scored(A=values, B=values, C=values, D=values))["intervals"]
    widths = [np.ptp(intervals["per_class"][label]["sdr"]) for label in "ABCD"]
    assert np.ptp(intervals["mean"]["sdr"]) / np.mean(widths) == pytest.approx(0.5, abs=0.08)


def test_intervals_are_the_same_each_time_and_move_with_the_scores():
    first, again = (result_of(*scored(Dog=DOG, Rain=RAIN))["intervals"] for _ in range(2))
    assert again == first
    moved = result_of(*scored(Dog=[(sdr + 1, sdri) for sdr, sdri in DOG], Rain=RAIN))["intervals"]
    for moved_end, end in zip(moved["per_class"]["Dog"]["sdr"], first["per_class"]["Dog"]["sdr"], strict=True):
        assert moved_end == pytest.approx(end + 1)
    assert moved["per_class"]["Dog"]["sdri"] == first["per_class"]["Dog"]["sdri"]


def test_metrics_are_drawn_together():
    """Two metrics with the same values have the same interval, in every class and in the mean."""
    values = np.random.default_rng(0).normal(0, 3, (2, 30, 1)).repeat(2, axis=2).tolist()
    intervals = result_of(*scored(Dog=values[0], Rain=values[1]))["intervals"]
    for of in (intervals["mean"], *intervals["per_class"].values()):
        assert of["sdr"] == of["sdri"]


def test_intervals_of_95_percent_cover_the_truth_about_as_often():
    random = np.random.default_rng(0)
    counts = draw(np.arange(60))
    covered = 0
    for _ in range(200):
        low, high = summary.interval(summary.bootstrap_medians(random.normal(3.0, 2.0, 60), counts))
        covered += low <= 3.0 <= high
    assert 180 <= covered <= 198


def test_intervals_of_clustered_items_cover_the_truth_about_as_often():
    """Five items of each of 40 recordings, which differ more from one another than their items do."""
    random = np.random.default_rng(0)
    counts = {"recordings": draw(np.arange(40).repeat(5)), "items": draw(np.arange(200))}
    covered = dict.fromkeys(counts, 0)
    for _ in range(200):
        values = random.normal(3.0, 2.0, 40).repeat(5) + random.normal(0.0, 0.5, 200)
        for name, of_items in counts.items():
            low, high = summary.interval(summary.bootstrap_medians(values, of_items))
            covered[name] += low <= 3.0 <= high
    assert 180 <= covered["recordings"] <= 198
    assert covered["items"] < 160  # what is gained by drawing recordings


def test_versions_are_of_what_a_result_depends_on(monkeypatch):
    """In a checkout that is not installed, too."""
    assert importlib.metadata.version("uss-jax") == uss_jax.__version__
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version("absent" if name == "uss-jax" else name))
    found = summary.versions()
    assert set(found) == {"uss-jax", "jax", "flax", "numpy"}
    assert found["numpy"] == np.__version__
    assert found["uss-jax"] == uss_jax.__version__
