"""Mining anchors as a job: by shards, on any number of devices and hosts, and on from where it was stopped."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from uss_jax import anchors, cli, files, mining, model_dir
from uss_jax.dataset import Clips

HOP = 320
JOB = """
import sys
from pathlib import Path
from uss_jax import files, mining, model_dir, parallel
dataset, out, *host = sys.argv[1:]
if host:
    parallel.initialise(host[0], 2, int(host[1]))
write = files.write_arrays
def said(path, **arrays):
    print(path.name)
    write(path, **arrays)
files.write_arrays = said
mining.mine_split(Path(dataset), "train", model_dir.load("tiny"), Path(out), batch_size=2, shard_clips=3)
"""

COMMAND = """
import sys, time
from pathlib import Path
from uss_jax import anchor_store, cli
def store(dataset, splits, folder, **options):
    while not (folder / "others ended").exists():
        time.sleep(0.1)
    return anchor_store.Stored(folder / "store", 0.5)
anchor_store.store = store
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def tiny():
    return model_dir.load("tiny")


def job(dataset, out, *host, devices=1) -> subprocess.Popen:
    """A process that mines the split `train` in shards of three clips."""
    return start(JOB, dataset, out, *host, devices=devices)


def start(script, *arguments, devices=1) -> subprocess.Popen:
    """A process of its own."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> list[str]:
    """Waits for its end. Returns the names of the files of arrays that it wrote."""
    written, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return [line for line in written.splitlines() if line.endswith(".npz")]


def mine(tones, networks, out, **options) -> bool:
    return mining.mine_split(tones.dataset, "train", networks, out, **{"batch_size": 2, "shard_clips": 3} | options)


@pytest.fixture(scope="module")
def mined(tones, tiny, tmp_path_factory) -> Path:
    """A folder with the anchors of the split `train`, mined without a break."""
    out = tmp_path_factory.mktemp("mined")
    assert mine(tones, tiny, out)
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def stop_after(monkeypatch, shards: int) -> None:
    """Writing of the next file fails once so many shards are there."""
    write = files.write_arrays

    def failing(path, **arrays):
        if path.name == f"{shards:05d}.npz":
            raise OSError("no space left")
        write(path, **arrays)

    monkeypatch.setattr(files, "write_arrays", failing)


def test_anchors_are_where_the_tagger_of_each_clip_alone_hears_its_labels(tones, tiny, mined):
    clips = Clips(tones.dataset, "train")
    found = anchors.load_anchors(mined, clips)
    rows = iter(zip(found.clip, found.label, found.start, found.confidence, strict=True))
    for clip in range(len(clips)):
        samples = clips.audio(clip)
        padded = np.zeros((1, 163_840), np.float32)
        padded[0, : len(samples)] = samples
        framewise = np.asarray(tiny.sed.apply(tiny.variables["sed"], padded).framewise[0])[: len(samples) // HOP + 1]
        for label in clips.labels(clip):
            start, confidence = anchors.find(framewise[:, [label]], 200)
            row = next(rows)
            assert row[:3] == (clip, label, start[0] * HOP)
            assert row[3] == pytest.approx(confidence[0], abs=1e-3)
    assert next(rows, None) is None
    assert max(found.start + 64_000 - clips.samples[found.clip]) <= 0


def test_clips_are_heard_to_the_next_five_seconds_but_for_a_short_overhang():
    """A clip of AudioSet's 10.02 s is heard in 10 s, and not in 15."""
    clips = types.SimpleNamespace(samples=np.array([320_640, 320_000, 96_000, 160_001, 323_200, 323_201, 100]))
    groups = mining._groups(clips, np.arange(7), 8)
    assert [(length, group.tolist()) for length, group in groups] == [
        (160_000, [2, 3, 6]),
        (320_000, [0, 1, 4]),
        (480_000, [5]),
    ]


def test_the_tagger_is_run_in_float32_wherever_it_runs(tiny):
    batch = np.zeros((1, 163_840), np.float32), np.zeros((1, 2), np.int32)
    lowered = str(jax.make_jaxpr(mining._of_labels(tiny.sed))(tiny.variables["sed"], batch))
    assert "precision=Precision.HIGHEST" in lowered or "precision=(Precision.HIGHEST" in lowered
    assert "precision=None" not in lowered


def test_shards_and_reading_threads_do_not_matter(tones, tiny, mined, tmp_path):
    assert mine(tones, tiny, tmp_path, workers=3, shard_clips=100)
    assert content(tmp_path) == content(mined)
    at_once = mining.mine(Clips(tones.dataset, "train"), tiny, batch_size=2)
    for name, array in vars(anchors.load_anchors(mined, Clips(tones.dataset, "train"))).items():
        np.testing.assert_array_equal(array, getattr(at_once, name))


