"""Runs of a made benchmark: wherever one is interrupted, and however many processes take part, it ends with the same.

What an item sounds like depends on the name of its source alone; some names stand for what goes wrong. The estimate of
an item depends on what stands beside it in its batch, as the last bits of a model's do.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from uss_jax import audio
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import journal as journals
from uss_jax.evaluation import run, summary
from uss_jax.evaluation.benchmark import Benchmark, Plan, Sound
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.run import Options
from uss_jax.evaluation.workers import Workers

RATE_HZ = 16_000
SETTINGS = {"benchmark": "made", "seed": 1, "limit": None, "versions": {"numpy": "2"}}
SIGNALS = ("sdr", "sdri", "si_sdr", "si_sdri")


def noise(name: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.1, 2048).astype(np.float32)


class Made(Benchmark):
    name = "made"

    def plan(self, split, per_class, seed, workers):
        return Plan([], {})

    def read(self, item):
        if "gone" in item.source:
            raise ValueError(f"{self.data}/{item.source}.wav: no such file")
        if "kill" in item.source:
            os.kill(os.getpid(), signal.SIGKILL)
        source = noise(item.source) * ("silence" not in item.source)
        return Sound(source + noise(item.mixture or "partner"), source, RATE_HZ)

    def query_source(self, item):
        return self.read(item).source

    def classes(self, item):
        return (0,)

    def training_files(self):
        return []


class Whole(Made):
    whole: ClassVar[bool] = True


class Resampling(Made):
    """Scores at another rate, as measures of speech do; what is not finite cannot be resampled."""

    def score(self, sounds, estimates):
        resampled = [audio.resample(samples, RATE_HZ, RATE_HZ // 2) for samples in estimates]
        return [{"energy": float(np.mean(samples**2))} for samples in resampled]


class Mended(Made):
    """The folder after what was gone has been put there."""

    def read(self, item):
        return super().read(dataclasses.replace(item, source=item.source.replace("gone", "found")))


class Broken(Made):
    def score(self, sounds, estimates):
        raise ZeroDivisionError("no score")


MADE = Made(Path("folder"))


class System:
    """Takes half of the rest away, and adds a little of the batch. It can be made to stop before its `last` batch."""

    def __init__(self, last=None):
        self.batches: list[list[Item]] = []
        self._last = last

    def separate(self, items, sounds):
        if len(self.batches) == self._last:
            raise KeyboardInterrupt
        self.batches.append(list(items))
        batch = 0.01 * np.mean([sound.mixture for sound in sounds], axis=0, dtype=np.float32)
        return [self._one(item, sound) + batch for item, sound in zip(items, sounds, strict=True)]

    def _one(self, item, sound):
        if item.label == "unknown":
            raise KeyError(item.label)
        return (sound.source + 0.5 * (sound.mixture - sound.source)).astype(np.float32)


class Wrong(System):
    """Gives what an item's label says, whatever else is in the batch."""

    def separate(self, items, sounds):
        factors = {"nan": np.nan, "infinite": np.inf, "mute": 0.0}
        return [factors.get(item.label, 0.5) * sound.mixture for item, sound in zip(items, sounds, strict=True)]


def listed(*sources, label="noise"):
    return [Item(label, i, source, mixture=f"mixture of {source}") for i, source in enumerate(sources)]


ITEMS = item_lists.numbered(
    [
        *listed("a", "b", "c", "gone", "d"),
        *listed("a", "a", "b"),  # equal to others
        *listed("e", "f", "silence", "a", label="hiss"),
    ]
)
USABLE = item_lists.numbered([*listed(*"abcxdab"), *listed(*"efga", label="hiss")])


