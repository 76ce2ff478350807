"""The table and the picture of a result, whatever its classes are called and however many they are."""

import dataclasses
import sys

import numpy as np
import pytest

from uss_jax.evaluation import report, summary
from uss_jax.evaluation.items import Item

HOSTILE = [
    "a|b",
    "two\nlines",
    "$x$",
    "$",
    r"$\frac{$",
    r"\frac{1}{2}$",
    "{}",
    "%s",
    "*",
    "",
    " ",
    "Größe 音 🐕",
    "\t|\r\n|",
]


def result_of(labels, per_class=2, mask=True, left_out=None, silent=0, **heading):
    """A result of random scores; with one item of each class there are no intervals."""
    random = np.random.default_rng(0)
    items = [Item(label, i, f"{place}/{i}.wav") for place, label in enumerate(labels) for i in range(per_class)]
    items = [dataclasses.replace(item, group=f"group {len(item.label) % 2}") for item in items]
    rows = {}
    for place, value in enumerate(random.normal(5, 3, len(items))):
        rows[place] = {"estimate": {"sdr": value, "sdri": value + 1}, "mixture": {"sdr": -1.0, "sdri": 0.0}}
        rows[place] |= {"ideal_ratio_mask": {"sdr": 12.0, "sdri": 13.0}} if mask and place % 3 else {}
        rows[place] |= {"silent_estimate": True} if place < silent else {}
    heading = {"benchmark": "folder", "model": "tiny", "query": "average"} | heading
    return summary.summarise(items, rows, left_out or {}, heading, "kind")


