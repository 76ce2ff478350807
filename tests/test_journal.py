"""Journals: of other runs, of nothing done, begun anew, and hostile."""

import json

import pytest
from test_run import ITEMS, SETTINGS, from_beginning_to_end, measure

from uss_jax.evaluation import journal as journals
from uss_jax.evaluation.journal import Journal


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Result, rows and bytes of a run from beginning to end."""
    return from_beginning_to_end(tmp_path_factory, ITEMS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 2}, r"another seed \(1, now 2\)"),
        ({"limit": 5}, r"another limit \(None, now 5\)"),
        ({"versions": {"numpy": "3"}}, r"another versions \(\{'numpy': '2'\}, now \{'numpy': '3'\}\)"),
        ({"paper": True}, r"another paper \(None, now True\)"),
        ({"benchmark": None}, r"another benchmark \('made', now None\)"),
    ],
)
def test_the_journal_of_a_run_with_other_settings_is_refused_by_the_setting_and_kept(
    undisturbed, tmp_path, changes, says
):
    path = tmp_path / "r.jsonl"
    path.write_bytes(undisturbed[2])
    with pytest.raises(ValueError, match=rf"r\.jsonl: of a run with {says}.*--overwrite"):
        Journal(path, SETTINGS | changes)
    assert path.read_bytes() == undisturbed[2]


def test_a_setting_that_is_not_named_is_none_and_nothing_that_was_done_is_lost(undisturbed, tmp_path):
    """As of a journal from before there was such a setting."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(undisturbed[2])
    for settings in (SETTINGS | {"new": None}, {name: x for name, x in SETTINGS.items() if x is not None}):
        journal = Journal(path, settings)
        assert journal.rows == undisturbed[1]
        assert journal.listed["left_out"] == {"never": "an item"}
    assert path.read_bytes() == undisturbed[2]


@pytest.mark.parametrize("lines", [1, 2])
def test_a_run_of_which_nothing_is_done_does_not_stand_in_the_way_of_another(undisturbed, tmp_path, lines):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(undisturbed[2].splitlines(keepends=True)[:lines]))
    journal = Journal(path, SETTINGS | {"seed": 2})
    assert (journal.listed, journal.rows) == (None, {})
    journal.begin("0", {})
    assert Journal(path, SETTINGS | {"seed": 2}).listed == {"list": "0", "left_out": {}}


def test_overwriting_begins_anew(undisturbed, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(undisturbed[2])
    journal = Journal(path, SETTINGS | {"seed": 2}, overwrite=True)
    assert (journal.listed, journal.rows) == (None, {})
    journal.begin("0", {})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"settings": SETTINGS | {"seed": 2}},
        {"list": "0", "left_out": {}},
    ]
    path.write_bytes(b"no journal at all\n")
    assert measure(path, overwrite=True) == (*undisturbed[:2], 9)
    assert measure(path, overwrite=True) == (*undisturbed[:2], 9)  # even with the same settings


def header(**fields):
    return json.dumps({"settings": SETTINGS} | fields)


LIST = json.dumps({"list": "0" * 64, "left_out": {}})


@pytest.mark.parametrize(
    "lines",
    [
        ["no JSON"],
        ["\x00\x01"],
        [""],
        ["[]"],
        ["5"],
        ['"settings"'],
        ["null"],
        ["{}"],
        ['{"settings": []}'],
        ['{"settings": null}'],
        [LIST],
        [header(), ""],
        [header(), "[]"],
        [header(), "{}"],
        [header(), '{"list": 5, "left_out": {}}'],
        [header(), '{"list": "0"}'],
        [header(), '{"list": "0", "left_out": ["a"]}'],
        [header(), '{"list": "0", "left_out": {"a": 1}}'],
        [header(), header()],
        [header(), LIST, "[1]"],
        [header(), LIST, "1"],
        [header(), LIST, "{}"],
        [header(), LIST, '{"item": "0"}'],
        [header(), LIST, '{"item": 0.0, "left_out": "x"}'],
        [header(), LIST, '{"item": null, "left_out": "x"}'],
        [header(), LIST, '{"item": true, "left_out": "x"}'],
        [header(), LIST, '{"item": 0, "left_out": 5}'],
        [header(), LIST, '{"item": 0, "estimate": 5}'],
        [header(), LIST, '{"item": 0, "estimate": {"sdr": "high"}}'],
        [header(), LIST, '{"item": 0, "estimate": {"sdr": null}}'],
        [header(), LIST, '{"item": 0, "estimate": [1.0]}'],
        [header(), LIST, '{"item": 0, "estimate": {"sdr": NaN}}'],
        [header(), LIST, '{"item": 0, "estimate": {"sdr": 1.0}', '{"item": 1, "left_out": "x"}'],
        [header(), LIST, "[" * 100_000],
    ],
)
def test_a_file_that_is_no_journal_is_refused_by_name_and_kept(tmp_path, lines):
    path = tmp_path / "r.jsonl"
    content = "".join(f"{line}\n" for line in lines)
    path.write_text(content)
    with pytest.raises(ValueError, match=r"r\.jsonl: not a journal"):
        Journal(path, SETTINGS)
    with pytest.raises(ValueError, match=r"r\.jsonl: not a journal"):
        journals.read(path)
    assert path.read_text() == content


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\n", b"\x89PNG\r\n\x1a\n", b"{\n" * 3])
def test_a_file_of_bytes_is_refused_by_name(tmp_path, content):
    (tmp_path / "r.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"r\.jsonl: not a journal"):
        Journal(tmp_path / "r.jsonl", SETTINGS)


def test_a_journal_that_is_missing_or_has_no_list_yet_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"r\.jsonl: no such file"):
        journals.read(tmp_path / "r.jsonl")
    (tmp_path / "r.jsonl").write_text(f"{header()}\n")
    with pytest.raises(ValueError, match=r"r\.jsonl: not a journal"):
        journals.read(tmp_path / "r.jsonl")


def test_reasons_may_hold_line_breaks_and_any_letters(tmp_path):
    journal = Journal(tmp_path / "r.jsonl", SETTINGS)
    journal.begin("0", {"Größe\n音": "caf\udce9\u2028\r"})
    journal.write([{"item": 0, "left_out": 'a\nb\r\n"c"\x85'}])
    again = Journal(tmp_path / "r.jsonl", SETTINGS)
    assert (again.listed, again.rows) == (journal.listed, journal.rows)
