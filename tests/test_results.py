"""`uss-jax separate` on all sorts of recordings and wishes: what it leaves behind, and what it never does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_fuzz import cases

from uss_jax import audio, cli, commands, results
from uss_jax.separation import Model
from uss_jax.targets import Target, Wish

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "yard.flac"
SECONDS = 3.0


@pytest.fixture(scope="module")
def yard(tmp_path_factory) -> Path:
    """Three seconds of the example, in stereo at 44.1 kHz."""
    samples, rate = soundfile.read(EXAMPLE, dtype="float32")
    samples = audio.resample(samples[: int(SECONDS * rate)], rate, 44_100)
    path = tmp_path_factory.mktemp("yard") / "yard.wav"
    soundfile.write(path, np.stack([samples, 0.5 * samples], axis=1), 44_100, subtype="FLOAT")
    return path


def separate(*arguments: object) -> int:
    return cli.main(["separate", *map(str, arguments)])


def read_all(folder: Path) -> dict[str, np.ndarray]:
    timeline = json.loads((folder / "timeline.json").read_text())
    files = {stem["name"]: stem["file"] for stem in timeline["stems"]}
    suffix = next(folder.glob("residual.*")).suffix
    files["residual"] = f"residual{suffix}"
    return {name: soundfile.read(folder / file)[0] for name, file in files.items()}


def test_every_kind_of_query_in_one_call(yard, tmp_path):
    example = tmp_path / "my example.wav"
    soundfile.write(example, soundfile.read(EXAMPLE)[0][:64_000], 32_000)
    assert cli.main(["embed", str(example), "--out", str(tmp_path / "q.npy")]) == 0
    wish = ["--levels", 1, "--classes", "Speech", "/m/0bt9lr", "289", "--query", example, "--embedding",
            tmp_path / "q.npy", "--span", "0.5-2", "--not", "Music"]  # fmt: skip
    assert separate(yard, *wish, "--out", tmp_path) == 0
    sounds = read_all(tmp_path / "yard")
    assert {"Speech", "Dog", "Rain", "my example", "q", "span", "residual", "Animal"} <= set(sounds)
    assert {sound.shape for sound in sounds.values()} == {(int(SECONDS * 44_100), 2)}
    np.testing.assert_array_equal(sounds["my example"], sounds["q"])
    timeline = json.loads((tmp_path / "yard" / "timeline.json").read_text())
    level1 = [sounds[stem["name"]] for stem in timeline["stems"] if stem["level"] == 1]
    np.testing.assert_allclose(sum(level1) + sounds["residual"], soundfile.read(yard)[0], atol=1e-6)
    for event in timeline["events"]:
        assert 0 <= event["onset_s"] < event["offset_s"] <= SECONDS + 1e-6
        assert 0.2 <= event["mean_probability"] <= event["peak_probability"] <= 1
        assert event["energy_share"] >= 0
    rows = [line.split("\t") for line in (tmp_path / "yard" / "labels.txt").read_text().splitlines()]
    assert sorted((name, float(a), float(b)) for a, b, name in rows) == sorted(
        (event["name"], round(event["onset_s"], 6), round(event["offset_s"], 6)) for event in timeline["events"]
    )
    assert "<html" in (tmp_path / "yard" / "report.html").read_text()


@pytest.mark.parametrize(("format", "error"), [("flac", 1e-4), ("ogg", 0.1), ("wav", 1e-6)])
def test_formats_hold_the_same(yard, tmp_path, format, error):
    assert separate(yard, "--classes", "Dog", "--format", format, "--no-report", "--out", tmp_path) == 0
    sounds = read_all(tmp_path / "yard")
    np.testing.assert_allclose(sum(sounds.values()), soundfile.read(yard)[0], atol=error)
    assert {path.suffix for path in (tmp_path / "yard").iterdir()} == {f".{format}", ".json", ".txt"}


def test_folders_keep_their_inner_folders_and_what_is_there_is_skipped(yard, tmp_path, capsys):
    for name in ("a/x.wav", "b/x.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(yard.read_bytes())
    wish = ("--classes", "Dog", "--no-report", "--out", tmp_path / "out")
    assert separate(tmp_path / "in" / "a" / "x.wav", *wish[:-1], tmp_path / "out" / "a") == 0
    before = (tmp_path / "out" / "a" / "x" / "Dog.wav").stat().st_mtime_ns
    assert separate(tmp_path / "in", *wish) == 1
    assert "exists already" in capsys.readouterr().err
    assert separate(tmp_path / "in", *wish, "--skip") == 0
    assert (tmp_path / "out" / "b" / "x" / "Dog.wav").is_file()
    assert (tmp_path / "out" / "a" / "x" / "Dog.wav").stat().st_mtime_ns == before


def test_a_broken_recording_does_not_keep_the_others_from_being_separated(yard, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_text("no sound")
    (tmp_path / "in" / "b.wav").write_bytes(yard.read_bytes())
    assert separate(tmp_path / "in", "--classes", "Dog", "--no-report", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "a.wav: not readable as audio" in said[0]
    assert said[1] == "uss-jax: 1 of 2 recordings failed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_a_second_run_on_the_same_folder_leaves_results_alone(yard, tmp_path, monkeypatch):
    for name in ("a.wav", "a.flac", ".hidden/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(yard.read_bytes())
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert separate(".", "--classes", "Dog", "--no-report", "--skip") == 0
    assert {path.name for path in (tmp_path / "separated").iterdir()} == {"a", "a.wav"}


def test_what_is_clipped_is_said(yard, tmp_path, caplog):
    samples, rate = soundfile.read(yard)
    soundfile.write(tmp_path / "loud.wav", 50 * samples, rate, subtype="FLOAT")
    assert separate(tmp_path / "loud.wav", "--classes", "Dog", "--format", "flac", "--out", tmp_path / "out") == 0
    assert "samples beyond ±1 were clipped" in caplog.text


def test_long_names_in_any_script_are_cut(yard, tmp_path):
    path = tmp_path / f"{'音' * 80}.wav"
    path.write_bytes(yard.read_bytes())
    assert separate(path, "--classes", "Dog", "--no-report", "--out", tmp_path / "out") == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "音" * 50


def test_files_of_stems_differ_on_every_system():
    wanted = [Target("a/b"), Target("a:b"), Target("A_B"), Target("Residual")]
    files = results.stem_files(wanted, results.stem_path, ".wav")
    assert len({file.casefold() for file in files.values()}) == 5
    assert files["residual"] == "residual.wav"


def test_ctrl_c_leaves_finished_recordings_whole_and_nothing_half(yard, tmp_path):
    """Interrupted in the second recording, which is long; the first one's results stay."""
    samples, rate = soundfile.read(yard)
    soundfile.write(tmp_path / "long.wav", np.tile(samples, (200, 1)), rate)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "uss_jax.cli", "separate", yard, tmp_path / "long.wav", "--classes", "Dog",
               "--out", out]  # fmt: skip
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (list(out.glob(".long.*.part/*")) and (out / "yard").exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert [path.name for path in out.iterdir()] == ["yard"]
    assert {"Dog", "residual"} == set(read_all(out / "yard"))


def test_what_watch_raises_ends_it_and_nothing_stays(yard, tmp_path):
    def watch(progress):
        if progress.stage == "separating":
            raise RuntimeError("enough")

    model = Model.load("tiny")
    with pytest.raises(RuntimeError, match="enough"):
        results.separate_file(model, yard, tmp_path / "out", Wish(classes=("Dog",)), results.Output(), watch)
    assert list(tmp_path.iterdir()) == []


def check_case(case, folder: Path, model: Model | None, capsys) -> None:
    """A hostile file is separated, or told of in one line; by the command line, or by the model that it uses."""
    path = case.write(folder)
    out = folder / "out"
    if model is None:
        status = separate(path, "--classes", "Dog", "--no-report", "--out", out)
        said = capsys.readouterr().err
    else:
        status, said = 0, ""
        try:
            results.separate_file(model, path, out / "it", Wish(classes=("Dog",)), results.Output(report=False))
        except ValueError as error:
            status, said = 1, f"uss-jax: {commands.one_line(error)}\n"
    assert status in (0, 1), case
    if case.readable is not None:
        assert (status == 0) == case.readable, (case, said)
    if status == 1:
        assert said.startswith("uss-jax: "), case
        assert said.count("\n") == 1, case
        assert not out.exists() or list(out.iterdir()) == [], case
    else:
        (result,) = out.iterdir()
        assert {"Dog.wav", "residual.wav", "timeline.json", "labels.txt"} == {file.name for file in result.iterdir()}
        assert all(np.isfinite(sound).all() for sound in read_all(result).values()), case


def run_cases(count: int, seed: int, folder: Path, model: Model | None, capsys) -> None:
    for number, case in enumerate(cases(count, seed)):
        place = folder / str(number)
        place.mkdir()
        check_case(case, place, model, capsys)
        shutil.rmtree(place)


def test_hostile_files_get_results_or_one_sentence(tmp_path, capsys):
    run_cases(12, 1, tmp_path, None, capsys)


@pytest.mark.slow
def test_many_hostile_files_get_results_or_one_sentence(tmp_path, capsys):
    run_cases(int(os.environ.get("FUZZ_CASES", "100")), 2, tmp_path, Model.load("tiny"), capsys)
