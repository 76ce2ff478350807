"""Lists of items: their order, and tables that read back to the bit or are refused by file and line."""

import dataclasses
import hashlib
import re
from collections import Counter

import pytest

from uss_jax import files
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation.items import Item

DOG = Item("Dog", 0, "test/dog.wav", 1.5, "test/mix.wav", "test/rain.wav", 0.25, 1 / 3, "Animal")
HEADER = "label,index,source,start_s,mixture,partner,partner_start_s,partner_gain,group"
ROW = "Dog,0,dog.wav,0.0,,rain.wav,0.0,1.0,"


def listed(labels):
    """One item for each letter, named after its place."""
    return [Item(label, 0, f"{place}.wav") for place, label in enumerate(labels)]


def names(items):
    return " ".join(f"{item.label}{item.index}:{item.source.removesuffix('.wav')}" for item in items)


# Order


def test_items_are_numbered_within_their_label_and_labels_stand_together():
    assert names(item_lists.numbered(listed("abacab"))) == "a0:0 a1:2 a2:4 b0:1 b1:5 c0:3"
    assert item_lists.numbered([]) == []


def test_numbers_that_items_had_before_do_not_matter():
    items = [dataclasses.replace(item, index=7) for item in listed("ab")]
    assert names(item_lists.numbered(items)) == "a0:0 b0:1"


@pytest.mark.parametrize(
    ("limit", "sources"),
    [(1, [0]), (2, [0, 4]), (3, [0, 4, 6]), (4, [0, 1, 4, 6]), (5, [0, 1, 4, 5, 6]), (6, [0, 1, 2, 4, 5, 6])],
)
def test_a_limit_takes_from_all_labels_in_turn_and_keeps_the_order_of_the_list(limit, sources):
    kept = item_lists.spread(listed("aaaabbc"), limit)
    assert [item.source for item in kept] == [f"{place}.wav" for place in sources]


def test_turns_are_counted_by_label_wherever_the_items_stand():
    assert names(item_lists.spread(listed("aabaacb"), 4)) == "a0:0 a0:1 b0:2 c0:5"


@pytest.mark.parametrize("limit", [None, 7, 8, 10**9])
def test_without_a_limit_or_with_one_beyond_the_end_all_items_are_taken(limit):
    items = listed("aaaabbc")
    assert item_lists.spread(items, limit) == items


def test_every_limit_is_met_exactly_and_no_label_is_behind_while_it_has_more_to_give():
    items = listed("abcab" * 20)
    sizes = Counter(item.label for item in items)
    for limit in range(1, len(items)):
        kept = Counter(item.label for item in item_lists.spread(items, limit))
        assert kept.total() == limit
        assert all(max(kept.values()) - kept[label] <= 1 or kept[label] == sizes[label] for label in sizes)


# What items have in common


def test_items_that_differ_in_their_number_alone_have_the_same_content():
    assert dataclasses.replace(DOG, index=5).content == DOG.content
    for field in dataclasses.fields(Item):
        if field.name != "index":
            assert changed(DOG, field.name).content != DOG.content


def test_the_first_of_equal_items_stands_for_them_all():
    other = dataclasses.replace(DOG, partner_gain=0.5)
    items = item_lists.numbered([DOG, other, DOG, other, DOG])
    assert item_lists.firsts(items) == [0, 1, 0, 1, 0]
    assert item_lists.firsts([dataclasses.replace(DOG, label="Cat"), *items]) == [0, 1, 2, 1, 2, 1]
    assert item_lists.firsts([]) == []


def test_items_of_one_source_are_the_same_alone_whatever_their_partner():
    partner = ("index", "partner", "partner_start_s", "partner_gain")
    for field in dataclasses.fields(Item):
        assert (changed(DOG, field.name).alone == DOG.alone) == (field.name in partner)


def test_an_item_is_cut_from_its_mixture_or_else_from_its_source():
    assert DOG.recording == "test/mix.wav"
    assert dataclasses.replace(DOG, mixture="").recording == "test/dog.wav"


# Tables


def changed(item, name):
    value = getattr(item, name)
    return dataclasses.replace(item, **{name: value + 1 if isinstance(value, int | float) else value + "x"})


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "Male speech, man speaking",
        'the "best" one',
        '"',
        "two\nlines",
        "two\r\nlines",
        "old\rlines",
        "Größe 音 🐕 e\u0301",
        "\ufeffmark",
        "a\u2028b\x1cc\x85d",
        "\ttab",
        "ends in a space ",
        " begins with one",
        "  ",
        "'=1+1",
        "#",
    ],
)
def test_texts_read_back_as_they_were(tmp_path, text):
    items = [Item(text, 0, text, 0.0, text, text, 0.0, 0.0, text), Item("x", 0, "y", group=text)]
    files.write_text(tmp_path / "list.csv", item_lists.to_csv(items))
    assert item_lists.read_list(tmp_path / "list.csv") == items


def test_numbers_read_back_to_the_bit(tmp_path):
    numbers = (0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**-30, 1e22, 0.0, 123456.789)
    items = [Item("a", i, "s", x, partner_start_s=x, partner_gain=x) for i, x in enumerate(numbers)]
    files.write_text(tmp_path / "list.csv", item_lists.to_csv(items))
    back = item_lists.read_list(tmp_path / "list.csv")
    assert [item.start_s.hex() for item in back] == [x.hex() for x in numbers]
    assert back == items
    assert item_lists.digest(back) == item_lists.digest(items)


