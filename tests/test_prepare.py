"""Storing datasets in shards: by several engines, interrupted, and gone on with."""

import csv
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import stored_items
import tensorflow_datasets as tfds
from stored_items import Fatal, Tone, tones

from uss_jax import audio, cli, storage
from uss_jax.dataset import Clips
from uss_jax.engines import Beam, Local
from uss_jax.weak_labels import ClipFile


def contents(folder: Path) -> dict[str, bytes]:
    """What must not depend on how a dataset was made: the indices and the lists of clips left out."""
    return {file.name: file.read_bytes() for pattern in ("index-*", "left_out-*") for file in folder.glob(pattern)}


def check_tones(folder: Path, count: int = 200) -> None:
    numbers = [number for number in range(count) if number % 10 != 7]
    clips = Clips(folder, "train")
    assert clips.clip_ids.tolist() == [f"tone-{number}" for number in numbers]
    assert clips.samples.tolist() == [4000 + number for number in numbers]
    for clip, number in enumerate(numbers):
        assert clips.labels(clip).tolist() == [number % 5, 500]
        np.testing.assert_array_equal(clips.audio(clip), np.full(4000 + number, number / 32768, np.float32))


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """200 tones, stored by this process."""
    folder = tmp_path_factory.mktemp("stored")
    return storage.store("tones", tones(folder / "log", 200), folder)


# What is stored


def test_records_and_index_hold_the_clips_in_their_order(stored):
    check_tones(stored)
    assert Clips(stored, "validation").clip_ids.tolist() == [f"tone-{number}" for number in range(1000, 1005)]


def test_tfds_reads_the_dataset_without_tensorflow(stored):
    source = tfds.builder_from_directory(str(stored)).as_data_source("train")
    assert len(source) == 180
    assert source[179]["clip_id"] == b"tone-199"
    assert list(source[179]["labels"]) == [4, 500]
    np.testing.assert_array_equal(source[179]["audio"], np.full(4199, 199, np.int16))
    assert "tensorflow" not in sys.modules


def test_what_was_left_out_or_is_odd_is_listed(stored):
    listed = storage.left_out(stored, "train")
    assert [clip.clip_id for clip in listed if not clip.kept] == [f"tone-{number}" for number in range(7, 200, 10)]
    assert [clip.clip_id for clip in listed if clip.kept] == [f"tone-{number}" for number in range(3, 200, 10)]
    assert Counter(clip.kind for clip in listed) == {"broken": 20, "short": 20}
    with (stored / "left_out-train.csv").open() as file:
        assert next(csv.reader(file)) == ["clip_id", "reason", "kept"]
    assert storage.left_out(stored, "validation") == [storage.LeftOut("tone-1003", "short: by a little", True)]


@pytest.mark.parametrize(
    ("clips", "shards", "first"),
    [(1, 1, 1), (32, 1, 32), (33, 2, 32), (2048, 64, 32), (3200, 64, 50), (100_000, 196, 512), (2_041_789, 3988, 512)],
)
def test_the_number_of_clips_alone_tells_the_shards(clips, shards, first):
    ranges = storage.shard_ranges(clips)
    assert (len(ranges), len(ranges[0])) == (shards, first)
    assert [clip for of_shard in ranges for clip in of_shard] == list(range(clips))


def test_several_processes_write_the_same_dataset_and_leave_nothing_else(stored, tmp_path):
    folder = storage.store("tones", tones(stored.parents[1] / "log", 200), tmp_path, Local(3))
    check_tones(folder)
    assert contents(folder) == contents(stored)
    assert os.listdir(tmp_path) == ["tones"]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(stored))


# Refusals


def test_a_dataset_is_not_replaced(stored):
    before = contents(stored)
    with pytest.raises(ValueError, match="tones: exists already"):
        storage.store("tones", {"train": [Tone(1, stored)]}, stored.parents[1])
    assert contents(stored) == before