def test_a_stopped_job_goes_on_from_its_shards(tones, tiny, mined, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(OSError, match="no space"):
            mine(tones, tiny, tmp_path)
    shards = sorted((tmp_path / ".anchors-train.part").glob("0*.npz"))
    assert [shard.name for shard in shards] == ["00000.npz", "00001.npz"]
    spoilt = np.load(shards[0])["start"] + 7  # so that it shows whether it is mined again
    np.savez(shards[0], start=spoilt, confidence=np.load(shards[0])["confidence"])
    assert mine(tones, tiny, tmp_path)
    assert sorted(content(tmp_path)) == ["anchors-train.json", "anchors-train.npz"]
    ours, whole = (np.load(folder / "anchors-train.npz")["start"] for folder in (tmp_path, mined))
    np.testing.assert_array_equal(ours[: len(spoilt)], spoilt)
    np.testing.assert_array_equal(ours[len(spoilt) :], whole[len(spoilt) :])


def test_a_job_that_was_stopped_between_joining_and_its_note_is_joined_again(tones, tiny, mined, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", stop_at_note(files.write_json))
        with pytest.raises(OSError, match="stopped"):
            mine(tones, tiny, tmp_path)
    assert (tmp_path / "anchors-train.npz").is_file()
    assert mine(tones, tiny, tmp_path)
    assert content(tmp_path) == content(mined)


def stop_at_note(write):
    def failing(path, note):
        if path.name == "anchors-train.json":
            raise OSError("stopped")
        write(path, note)

    return failing


def test_shards_of_another_job_are_replaced_only_if_asked(tones, tiny, mined, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(OSError, match="no space"):
            mine(tones, tiny, tmp_path)
    with pytest.raises(ValueError, match=r"anchors-train\.part: holds anchors of another .*--overwrite"):
        mine(tones, tiny, tmp_path, shard_clips=4)
    left_over = tmp_path / ".anchors-train.done"  # as after a kill
    left_over.mkdir()
    (left_over / "00000.npz").touch()
    assert mine(tones, tiny, tmp_path, shard_clips=4, overwrite=True)
    assert content(tmp_path) == content(mined)


def test_anchors_that_are_there_are_not_mined_again(tones, mined, capsys):
    before = {path: path.stat().st_mtime_ns for path in mined.iterdir()}
    command = ["anchors", str(tones.dataset), "--model", "tiny", "--splits", "train", "--out", str(mined)]
    assert cli.main(command) == 0
    assert "there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in mined.iterdir()} == before


def test_anchors_of_another_dataset_or_model_are_replaced_only_if_asked(tones, tiny, mined, tmp_path):
    for name, value, of in (("fingerprint", "0" * 64, "dataset"), ("tagger", "0" * 64, "model"), ("hop", 1, "model")):
        out = tmp_path / name
        out.mkdir()
        (out / "anchors-train.npz").write_bytes(b"kept")
        note = json.loads((mined / "anchors-train.json").read_text()) | {name: value}
        files.write_json(out / "anchors-train.json", note)
        with pytest.raises(ValueError, match=rf"anchors-train\.npz: .*another {of}.*--overwrite"):
            mine(tones, tiny, out)
        assert (out / "anchors-train.npz").read_bytes() == b"kept"
    assert mine(tones, tiny, out, overwrite=True)
    assert content(out) == content(mined)


class Recordings:
    """Stands for a dataset of these recordings, each labelled as speech."""

    folder, split = "recordings", "train"

    def __init__(self, *recordings):
        self.recordings = recordings
        self.samples = np.array([len(samples) for samples in recordings])

    def __len__(self):
        return len(self.recordings)

    def label_pairs(self):
        return np.arange(len(self)), np.zeros(len(self), int)

    def labels(self, clip):
        return np.zeros(1, int)

    def audio(self, clip):
        return self.recordings[clip]


def test_clips_of_many_lengths_are_mined_in_one_go(tiny):
    """They are padded to 5, 10 and 15 s, each a program of its own."""
    random = np.random.default_rng(0)
    recordings = [random.uniform(-0.1, 0.1, 32_000 * seconds).astype(np.float32) for seconds in (3, 7, 12, 6)]
    together = mining.mine(Recordings(*recordings), tiny, batch_size=2)
    for number, recording in enumerate(recordings):
        alone = mining.mine(Recordings(recording), tiny, batch_size=2)
        assert alone.start[0] == together.start[number]
        np.testing.assert_allclose(alone.confidence[0], together.confidence[number], rtol=1e-2)


def test_anchors_are_as_long_as_is_asked_for(tiny):
    """Of any length they lie where the tagger is surest over so long, and within the clip as far as it goes."""
    recording = np.random.default_rng(0).uniform(-1e-3, 1e-3, 32_000 * 8).astype(np.float32)
    clips = Recordings(recording)
    for seconds in (0.5, 1.0, 4.0, 10.0):
        (start,) = mining.mine(clips, tiny.with_segments(seconds)).start
        assert 0 <= start <= max(0, len(recording) - round(32_000 * seconds))
        frames = round(32_000 * seconds) // HOP
        framewise = np.asarray(tiny.sed.apply(tiny.variables["sed"], np.pad(recording, (0, 64_000))[None]).framewise[0])
        expected, _ = anchors.find(framewise[: len(recording) // HOP + 1, :1], frames)
        assert start == expected[0] * HOP


def test_the_digest_of_a_job_follows_the_weights(tones, tiny, mined):
    clips = Clips(tones.dataset, "train")
    note = json.loads((mined / "anchors-train.json").read_text())
    variables = tiny.variables["sed"]
    params = variables["params"] | {"fc1": {name: array + 1 for name, array in variables["params"]["fc1"].items()}}
    other = dataclasses.replace(tiny, variables=tiny.variables | {"sed": variables | {"params": params}})
    assert mining.job_of(clips, tiny).items() <= note.items()
    assert mining.job_of(clips, other)["tagger"] != note["tagger"]


def test_a_clip_that_cannot_be_read_stops_the_job_and_what_is_done_stays(tones, tiny, mined, tmp_path, monkeypatch):
    read = Clips.audio

    def failing(self, clip, *part):
        if clip == 7:
            raise ValueError("train-00001.array_record: record 3 (rain-2.wav) is broken")
        return read(self, clip, *part)

    with monkeypatch.context() as patch:
        patch.setattr(Clips, "audio", failing)
        with pytest.raises(ValueError, match=r"record 3 \(rain-2\.wav\) is broken"):
            mine(tones, tiny, tmp_path)
    shards = [path.name for path in (tmp_path / ".anchors-train.part").glob("0*.npz")]
    assert shards == ["00000.npz"]  # the next one was being heard
    assert mine(tones, tiny, tmp_path)
    assert content(tmp_path) == content(mined)


def test_four_devices_find_what_one_finds(tones, mined, tmp_path):
    finish(job(tones.dataset, tmp_path, devices=4))
    assert content(tmp_path) == content(mined)


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.mark.slow
def test_other_hosts_do_not_wait_for_the_store(tones, tmp_path):
    command = ["anchors", tones.dataset, "--model", "tiny", "--splits", "validation", "--out", tmp_path, "--store"]
    command += ["--multihost", "--coordinator", free_address(), "--processes", 2, "--process"]
    main, other = (start(COMMAND, *command, number) for number in range(2))
    try:
        finish(other)
        assert main.poll() is None
    finally:
        (tmp_path / "others ended").touch()
    said, error = main.communicate(timeout=300)
    assert main.returncode == 0, error
    assert "50% of the samples" in said


@pytest.mark.slow
def test_two_hosts_find_what_one_finds(tones, mined, tmp_path):
    coordinator = free_address()
    hosts = [job(tones.dataset, tmp_path, coordinator, number, devices=2) for number in range(2)]
    assert [finish(host) for host in hosts] == [
        ["00000.npz", "00002.npz", "anchors-train.npz"],
        ["00001.npz", "00003.npz"],
    ]
    assert content(tmp_path) == content(mined)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
def test_a_killed_job_goes_on_and_writes_the_same_file(tones, mined, tmp_path, shards):
    process = job(tones.dataset, tmp_path)
    parts = tmp_path / ".anchors-train.part"
    while len(list(parts.glob("0*.npz"))) < shards and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    written = finish(job(tones.dataset, tmp_path))
    assert written == [f"{number:05d}.npz" for number in range(shards, 4)] + ["anchors-train.npz"]
    assert content(tmp_path) == content(mined)


def test_a_sum_of_splits_is_mined_by_split(tones, tiny, tmp_path):
    with pytest.raises(ValueError, match=r"'train\+validation': .* by split"):
        mining.mine_split(tones.dataset, "train+validation", tiny, tmp_path)


@pytest.mark.parametrize(
    "wrong", [["--workers", "0"], ["--batch-size", "x"], ["--margin", "-1"], ["--margin", "1"], ["--process", "0"]]
)
def test_wrong_options_are_refused(wrong, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["anchors", "tests", "--model", "tiny", "--out", str(tmp_path), *wrong])