def test_names_that_cannot_be_written_are_told_apart():
    """Names of files that are no UTF-8: a run that is resumed would look for other files."""
    assert item_lists.is_text(Item("a", 0, "café.wav"))
    assert not item_lists.is_text(Item("a", 0, "caf\udce9.wav"))
    assert not item_lists.is_text(dataclasses.replace(DOG, mixture="caf\udce9.wav"))


def test_columns_may_stand_in_another_order_and_be_more(tmp_path):
    (tmp_path / "list.csv").write_text(
        "note,group,partner_gain,partner_start_s,partner,mixture,start_s,source,index,label\n"
        "mine,Animal,0.5,0.25,test/rain.wav,test/mix.wav,1.5,test/dog.wav,3,Dog\n"
    )
    assert item_lists.read_list(tmp_path / "list.csv") == [dataclasses.replace(DOG, index=3, partner_gain=0.5)]


# Digests


def test_the_digest_is_that_of_the_file(tmp_path):
    items = [DOG, Item("Größe", 0, "a.wav")]
    files.write_text(tmp_path / "list.csv", item_lists.to_csv(items))
    assert item_lists.digest(items) == hashlib.sha256((tmp_path / "list.csv").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Item)])
def test_the_digest_changes_with_any_field(name):
    assert item_lists.digest([changed(DOG, name)]) != item_lists.digest([DOG])


def test_the_digest_changes_with_order_and_number_of_the_items_and_the_last_bit_of_a_gain():
    one, other = DOG, dataclasses.replace(DOG, index=1)
    nearly = dataclasses.replace(DOG, partner_gain=DOG.partner_gain + 2**-54)
    lists = [[one], [one, other], [other, one], [], [nearly]]
    assert nearly.partner_gain != DOG.partner_gain
    assert len({item_lists.digest(items) for items in lists}) == len(lists)


def test_text_that_moves_from_one_column_to_the_next_changes_the_digest():
    assert item_lists.digest([Item("a,0", 0, "s")]) != item_lists.digest([Item("a", 0, "0,s")])
    assert item_lists.digest([Item("a", 0, "s", mixture="m")]) != item_lists.digest([Item("a", 0, "s", partner="m")])


# What is refused


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (ROW.replace("Dog,0", "Dog,-1"), "expected finite numbers from 0"),
        (ROW.replace("Dog,0", "Dog,1.5"), "1.5"),
        (ROW.replace("Dog,0", "Dog,"), "invalid literal"),
        (ROW.replace("Dog,0", "Dog,nan"), "nan"),
        (ROW.replace("dog.wav,0.0", "dog.wav,nan"), "expected finite numbers from 0"),
        (ROW.replace("dog.wav,0.0", "dog.wav,-0.5"), "expected finite numbers from 0"),
        (ROW.replace("dog.wav,0.0", "dog.wav,inf"), "expected finite numbers from 0"),
        (ROW.replace("dog.wav,0.0", "dog.wav,soon"), "could not convert string to float: 'soon'"),
        (ROW.replace("rain.wav,0.0", "rain.wav,nan"), "expected finite numbers from 0"),
        (ROW.replace("rain.wav,0.0", "rain.wav,-1"), "expected finite numbers from 0"),
        (ROW.replace("1.0", "nan"), "expected finite numbers from 0"),
        (ROW.replace("1.0", "-2"), "expected finite numbers from 0"),
        (ROW.replace("1.0", "1e999"), "expected finite numbers from 0"),
        (ROW.replace("1.0", ""), "could not convert"),
        (ROW.replace("Dog", ""), "an item needs a label and a source"),
        (ROW.replace("dog.wav", ""), "an item needs a label and a source"),
        (ROW + ",more", "has not 9 cells"),
        ("Dog,0,dog.wav", "has not 9 cells"),
        ("Dog, Bark,0,dog.wav,0.0,,rain.wav,0.0,1.0,", "has not 9 cells"),
        (ROW.replace("dog.wav", "other.wav"), "the same label and index"),
        (ROW, "the same label and index"),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_line(tmp_path, row, says):
    (tmp_path / "list.csv").write_text(f"{HEADER}\n{ROW}\n{row}\n{ROW.replace('Dog,0', 'Dog,1')}\n")
    with pytest.raises(ValueError, match=rf"list\.csv: line 3\b.*{re.escape(says)}"):
        item_lists.read_list(tmp_path / "list.csv")


@pytest.mark.parametrize("column", HEADER.split(","))
def test_a_missing_column_is_named(tmp_path, column):
    (tmp_path / "list.csv").write_text(f"{HEADER.replace(column, 'other', 1)}\n{ROW}\n")
    with pytest.raises(ValueError, match=f"list.csv: has no column '{column}'"):
        item_lists.read_list(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no column 'label'"),
        (f"{HEADER}\n".encode(), "lists no items"),
        (f"{HEADER}\n\n\n".encode(), "lists no items"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not a CSV table"),
        (f"{HEADER}\nD\xfcne,0,a.wav,0,,b.wav,0,1,\n".encode("latin-1"), "not a CSV table"),
        (f'{HEADER}\n"{"x" * 200_000}",0,a.wav,0,,b.wav,0,1,\n'.encode(), "not a CSV table"),
        (f'{HEADER}\n{ROW}\n"Dog,1,open quote'.encode(), "line 3"),
    ],
)
def test_a_file_that_is_no_list_is_refused_by_name(tmp_path, content, says):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"list\.csv: {says}"):
        item_lists.read_list(tmp_path / "list.csv")


@pytest.mark.parametrize("name", ["gone.csv", "."])
def test_a_missing_file_and_a_folder_are_named(tmp_path, name):
    with pytest.raises(ValueError, match="no such file"):
        item_lists.read_list(tmp_path / name)