@pytest.mark.parametrize("name", ["My Set", "Upper", "../out", "a-b", "1st", ""])
def test_a_name_that_is_none_for_a_dataset_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no dataset name"):
        storage.store(name, {"train": []}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_split_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the split 'train' has no clips"):
        storage.store("empty", {"train": []}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_no_file_is_readable_the_first_is_named_and_nothing_is_left(tmp_path):
    clips = [ClipFile(name, tmp_path, name, (0,)) for name in ("a.wav", "b.wav")]
    with pytest.raises(ValueError, match=r"train: none of 2 files .* the first: missing: .*a\.wav: no such file"):
        storage.store("none", {"train": clips}, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_split_without_readable_clips_is_tried_again_and_the_others_are_kept(tmp_path):
    log = tmp_path / "log"
    splits = {"train": [Tone(number, log) for number in range(40)], "validation": [ClipFile("a", tmp_path, "a", (0,))]}
    with pytest.raises(ValueError, match="validation: none of 1 files could be read"):
        storage.store("half", splits, tmp_path / "out")
    assert not (tmp_path / "out" / "half").exists()
    made = log.read_text()
    with pytest.raises(ValueError, match="validation: none of 1 files could be read"):
        storage.store("half", splits, tmp_path / "out")
    assert log.read_text() == made


class Talkative(Tone):
    """A clip that is left out, and told at length."""

    def record(self):
        raise ValueError("broken: " + self.number * "x")


def test_long_reasons_are_cut(tmp_path):
    clips = [Tone(0, tmp_path / "log"), Talkative(500, tmp_path)]
    folder = storage.store("long", {"train": clips}, tmp_path)
    assert storage.left_out(folder, "train") == [storage.LeftOut("tone-500", "broken: " + 192 * "x", False)]


def test_a_shard_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0")
    (tmp_path / ".shard.0.part").symlink_to("gone/shard")
    shard = storage.Shard(range(1), tmp_path / "shard", tmp_path / "part")
    with pytest.raises(ValueError, match="shard: cannot be written"):
        storage.store_shard(storage.ShardJob(shard, (Tone(0, tmp_path / "log"),)))


# Again


def test_what_is_finished_is_not_done_again_and_what_a_kill_left_is_removed(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    folder = storage.store("tones", tones(log, 40), out)
    made, before = log.read_text(), contents(folder)
    (out / ".tones.part" / "parts").mkdir(parents=True)  # as if killed when it had its name
    assert storage.store("tones", tones(log, 40), out) == folder
    assert os.listdir(out) == ["tones"]
    assert (log.read_text(), contents(folder)) == (made, before)


@pytest.mark.parametrize("change", ["other clips", "no job"])
def test_anything_else_of_its_name_is_kept(tmp_path, change):
    folder = storage.store("tones", tones(tmp_path / "log", 40), tmp_path)
    before = contents(folder)
    if change == "no job":
        (folder / "job.json").unlink()
    with pytest.raises(ValueError, match="tones: exists already; choose another name or folder"):
        storage.store("tones", tones(tmp_path / "log", 39 if change == "other clips" else 40), tmp_path)
    assert contents(folder) == before
    assert not (tmp_path / ".tones.part").exists()


@pytest.mark.parametrize("place", ["tones/1.0.0", ".tones.part"])
def test_a_broken_description_of_the_job_is_named(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "job.json").write_text('{"clips')
    with pytest.raises(ValueError, match=rf"{place}/job\.json: not JSON"):
        storage.store("tones", tones(tmp_path / "log", 3), tmp_path)


def test_two_processes_do_not_prepare_one_dataset(tmp_path):
    (tmp_path / ".tones.part").mkdir()
    with (tmp_path / ".tones.part" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="tones: is being prepared by another process"):
            storage.store("tones", tones(tmp_path / "log", 3), tmp_path)
    check_tones(storage.store("tones", tones(tmp_path / "log", 3), tmp_path), 3)


def test_where_there_are_no_locks_it_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    check_tones(storage.store("tones", tones(tmp_path / "log", 3), tmp_path), 3)
    assert "cannot be locked (Operation not supported)" in caplog.text


# Interruptions


def test_moved_recordings_and_another_download_do_not_make_a_beginning_useless(tmp_path):
    def splits(folder, is_there):
        clips = [Tone(number, folder / "log") for number in range(31)]
        here = ClipFile("here", folder, "a.wav", (0,), 10.0)
        late = ClipFile("late", folder, "late.wav" if is_there else "", (0,), 10.0)
        return {"train": [*clips, late], "bad": [here]}  # the first shard is full

    with pytest.raises(ValueError, match="bad: none of 1 files"):
        storage.store("moved", splits(tmp_path, False), tmp_path)
    (tmp_path / "mount").mkdir()
    audio.write(tmp_path / "mount" / "a.wav", np.ones(320_000, np.float32), 32_000)
    audio.write(tmp_path / "mount" / "late.wav", np.ones(320_000, np.float32), 32_000)
    folder = storage.store("moved", splits(tmp_path / "mount", True), tmp_path)
    assert not (tmp_path / "mount" / "log").exists()
    assert Clips(folder, "bad").clip_ids.tolist() == ["here"]
    assert "late" not in Clips(folder, "train").clip_ids  # as when its shard was written


@pytest.mark.parametrize("other", [(1, 10.0), (0, 9.0)])
def test_other_labels_or_lengths_are_another_job(tmp_path, other):
    for labels, seconds in ((0, 10.0), other):
        splits = {"train": [Tone(0, tmp_path / "log"), ClipFile("a", tmp_path, "a", (labels,), seconds)]}
        if (labels, seconds) == other:
            with pytest.raises(ValueError, match="some: exists already"):
                storage.store("some", splits, tmp_path)
        else:
            storage.store("some", splits, tmp_path)


def start(folder: Path, workers: int) -> subprocess.Popen:
    """Stores 200 slow tones in another process, which is ready to be ended once the first shards are written."""
    command = [sys.executable, stored_items.__file__, str(folder), str(workers)]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells have background jobs ignore it
    )
    while not done(folder):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def done(folder: Path) -> list[Path]:
    """Shards that are finished."""
    return list(folder.glob(".tones.part/parts/*-train*.npz"))


@pytest.mark.parametrize(("workers", "then"), [(1, 1), (2, 1)])
def test_after_sigkill_it_goes_on_with_what_is_missing(stored, tmp_path, workers, then):
    process = start(tmp_path, workers)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = len(done(tmp_path))
    assert 1 <= finished < 7
    assert not (tmp_path / "tones").exists()
    (tmp_path / "log").unlink()
    folder = storage.store("tones", tones(tmp_path / "log", 200, pause_s=0.01), tmp_path, Local(then))
    made = (tmp_path / "log").read_text().split()
    assert len(made) == 205 - 32 * finished
    check_tones(folder)
    assert contents(folder) == contents(stored)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(stored))


def test_workers_end_when_their_parent_was_killed(tmp_path):
    process = start(tmp_path, 2)
    process.kill()
    process.communicate()  # returns when the workers too have closed their standard error
    before = (tmp_path / "log").read_text()
    time.sleep(0.5)
    assert (tmp_path / "log").read_text() == before


def test_ctrl_c_stops_quickly_and_keeps_finished_shards(tmp_path):
    process = start(tmp_path, 2)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert said.strip().endswith("KeyboardInterrupt")
    assert "SpawnProcess" not in said
    assert 1 <= len(done(tmp_path)) < 7


def test_a_beginning_of_other_clips_is_not_gone_on_with(tmp_path):
    process = start(tmp_path, 1)
    process.kill()
    process.communicate()
    with pytest.raises(ValueError, match=r"\.tones\.part: was begun with other clips; remove it"):
        storage.store("tones", tones(tmp_path / "log", 199, pause_s=0.01), tmp_path)


def test_a_worker_that_dies_gets_one_sentence_and_what_is_finished_is_kept(tmp_path):
    splits = tones(tmp_path / "log", 64) | {"fatal": [Fatal("bad")]}
    with pytest.raises(ValueError, match=r"a worker process ended unexpectedly \(exit code 3\)"):
        storage.store("tones", splits, tmp_path, Local(2))
    assert not (tmp_path / "tones").exists()
    assert len(done(tmp_path)) >= 1


# Apache Beam


def test_without_beam_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"pip install 'uss-jax\[beam\]'"):
        storage.store("tones", tones(tmp_path / "log", 3), tmp_path, Beam(()))


@pytest.mark.parametrize(
    "options", [("--runner=DirectRunner",), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")]
)
def test_beam_writes_the_same_dataset(stored, tmp_path, options, monkeypatch):
    pytest.importorskip("apache_beam")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where its workers find the items' class
    folder = storage.store("tones", tones(stored.parents[1] / "log", 200), tmp_path, Beam(options))
    check_tones(folder)
    assert contents(folder) == contents(stored)


# The command


def test_the_command_counts_what_is_left_out(tones, tmp_path, capsys):
    (tmp_path / "audio").mkdir()
    for file in tones.audio.iterdir():
        (tmp_path / "audio" / file.name).symlink_to(file)
    (tmp_path / "audio" / "dog-1.wav").unlink()
    (tmp_path / "audio" / "rain-4.wav").unlink()
    (tmp_path / "audio" / "rain-4.wav").write_text("no recording")
    arguments = ["--audio", tmp_path / "audio", "--labels", tones.labels, "--held-out", "fold=4", "--out", tmp_path]
    assert cli.main(["prepare", "some", *map(str, arguments), "--workers", "2"]) == 0
    folder = tmp_path / "some" / "1.0.0"
    assert capsys.readouterr().out.splitlines() == [
        f"train: 11 clips; 1 missing, listed in {folder}/left_out-train.csv",
        f"validation: 3 clips; 1 broken, listed in {folder}/left_out-validation.csv",
        f"dataset in {folder}",
    ]
    assert cli.main(["prepare", "some", *map(str, arguments), "--workers", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"validation: 3 clips; 1 broken, listed in {folder}/left_out-validation.csv",
        f"dataset in {folder} (there already)",
    ]