def measure(
    path, items=ITEMS, system=None, workers=0, pool=None, benchmark=MADE, options=None, ruled_out=None, **fields
):
    """What `evaluate` does between the list and the result: the result, the journal's rows, and how many were done."""
    journal = Journal(path, SETTINGS, **fields)
    if journal.listed is None:
        journal.begin(item_lists.digest(items), {"never": "an item"})
    options = options or Options(batch_size=3)
    with Workers(workers, benchmark) as own:
        count = run.run(benchmark, items, system or System(), journal, pool or own, options, ruled_out)
    result = summary.summarise(items, journal.rows, journal.listed["left_out"], {"benchmark": "made"})
    digest, rows = journals.read(path)
    assert digest == item_lists.digest(items)
    assert rows == journal.rows
    return result, rows, count


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Result, rows and bytes of a run from beginning to end."""
    return from_beginning_to_end(tmp_path_factory, ITEMS)


@pytest.fixture(scope="module")
def usable(tmp_path_factory):
    """The same of a run in which no item is left out."""
    return from_beginning_to_end(tmp_path_factory, USABLE)


def from_beginning_to_end(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("undisturbed") / "r.jsonl"
    result, rows, count = measure(path, items)
    assert count == 9
    return result, rows, path.read_bytes()


@pytest.fixture(scope="module")
def pool():
    """Two worker processes."""
    with Workers(2, MADE) as workers:
        yield workers


# Interruptions


@pytest.mark.parametrize(
    ("run_of", "items", "batches"), [("usable", USABLE, 3), ("undisturbed", ITEMS, 1)], ids=["usable", "some left out"]
)
def test_a_run_interrupted_after_any_number_of_lines_ends_with_the_same(request, tmp_path, run_of, items, batches):
    """Whole batches are not done again; in all but the first of `ITEMS`, something was left out."""
    result, rows, content = request.getfixturevalue(run_of)
    lines = content.splitlines(keepends=True)
    assert len(lines) == 2 + 9
    for kept in range(len(lines) + 1):
        path = tmp_path / f"{kept}.jsonl"
        path.write_bytes(b"".join(lines[:kept]))
        again, rows_again, count = measure(path, items)
        assert again == result
        assert rows_again == rows
        assert count == 9 - 3 * min(max(0, kept - 2) // 3, batches)


@pytest.mark.parametrize("line", [0, 1, 6])
def test_a_run_interrupted_in_the_middle_of_a_line_ends_with_the_same(undisturbed, tmp_path, line):
    result, rows, content = undisturbed
    lines = content.splitlines(keepends=True)
    for cut in range(len(lines[line])):
        path = tmp_path / "r.jsonl"
        path.write_bytes(b"".join(lines[:line]) + lines[line][:cut])
        assert measure(path)[:2] == (result, rows)


def test_a_run_may_be_interrupted_again_and_again_and_separates_nothing_twice(usable, tmp_path):
    result, rows, _ = usable
    batches = []
    for _ in range(3):
        system = System(last=1)
        with contextlib.suppress(KeyboardInterrupt):
            again, rows_again, _ = measure(tmp_path / "r.jsonl", USABLE, system)
        batches += system.batches
    once = System()
    measure(tmp_path / "once.jsonl", USABLE, once)
    assert batches == once.batches
    assert (again, rows_again) == (result, rows)


def test_a_finished_run_does_nothing_again(usable, tmp_path):
    result, rows, content = usable
    (tmp_path / "r.jsonl").write_bytes(content)
    system = System()
    assert measure(tmp_path / "r.jsonl", USABLE, system) == (result, rows, 0)
    assert not system.batches
    assert (tmp_path / "r.jsonl").read_bytes() == content


def test_what_was_left_out_is_tried_again_in_its_batch_and_without_repair_all_stays_the_same(undisturbed, tmp_path):
    result, rows, content = undisturbed
    path = tmp_path / "r.jsonl"
    once, again = System(), System()
    measure(tmp_path / "once.jsonl", system=once)
    path.write_bytes(content)
    assert measure(path, system=again) == (result, rows, 6)  # a source of the second batch is gone, one is silent
    assert again.batches == once.batches[1:]
    added = path.read_bytes().removeprefix(content)
    assert sorted(added.splitlines()) == sorted(content.splitlines()[5:])


@pytest.mark.parametrize("lines", [1, 2, 3, 4, 5])
def test_a_batch_that_was_tried_again_and_interrupted_is_done_whole(undisturbed, tmp_path, lines):
    _, _, content = undisturbed
    mended = Mended(Path("folder"))
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    expected = measure(path, benchmark=mended)[:2]
    added = path.read_bytes().removeprefix(content).splitlines(keepends=True)
    path.write_bytes(content + b"".join(added[:lines]))
    assert measure(path, benchmark=mended)[:2] == expected


def test_a_repaired_file_is_scored_by_the_same_command_as_if_it_had_never_been_broken(undisturbed, tmp_path):
    _, broken, content = undisturbed
    mended = Mended(Path("folder"))
    (tmp_path / "r.jsonl").write_bytes(content)
    result, rows, _ = measure(tmp_path / "r.jsonl", benchmark=mended)
    assert "left_out" in broken[3]
    assert "estimate" in rows[3]
    assert broken[4]["estimate"] != rows[4]["estimate"]  # what stands beside it in its batch is done again, too
    assert result["left_out"]["names"] == {"never": "an item", "hiss, 2: silence": "silent source"}
    assert (result, rows) == measure(tmp_path / "once.jsonl", benchmark=mended)[:2]


def test_a_batch_holds_the_same_items_whatever_was_done_before(undisturbed, tmp_path):
    _, _, content = undisturbed
    once, resumed = System(), System()
    measure(tmp_path / "once.jsonl", system=once)
    (tmp_path / "resumed.jsonl").write_bytes(b"".join(content.splitlines(keepends=True)[:6]))
    measure(tmp_path / "resumed.jsonl", system=resumed)
    assert resumed.batches == once.batches[1:]


def test_segments_are_done_in_batches_and_recordings_by_their_mixture():
    items = [Item(label, 0, f"{mixture}/{label}", mixture=mixture) for label in "ab" for mixture in "xyz"]
    assert run.units(MADE, items, [0, 1, 2, 4, 5], 2) == [[0, 1], [2, 4], [5]]
    assert run.units(Whole(Path("folder")), items, [0, 1, 2, 4, 5], 2) == [[0], [1, 4], [2, 5]]


def test_items_that_were_ruled_out_beforehand_are_never_asked_for(tmp_path):
    """As those without an average query: their batch is done without them, and they stay left out."""
    path = tmp_path / "r.jsonl"
    items = [*listed("a", "b"), *listed("c", label="unknown"), *listed("d", "e", "f")]
    fields = {"options": Options(batch_size=4), "ruled_out": {2: "no query"}}
    system = System()
    _, rows, _ = measure(path, items, system=system, **fields)
    assert rows[2] == {"item": 2, "left_out": "no query"}
    assert all("estimate" in rows[place] for place in (0, 1, 3, 4, 5))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))  # interrupted in the first batch
    resumed = System()
    assert measure(path, items, system=resumed, **fields)[1] == rows
    assert resumed.batches == system.batches
    assert measure(path, items, system=resumed, **fields)[1:] == (rows, 0)  # nor is their batch done again


def test_a_batch_with_something_else_left_out_than_what_was_ruled_out_is_done_again(tmp_path):
    path = tmp_path / "r.jsonl"
    items = [*listed("a", "gone"), *listed("c", label="unknown"), *listed("d", "e")]
    fields = {"options": Options(batch_size=3), "ruled_out": {2: "no query"}}
    _, rows, _ = measure(path, items, **fields)
    assert set(rows[1]) == set(rows[2]) == {"item", "left_out"}
    system = System()
    assert measure(path, items, system=system, **fields)[1:] == (rows, 3)
    assert system.batches == [items[:1]]


def test_what_was_ruled_out_and_no_longer_is_is_asked_for(tmp_path):
    items = listed("a", "b", "c")
    measure(tmp_path / "r.jsonl", items, ruled_out={1: "no query"})
    result, rows, count = measure(tmp_path / "r.jsonl", items)
    assert count == 3
    assert (result, rows) == measure(tmp_path / "once.jsonl", items)[:2]


# Equal mixtures


def test_equal_mixtures_are_separated_once_and_count_each_time(undisturbed, tmp_path):
    result, rows, _ = undisturbed
    system = System()
    measure(tmp_path / "r.jsonl", system=system)
    asked = [(item.label, item.source) for batch in system.batches for item in batch]
    assert len(set(asked)) == len(asked) == 8  # of nine, one cannot be read
    assert set(rows) == {0, 1, 2, 3, 4, 8, 9, 10, 11}
    assert result["per_class"]["noise"]["n"] == 7
    assert result["per_class"]["hiss"]["n"] == 3
    values = [rows[place]["estimate"]["sdri"] for place in (0, 1, 2, 4, 0, 0, 1)]
    assert result["per_class"]["noise"]["sdri"] == np.median(values) != np.median(values[:4])
    assert result["distinct_mixtures"] == 9


def test_each_copy_of_a_mixture_gets_a_file_of_its_estimate(tmp_path):
    items = item_lists.numbered([*listed("a"), *listed("b"), *listed("a")])
    measure(tmp_path / "r.jsonl", items, options=Options(3, estimates_to=tmp_path / "made"))
    files = sorted((tmp_path / "made").rglob("*.wav"))
    assert [file.name for file in files] == [f"label=noise,index=00{i},estimate.wav" for i in range(3)]
    first, other, copy = (audio.read(file)[0] for file in files)
    np.testing.assert_array_equal(first, copy)
    assert np.abs(first - other).max() > 0.1


# Worker processes


def test_worker_processes_give_the_same_rows(undisturbed, pool, tmp_path):
    result, rows, content = undisturbed
    again, rows_again, _ = measure(tmp_path / "r.jsonl", pool=pool)
    assert (again, rows_again) == (result, rows)
    assert (tmp_path / "r.jsonl").read_bytes() == content  # and in the same order


def modules(benchmark):
    from uss_jax.evaluation import clips, fsd, musdb18, pairs, run, slakh2100, voicebank

    assert all(module.__name__ in sys.modules for module in (clips, fsd, musdb18, pairs, run, slakh2100, voicebank))
    return os.getpid(), "numpy" in sys.modules, "jax" in sys.modules


def test_worker_processes_never_import_jax(pool):
    process, has_numpy, has_jax = pool.submit(modules)()
    assert process != os.getpid()
    assert has_numpy
    assert not has_jax


def echo(benchmark, *arguments):
    return benchmark, arguments


@pytest.mark.parametrize("elsewhere", [False, True])
def test_results_come_in_the_order_asked_for_and_with_the_context(pool, elsewhere):
    workers = pool if elsewhere else Workers(0, MADE)
    arguments = [(i, str(i)) for i in range(20)]
    assert list(workers.stream(echo, arguments)) == [(MADE, several) for several in arguments]
    assert list(workers.stream(echo, [])) == []


def test_only_a_few_calls_run_ahead_of_what_was_taken(pool):
    taken = []
    stream = pool.stream(echo, ((i,) for i in range(100) if taken.append(i) is None))
    for _ in range(3):
        next(stream)
    assert len(taken) == 3 + 2 * pool.count


def fail(benchmark, kind):
    raise kind("what went wrong")


@pytest.mark.parametrize("kind", [ValueError, KeyError, ImportError, OSError])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_raised_in_a_worker_arrives_here(pool, kind, elsewhere):
    workers = pool if elsewhere else Workers(0, MADE)
    with pytest.raises(kind, match="what went wrong"):
        list(workers.stream(fail, [(kind,)]))
    assert list(workers.stream(echo, [(1,)])) == [(MADE, (1,))]  # and the workers go on


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_score_ends_the_run_and_is_not_kept_as_a_result(tmp_path, workers):
    broken = Broken(Path("folder"))
    with pytest.raises(ZeroDivisionError, match="no score"):
        measure(tmp_path / "r.jsonl", benchmark=broken, workers=workers)
    assert not journals.read(tmp_path / "r.jsonl")[1]


def test_a_worker_that_is_killed_ends_the_run_with_a_sentence(undisturbed, tmp_path):
    _, rows, _ = undisturbed
    items = [*ITEMS, *listed("kill", label="last")]
    with Workers(1, MADE) as workers:
        with pytest.raises(ValueError, match="a worker process was ended from outside"):
            measure(tmp_path / "r.jsonl", items, pool=workers)
        with pytest.raises(ValueError, match="a worker process was ended from outside"):
            workers.submit(echo)()
    _, kept = journals.read(tmp_path / "r.jsonl")
    assert all(rows[place] == row for place, row in kept.items())  # nothing wrong was written down


# What cannot be scored


@pytest.mark.parametrize("kind", [Made, Resampling])
@pytest.mark.parametrize("label", ["nan", "infinite"])
def test_estimates_that_are_not_finite_are_left_out_by_name_and_take_nothing_else_with_them(tmp_path, label, kind):
    items = [*listed("a", "b"), *listed("c", label=label), *listed("d", "e")[1:]]
    result, rows, _ = measure(tmp_path / "r.jsonl", items, system=Wrong(), benchmark=kind(Path("folder")))
    assert rows[2] == {"item": 2, "left_out": "the estimate is not finite"}
    assert result["left_out"]["names"] == {"never": "an item", f"{label}, 0: c": "the estimate is not finite"}
    assert result["left_out"]["items"] == 1
    assert result["left_out"]["classes"] == [label]
    assert (result["n"], list(result["per_class"])) == (3, ["noise"])
    json.dumps(result, allow_nan=False)
    json.dumps(list(rows.values()), allow_nan=False)


def test_what_cannot_be_read_or_is_silent_is_left_out_by_name_without_the_folder_of_the_data(undisturbed):
    result, rows, _ = undisturbed
    assert result["left_out"] == {
        "count": 3,
        "items": 2,
        "classes": [],
        "names": {
            "never": "an item",
            "noise, 3: gone": "gone.wav: no such file",
            "hiss, 2: silence": "silent source",
        },
    }
    assert "estimate" not in rows[3]
    assert result["n"] == len(ITEMS) - 2 == 10
    json.dumps(result, allow_nan=False)


def test_copies_of_what_is_left_out_are_left_out_and_counted_too(tmp_path):
    items = item_lists.numbered([*listed("a", "gone"), *listed("gone", "gone")])
    items = [dataclasses.replace(item, mixture="m") for item in items]
    result, rows, count = measure(tmp_path / "r.jsonl", items)
    assert (result["n"], count, set(rows)) == (1, 2, {0, 1})
    assert result["left_out"]["items"] == 3
    assert set(result["left_out"]["names"]) == {"never", *(f"noise, {i}: gone" for i in (1, 2, 3))}


def test_silent_estimates_are_scored_and_counted_by_label(tmp_path):
    items = [*listed("a", "b", label="mute"), *listed("a", "c")]
    result, rows, _ = measure(tmp_path / "r.jsonl", items, system=Wrong())
    assert result["silent_estimates"] == {"mute": 2}
    assert rows[0]["silent_estimate"] is True
    assert "silent_estimate" not in rows[2]
    assert result["per_class"]["mute"]["sdr"] == pytest.approx(0.0)
    assert result["n"] == 4


@pytest.mark.parametrize(
    ("sources", "says"), [(["gone 1", "gone 2"], r"gone 1\.wav: no such file"), (["silence", "gone"], "silent source")]
)
def test_where_nothing_can_be_scored_the_reason_of_the_first_item_is_given(tmp_path, sources, says):
    with pytest.raises(ValueError, match=f"none of 2 items could be scored; the first: {says}"):
        measure(tmp_path / "r.jsonl", listed(*sources))


# Scores


def test_scores_are_of_the_estimate_and_of_the_mixture_as_it_is(undisturbed):
    result, rows, _ = undisturbed
    for row in rows.values():
        if "left_out" not in row:
            assert tuple(row["estimate"]) == tuple(row["mixture"]) == SIGNALS
            assert row["mixture"]["sdri"] == row["mixture"]["si_sdri"] == 0.0
            assert row["estimate"]["sdri"] == pytest.approx(6.0, abs=0.4)  # half of the amplitude is taken away
            assert row["estimate"]["sdr"] - row["mixture"]["sdr"] == pytest.approx(row["estimate"]["sdri"])
    assert result["mixture"]["mean"]["sdri"] == 0.0
    assert result["mixture"]["per_class"]["noise"]["n"] == 7
    assert "ideal_ratio_mask" not in result


def test_the_ideal_ratio_mask_is_scored_where_wanted(tmp_path):
    result, rows, _ = measure(tmp_path / "r.jsonl", listed("a", "b"), options=Options(3, oracle_masks=True))
    assert tuple(rows[0]["ideal_ratio_mask"]) == SIGNALS
    assert result["ideal_ratio_mask"]["mean"]["sdri"] > 1.0


def test_the_items_of_a_recording_are_scored_together(tmp_path):
    class Counting(Whole):
        scored: ClassVar[list[int]] = []

        def score(self, sounds, estimates):
            self.scored.append(len(sounds))
            return super().score(sounds, estimates)

    items = [Item(label, i, f"{i}/{label}", mixture=f"m{i}") for label in ("x", "y", "z") for i in range(2)]
    system = System()
    measure(tmp_path / "r.jsonl", items, system=system, benchmark=Counting(Path("folder")))
    assert [[item.mixture for item in batch] for batch in system.batches] == [["m0"] * 3, ["m1"] * 3]
    assert Counting.scored == [3] * 4  # estimates and mixtures of two recordings
