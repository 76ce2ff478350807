"""Two results side by side: what differs, how surely, and what is never to be compared."""

import dataclasses
import json

import numpy as np
import pytest

from uss_jax import files
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import summary
from uss_jax.evaluation.compare import Paths, compare
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.journal import Journal


def listed(**counts):
    """So many items of each label, each of a recording of its own."""
    return numbered([Item(label, 0, f"{label}/{i}.wav") for label, count in counts.items() for i in range(count)])


def write(path, items, sdr, left_out=(), **heading):
    """The files of a result; `sdr` is that of each item, and SDRi is one less. Returns the path of the JSON file."""
    paths = Paths(path)
    heading = {"benchmark": "folder", "model": path.stem, "query": "average"} | heading
    files.write_text(paths.mixtures, item_lists.to_csv(items))
    journal = Journal(paths.journal, heading)
    journal.begin(item_lists.digest(items), {})
    scores = [{"sdr": float(value), "sdri": float(value) - 1} for value in sdr]
    journal.write(
        [
            {"item": place} | ({"left_out": "silent"} if place in left_out else {"estimate": scores[place]})
            for place in range(len(items))
        ]
    )
    files.write_json(paths.result, summary.summarise(items, journal.rows, {}, heading))
    return path


def table(text):
    """The lines of the table by metric, as cells."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()[4:]]
    return {row[0]: row[1:] for row in rows}


def ends(difference):
    """The interval in a cell such as `+1.00 (+0.50 … +1.50)`."""
    return [float(end) for end in difference.split("(")[1].rstrip(")").split("…")]


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(5, 4, 30)


# What differs


def test_the_table_by_hand(tmp_path):
    items = listed(Dog=3, Rain=2)
    one = write(tmp_path / "one.json", items, [1, 2, 9, 4, 6])
    other = write(tmp_path / "other.json", items, [2, 5, 6, 4, 5])
    text = compare(one, other)
    assert text.startswith("folder: 5 items of 2 classes, scored by both; 95 % intervals\n\n")
    assert "| | one, average | other, average | difference | second is better |" in text
    rows = table(text)
    assert list(rows) == ["sdr", "sdri"]
    assert rows["sdr"][:2] == ["3.50", "4.75"]  # means of the medians 2, 5 and 5, 4.5
    assert rows["sdr"][2].startswith("+1.25 (")
    assert rows["sdr"][3] == "50% of items"  # two of five, and half for the one that is equal
    assert rows["sdri"][:2] == ["2.50", "3.75"]


@pytest.mark.parametrize("shift", [1.5, -0.25])
def test_the_same_gain_on_every_item_is_sure(tmp_path, values, shift):
    items = listed(Dog=20, Rain=10)
    one = write(tmp_path / "one.json", items, values)
    other = write(tmp_path / "other.json", items, values + shift)
    row = table(compare(one, other))["sdri"]
    assert row[2] == f"{shift:+.2f} ({shift:+.2f} … {shift:+.2f})"
    assert row[3] == ("100% of items" if shift > 0 else "0% of items")


def test_a_result_beside_itself_has_no_difference(tmp_path, values):
    path = write(tmp_path / "one.json", listed(Dog=20, Rain=10), values)
    for row in table(compare(path, path)).values():
        assert row[0] == row[1]
        assert row[2:] == ["+0.00 (+0.00 … +0.00)", "50% of items"]


def test_the_other_way_round_all_signs_change(tmp_path, values):
    items = listed(Dog=20, Rain=10)
    one = write(tmp_path / "one.json", items, values)
    other = write(tmp_path / "other.json", items, values + np.random.default_rng(1).normal(0.5, 1, 30))
    there, back = table(compare(one, other))["sdr"], table(compare(other, one))["sdr"]
    assert back[:2] == there[1::-1]
    assert float(back[2].split()[0]) == -float(there[2].split()[0])
    assert ends(back[2]) == [-end for end in reversed(ends(there[2]))]
    assert int(back[3].split("%")[0]) + int(there[3].split("%")[0]) == 100


def test_the_interval_is_that_of_samples_drawn_for_both_alike(tmp_path, values):
    items = [
        dataclasses.replace(item, start_s=float(i), source=f"{i % 8}.wav") for i, item in enumerate(listed(Dog=30))
    ]
    others = values + np.random.default_rng(1).normal(0.5, 2, 30)
    one, other = write(tmp_path / "one.json", items, values), write(tmp_path / "other.json", items, others)
    recordings = np.arange(30) % 8
    counts = summary.draw_recordings({"": summary.Scores({}, recordings)})[:, recordings]
    draws = [summary.bootstrap_medians(x, counts) for x in (values, others)]
    low, high = np.percentile(draws[1] - draws[0], [2.5, 97.5])
    difference = table(compare(one, other))["sdr"][2]
    assert ends(difference) == pytest.approx([low, high], abs=0.0051)
    assert low < float(difference.split()[0]) < high


def test_a_small_gain_on_items_that_differ_much_is_seen(tmp_path):
    """Paired: the intervals of the results overlap widely, and that of their difference does not hold 0."""
    random = np.random.default_rng(0)
    values = random.normal(5, 5, 100)
    items = listed(Dog=50, Rain=50)
    paths = [
        write(tmp_path / f"{name}.json", items, values + random.normal(gain, 0.1, 100))
        for name, gain in (("one", 0.0), ("other", 0.5))
    ]
    first, second = (json.loads(path.read_text())["intervals"]["mean"]["sdr"] for path in paths)
    assert first[1] - second[0] > 1.5
    low, high = ends(table(compare(*paths))["sdr"][2])
    assert 0.2 < low < 0.5 < high < 0.8


def test_where_no_class_has_two_recordings_no_certainty_is_claimed(tmp_path):
    items = listed(Dog=1, Rain=1)
    one, other = write(tmp_path / "one.json", items, [1, 2]), write(tmp_path / "other.json", items, [3, 3])
    row = table(compare(one, other))["sdr"]
    assert row[2].startswith("+1.50")
    assert "…" not in row[2]


# Which items


def test_only_items_that_both_have_scored_are_compared(tmp_path):
    items = listed(Dog=4, Rain=3, Wind=1)
    one = write(tmp_path / "one.json", items, [0, 0, 99, 0, 0, 0, 0, 0], left_out=[0])
    other = write(tmp_path / "other.json", items, [99, 1, 1, 1, 1, 1, 1, 1], left_out=[2, 7])
    text = compare(one, other)
    assert text.startswith("folder: 5 items of 2 classes")
    assert table(text)["sdr"] == ["0.00", "1.00", "+1.00 (+1.00 … +1.00)", "100% of items"]


def test_a_shorter_list_of_the_same_benchmark_is_compared_on_what_it_holds(tmp_path, values):
    items = listed(Dog=20, Rain=10)
    one = write(tmp_path / "one.json", items, values)
    few = item_lists.spread(items, 7)
    other = write(tmp_path / "other.json", few, [values[items.index(item)] + 1 for item in few])
    text = compare(one, other)
    assert text.startswith("folder: 7 items of 2 classes")
    assert table(text)["sdr"][2] == "+1.00 (+1.00 … +1.00)"


def test_the_order_of_the_lists_does_not_matter(tmp_path, values):
    items = listed(Dog=20, Rain=10)
    one = write(tmp_path / "one.json", items, values)
    other = write(tmp_path / "other.json", items[::-1], values[::-1])
    assert table(compare(one, other))["sdr"][2:] == ["+0.00 (+0.00 … +0.00)", "50% of items"]


def test_copies_have_the_scores_of_the_first_of_them(tmp_path):
    items = numbered([*listed(Dog=2), *listed(Dog=2)])
    one = write(tmp_path / "one.json", items, [1, 2, 50, 50])
    other = write(tmp_path / "other.json", items, [2, 3, 70, 70])
    text = compare(one, other)
    assert text.startswith("folder: 4 items")
    assert table(text)["sdr"][:2] == ["1.50", "2.50"]


def test_another_gain_or_start_makes_another_item(tmp_path):
    items = listed(Dog=2)
    one = write(tmp_path / "one.json", items, [1, 2])
    moved = [items[0], dataclasses.replace(items[1], start_s=0.5)]
    other = write(tmp_path / "other.json", moved, [1, 2])
    assert compare(one, other).startswith("folder: 1 items")


# What is refused


@pytest.mark.parametrize(
    ("heading", "says"),
    [
        ({"query": "oracle"}, r"one\.json has the query 'average', .*other\.json 'oracle': not to be compared"),
        ({"query": "label"}, "not to be compared"),
        ({"benchmark": "audioset"}, "has the benchmark 'folder', .*'audioset': not to be compared"),
        ({"benchmark": "audioset", "query": "estimates"}, "not to be compared"),
    ],
)
def test_another_protocol_or_benchmark_is_refused(tmp_path, heading, says):
    items = listed(Dog=2)
    one = write(tmp_path / "one.json", items, [1, 2])
    other = write(tmp_path / "other.json", items, [1, 2], **heading)
    with pytest.raises(ValueError, match=says):
        compare(one, other)


@pytest.mark.parametrize("query", ["average", "oracle", "label", "estimates"])
def test_another_system_that_knows_no_protocol_may_stand_beside_any(tmp_path, query):
    items = listed(Dog=2)
    one = write(tmp_path / "one.json", items, [1, 2], query=query)
    other = write(tmp_path / "other.json", items, [2, 3], query="estimates", model="theirs")
    for pair in ((one, other), (other, one)):
        assert "theirs, estimates" in compare(*pair)


def test_results_without_a_common_item_are_refused(tmp_path):
    one = write(tmp_path / "one.json", listed(Dog=2), [1, 2])
    for name, items, left_out in (("other", listed(Rain=2), []), ("less", listed(Dog=3), [0, 1])):
        other = write(tmp_path / f"{name}.json", items, range(len(items)), left_out)
        with pytest.raises(ValueError, match=r"no item in common; use one list \(--mixtures\)"):
            compare(one, other)


@pytest.mark.parametrize("name", ["other.json", "other.mixtures.csv", "other.journal.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    items = listed(Dog=2)
    one, other = write(tmp_path / "one.json", items, [1, 2]), write(tmp_path / "other.json", items, [1, 2])
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: no such file"):
        compare(one, other)


def test_a_list_that_was_edited_is_refused(tmp_path):
    items = listed(Dog=2)
    one, other = write(tmp_path / "one.json", items, [1, 2]), write(tmp_path / "other.json", items, [1, 2])
    edited = [items[0], dataclasses.replace(items[1], source="better.wav")]
    files.write_text(tmp_path / "other.mixtures.csv", item_lists.to_csv(edited))
    with pytest.raises(ValueError, match=r"other\.mixtures\.csv: not the list that .*other\.journal\.jsonl"):
        compare(one, other)


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", "5", "null", "{}", '{"benchmark": "folder", "model": "m"}', "[" * 100_000]
)
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, content):
    one = write(tmp_path / "one.json", listed(Dog=2), [1, 2])
    (tmp_path / "other.json").write_text(content)
    for pair in ((one, tmp_path / "other.json"), (tmp_path / "other.json", one)):
        with pytest.raises(ValueError, match=r"other\.json: not"):
            compare(*pair)


def test_names_of_models_cannot_break_the_table(tmp_path):
    items = listed(Dog=2)
    one = write(tmp_path / "one.json", items, [1, 2], model="a|b\nc")
    lines = compare(one, one).splitlines()
    assert len(lines) == 4 + 2
    assert {line.count("|") for line in lines[2:]} == {6}