def tables(text):
    """The tables of a Markdown text, each as rows of cells; all rows of a table have as many as its head."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| ") and line.endswith(" |"):
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
        elif rows:
            assert rows[1] == ["---"] * len(rows[0])
            assert {len(row) for row in rows} == {len(rows[0])}
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


# The table


def test_the_tables_by_hand():
    items = [Item("Dog", i, f"{i}.wav", group="Animal") for i in range(2)] + [Item("Rain", 0, "r.wav", group="Weather")]
    rows = {
        place: {"estimate": {"sdr": sdr, "sdri": 2 * sdr}, "mixture": {"sdr": 0.0, "sdri": 0.0}}
        for place, sdr in enumerate([1.0, 3.0, 4.0])
    }
    result = summary.summarise(items, rows, {}, {"benchmark": "b", "model": "m", "query": "oracle"}, "family")
    text = report.markdown(result)
    assert text.startswith("# b: m, oracle query\n\n3 items of 2 classes, 3 different mixtures.")
    means, classes, groups = tables(text)
    assert means == [
        ["", "sdr", "sdri"],
        ["**mean**", "3.00 (2.50 … 3.50)", "6.00 (5.00 … 7.00)"],
        ["the mixture as it is", "0.00", "0.00"],
    ]
    assert classes == [
        ["class", "sdr", "sdri", "n"],
        ["Dog", "2.00 (1.00 … 3.00)", "4.00 (2.00 … 6.00)", "2"],
        ["Rain", "4.00", "8.00", "1"],
    ]
    assert groups == [
        ["family", "sdr", "sdri", "n"],
        ["Animal", "2.00", "4.00", "2"],
        ["Weather", "4.00", "8.00", "1"],
    ]
    assert text.endswith("Silent estimates: 0. Left out: 0 items; 0 names.\n")


def test_the_mask_has_a_row_where_it_was_scored():
    for mask in (False, True):
        names = [row[0] for row in tables(report.markdown(result_of(["Dog", "Rain"], mask=mask)))[0]]
        assert ("ideal ratio mask (knows the truth)" in names) == mask


@pytest.mark.parametrize("count", [1, 60, 527])
def test_every_class_has_one_row_in_the_order_of_the_result(count):
    labels = [f"class {i}" for i in range(count)]
    _, classes, _ = tables(report.markdown(result_of(labels)))
    assert [row[0] for row in classes[1:]] == labels
    assert {row[-1] for row in classes[1:]} == {"2"}


def test_without_intervals_the_table_has_the_values_alone():
    means, classes, _ = tables(report.markdown(result_of(["Dog", "Rain"], per_class=1)))
    assert not any("…" in cell for row in (*means, *classes) for cell in row)


def test_names_from_the_data_cannot_break_a_table():
    _, classes, _ = tables(report.markdown(result_of(HOSTILE)))
    assert len(classes) == 1 + len(HOSTILE)
    assert classes[1][0] == "a/b"
    assert classes[2][0] == "two lines"
    assert classes[12][0] == "Größe 音 🐕"


def test_what_was_left_out_is_counted_and_some_of_it_named():
    left_out = {f"test/{i}|\n.wav": f"why |\n{i}" for i in range(30)}
    text = report.markdown(result_of(["Dog", "Rain"], left_out=left_out, silent=3))
    assert "Silent estimates: 3. Left out: 0 items; 30 names." in text
    listed = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(listed) == report.MOST_LEFT_OUT < 30
    assert listed[1] == "- test/1/ .wav: why / 1"
    assert len(tables(text)) == 3


# The picture


def picture(tmp_path, result, headline="sdri"):
    """Height, width and pixels of the picture that is written."""
    image = pytest.importorskip("matplotlib.image")
    report.plot(result, headline, tmp_path / "deep" / "r.png")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.png"]
    pixels = image.imread(tmp_path / "deep" / "r.png")
    assert pixels.std() > 0.05
    return pixels


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("labels", [["Dog"], ["Dog", "Rain"], HOSTILE, [f"class {i}" for i in range(60)]])
@pytest.mark.parametrize("per_class", [1, 2])
def test_few_classes_have_a_bar_each(tmp_path, labels, per_class):
    bare, full = (picture(tmp_path, result_of(labels, per_class, mask=mask)) for mask in (False, True))
    assert bare.shape[:2] == full.shape[:2] == (pytest.approx(150 + 22 * len(labels), abs=1), 800)
    assert (bare != full).any() == (len(labels) * per_class > 1)  # the first item has no score of the mask


@pytest.mark.parametrize("per_class", [1, 2])
@pytest.mark.parametrize("mask", [False, True])
def test_many_classes_share_one_curve(tmp_path, per_class, mask):
    result = result_of([f"$class| {i}\n" for i in range(527)], per_class, mask)
    assert picture(tmp_path, result).shape[:2] == (500, 800)


def test_some_classes_may_lack_an_interval(tmp_path):
    result = result_of(["Dog", "Rain", "Wind"])
    whole = picture(tmp_path, result)
    result["intervals"]["per_class"]["Rain"] = {"sdr": None, "sdri": None}
    assert (picture(tmp_path, result) != whole).any()


def test_the_metric_is_the_first_whose_name_begins_so(tmp_path):
    one, other = result_of(["Dog", "Rain"]), result_of(["Dog", "Rain"])
    other["mean"] = {"sdri": other["mean"]["sdri"], "sdr": other["mean"]["sdr"]}
    assert (picture(tmp_path, one, "sdr") != picture(tmp_path, one, "sdri")).any()
    np.testing.assert_array_equal(picture(tmp_path, other, "sdr"), picture(tmp_path, one, "sdri"))


def test_names_of_models_cannot_break_the_picture(tmp_path):
    picture(tmp_path, result_of(["Dog", "Rain"], model="$a_{b$c^"))


def test_a_long_name_is_cut_in_the_picture_and_leaves_room_for_the_bars(tmp_path):
    """Of the bar of the best class, some blue is seen."""
    pixels = picture(tmp_path, result_of(["long " * 100, "x" * 500], mask=False))
    blue = (pixels[..., 2] > 0.6) & (pixels[..., 0] < 0.2)
    assert blue.any(axis=0).sum() > 300


def test_without_matplotlib_there_is_an_import_error_and_no_file(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        report.plot(result_of(["Dog"]), "sdri", tmp_path / "r.png")
    assert not list(tmp_path.iterdir())
