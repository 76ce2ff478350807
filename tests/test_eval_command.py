"""The command line of eval.py: what it says, what it refuses, and that an interrupted run ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uss_jax.evaluation.evaluate import Request, evaluate
from uss_jax.evaluation.run import Options

ROOT = Path(__file__).parents[1]
ITEMS = 50
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USS_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def start(*arguments: object) -> subprocess.Popen[str]:
    """Starts Python in a process group of its own, as a shell would."""
    command = [sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=ROOT, start_new_session=True, preexec_fn=hear_ctrl_c, **pipes)


def hear_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and all that is started from there inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(process: subprocess.Popen[str], seconds: float = 60) -> tuple[str, str]:
    """What it wrote until it and all processes that it started had ended; they are killed where they do not end."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def run_eval(*arguments: object, status: int = 0) -> tuple[str, str]:
    process = start("eval.py", *arguments)
    out, error = end(process, 120)
    assert process.returncode == status, out + error
    return out, error


# Wrong usage and wrong input


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "--benchmark and --data are needed"),
        ("--benchmark=fsd50k --model=tiny --out={0}/R.json", "--benchmark and --data are needed"),
        ("--benchmark=fsd50 --data={0} --model=tiny --out={0}/R.json", "invalid choice: 'fsd50'"),
        ("--benchmark=fsd50k --data={0} --model=tiny", "--out is needed"),
        ("--benchmark=fsd50k --data={0} --out={0}/R.json", "--model, --estimates or"),
        ("--benchmark=fsd50k --data={0} --model=tiny --out={0}/R.txt", "expected the name of a .json file"),
        ("--benchmark=fsd50k --data={0} --model=tiny --estimates={0} --out={0}/R.json", "not allowed with argument"),
        ("--benchmark=fsd50k --data={0} --model=tiny --out={0}/R.json --limit=0", "--limit: expected 1 or more"),
        ("--benchmark=fsd50k --data={0} --model=tiny --out={0}/R.json --per-class=x", "invalid int value: 'x'"),
        ("--benchmark=fsd50k --data={0} --model=tiny --out={0}/R.json --workers=-1", "--workers: expected 0 or more"),
        ("--benchmark=fsd50k --data={0} --model=tiny --out={0}/R.json --seed=-1", "--seed: expected a number"),
        ("--benchmark=fsd50k --data={0} --model=tiny --out={0}/R.json --query=best", "invalid choice: 'best'"),
        ("--benchmark=scenes --data={0} --estimates={0} --out={0}/R.json", "--benchmark=scenes needs --model"),
        ("--benchmark=scenes --data={0} --model=tiny --out={0}/R.json --limit=3", "--limit has no meaning for"),
        ("--benchmark=scenes --data={0} --model=tiny --out={0}/R.json --paper", "--paper has no meaning for"),
        ("--benchmark=tagging --data={0} --model=tiny --out={0}/R.json --query=label", "--query has no meaning for"),
        ("--benchmark=tagging --data={0} --model=tiny --out={0}/R.json --overwrite", "--overwrite has no meaning for"),
        ("--benchmark=tagging --data={0} --export={0}/pairs", "--benchmark=tagging needs --model"),
        ("--compare {0}/R.json", "expected 2 arguments"),
    ],
)
def test_wrong_usage_ends_with_status_2(tmp_path, options, says):
    out, error = run_eval(*options.format(tmp_path).split(), status=2)
    assert says in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not out
    assert not list(tmp_path.iterdir())


@pytest.fixture
def inputs(tmp_path) -> Path:
    """Folders and files that are not what eval.py needs, and a data set of four clips."""
    for folder in ("empty", "set/FSDKaggle2018.meta", "set/FSDKaggle2018.audio_test", "pairs/class_id=75"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "list.csv").write_text("label,index\nBark,0\n")
    rows = [f"{i}.wav,{'ab'[i % 2]}" for i in range(4)]
    table = tmp_path / "set/FSDKaggle2018.meta/test_post_competition_scoring_clips.csv"
    table.write_text("\n".join(["fname,label", *rows]))
    samples = np.random.default_rng(0).normal(0, 0.1, (4, 8000))
    for i in range(4):
        soundfile.write(tmp_path / f"set/FSDKaggle2018.audio_test/{i}.wav", samples[i], 8000)
    for part in ("mixture", "source"):
        soundfile.write(tmp_path / f"pairs/class_id=75/class_id=75,index=000,{part}.wav", samples[0], 8000)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--benchmark=fsd50k --data={0}/gone --estimates={0}/empty", "{0}/gone: no such folder"),
        ("--benchmark=fsd50k --data={0}/empty --estimates={0}/empty", "eval.csv: no such file"),
        ("--benchmark=musdb18 --data={0}/empty --estimates={0}/empty", "{0}/empty/test: no tracks of MUSDB18 here"),
        ("--benchmark=audioset --data={0}/empty --estimates={0}/empty", "{0}/empty: no dataset made by"),
        (
            "--benchmark=fsdkaggle2018 --data={0}/set --estimates={0}/empty",
            "none of 200 items could be scored; the first",
        ),
        (
            "--benchmark=fsdkaggle2018 --data={0}/set --estimates={0}/empty --mixtures={0}/list.csv",
            "list.csv: has no column",
        ),
        ("--benchmark=fsdkaggle2018 --data={0}/empty --estimates={0}/gone", "{0}/gone: no such folder"),
        ("--benchmark=fsdkaggle2018 --data={0}/set --estimates={0}/file", "{0}/file: no such folder"),
        ("--benchmark=fsdkaggle2018 --data={0}/set --model={0}/empty", "{0}/empty: not a model directory"),
        ("--benchmark=fsdkaggle2018 --data={0}/set --model=tiny", "train_post_competition.csv: no such file"),
        ("--benchmark=audioset --data={0}/pairs --model=tiny", "{0}/pairs: no training sources for average queries"),
        ("--compare {0}/gone.json {0}/file", "{0}/gone.json: no such file"),
        ("--compare {0}/file {0}/file", "{0}/file: not readable as JSON"),
    ],
)
def test_wrong_input_ends_with_status_1_and_one_sentence(inputs, options, says):
    arguments = options.format(inputs).split()
    if "--compare" not in options:
        arguments += [f"--out={inputs}/results/R.json", "--workers=0"]
    _, error = run_eval(*arguments, status=1)
    (line,) = error.splitlines()
    assert line.startswith("eval.py: ")
    assert says.format(inputs) in line
    assert not (inputs / "results/R.json").exists()


def test_a_result_that_cannot_be_written_is_named_before_anything_is_done(inputs):
    out = inputs / "file/R.json"
    _, error = run_eval("--benchmark=fsdkaggle2018", f"--data={inputs}/set", f"--estimates={inputs}/empty",
                        f"--out={out}", "--workers=0", status=1)  # fmt: skip
    (line,) = error.splitlines()
    assert line.startswith("eval.py: ")
    assert f"{inputs}/file" in line


def test_items_are_exported_without_a_model_and_scored_from_estimates(inputs):
    options = ["--benchmark=fsdkaggle2018", f"--data={inputs}/set", "--per-class=2", "--workers=0"]
    out, error = run_eval(*options, f"--export={inputs}/pairs2")
    assert out == f"4 items exported to {inputs}/pairs2\n"
    assert not error
    for path in (inputs / "pairs2").glob("*/*,source.wav"):
        path.with_name(path.name.replace("source", "estimate")).write_bytes(path.read_bytes())
    out, _ = run_eval(*options, f"--estimates={inputs}/pairs2", f"--out={inputs}/R.json")
    assert out.startswith("fsdkaggle2018 (estimates query), 4 items: sdr ")
    assert out.endswith("left out: 0\n")
    out, _ = run_eval("--compare", f"{inputs}/R.json", f"{inputs}/R.json")
    assert out.startswith("fsdkaggle2018: 4 items of 2 classes, scored by both")
    assert "+0.00 (+0.00 … +0.00)" in out


def test_what_no_run_wrote_is_overwritten_only_where_that_is_asked_for(inputs):
    arguments = ["--benchmark=fsdkaggle2018", f"--data={inputs}/set", f"--estimates={inputs}/empty",
                 f"--out={inputs}/R.json", "--per-class=2", "--workers=0"]  # fmt: skip
    options = Options(estimates_from=inputs / "empty")
    for name in ("R.md", "R.png", "R.mixtures.csv", "R.json"):
        (inputs / name).write_text("mine")
        before = sorted(inputs.iterdir())
        with pytest.raises(ValueError, match=f"{name}: exists already; choose another --out"):
            evaluate(Request("fsdkaggle2018", inputs / "set", inputs / "R.json", options=options, workers=0))
        assert sorted(inputs.iterdir()) == before
        assert (inputs / name).read_text() == "mine"
        if name != "R.json":
            (inputs / name).unlink()
    _, error = run_eval(*arguments, status=1)
    assert error.startswith(f"eval.py: {inputs}/R.json: exists already; ")
    assert error.count("\n") == 1
    _, error = run_eval(*arguments, "--overwrite", status=1)
    assert "none of 4 items could be scored" in error
    assert not (inputs / "R.json").exists()


# Interruption


def options(data_dir, folder, *more):
    """A run of a few seconds, in many steps."""
    return ["eval.py", "--model=tiny", "--benchmark=slakh2100", f"--data={data_dir}/slakh2100_mini", "--batch-size=1",
            f"--limit={ITEMS}", "--workers=1", "--oracle-masks", f"--out={folder}/R.json", *more]  # fmt: skip


def done(folder: Path) -> int:
    """How many items are in a journal."""
    path = folder / "R.journal.jsonl"
    return max(0, path.read_bytes().count(b"\n") - 2) if path.exists() else 0


def interrupted(arguments, folder, count, number) -> tuple[int, str]:
    """Sends a signal to a run and its workers once `count` items are done. Returns its exit status and its errors."""
    process = start(*arguments)
    while process.poll() is None and done(folder) < count:
        time.sleep(0.005)
    os.killpg(process.pid, number)
    _, error = end(process)
    assert count <= done(folder) < ITEMS  # else the test proves nothing
    assert not (folder / "R.json").exists()
    return process.returncode, error


def test_a_run_that_was_killed_and_interrupted_ends_with_the_same_bytes(data_dir, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_eval(*options(data_dir, whole)[1:])
    status, _ = interrupted(options(data_dir, parts), parts, 1, signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, error = interrupted(options(data_dir, parts), parts, done(parts) + 1, signal.SIGINT)
    assert status == 130
    assert error == "eval.py: interrupted; the same command goes on where it stopped\n"
    with (parts / "R.journal.jsonl").open("a") as file:
        file.write('{"item": 19, "estim')  # a line that was cut off
    before = done(parts)

    _, error = run_eval(*options(data_dir, parts, "--per-class=5")[1:], status=1)
    assert "R.journal.jsonl: of a run with another per_class (100, now 5)" in error
    out, _ = run_eval(*options(data_dir, parts)[1:])
    assert f"{ITEMS - before} done now" in out
    for name in ("R.json", "R.md", "R.mixtures.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert json.loads((parts / "R.json").read_text())["n"] == ITEMS
    out, _ = run_eval(*options(data_dir, parts)[1:])
    assert "; done before; left out: 0\n" in out
    assert (parts / "R.json").read_bytes() == (whole / "R.json").read_bytes()
    assert sorted(path.name for path in parts.iterdir()) == sorted(path.name for path in whole.iterdir())


SCRIPT = """
    import sys, time
    from uss_jax.evaluation.workers import Workers

    class SlowToStart:
        def __getstate__(self):
            return {"is": "something"}

        def __setstate__(self, state):
            print("a worker starts", flush=True)
            time.sleep(3)

    def wait(context):
        print("a worker works", flush=True)
        time.sleep(3)

    if __name__ == "__main__":
        try:
            with Workers(1, SlowToStart()) as workers:
                workers.submit(wait)()
        except KeyboardInterrupt:
            sys.exit(130)
"""


@pytest.mark.parametrize("moment", ["starts", "works"])
def test_ctrl_c_prints_no_traceback_of_a_worker(tmp_path, moment):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    process = start(tmp_path / "script.py")
    while moment not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, error = end(process)
    assert process.returncode == 130
    assert not error


def test_workers_do_not_outlive_a_process_that_was_killed(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    process = start(tmp_path / "script.py")
    while "works" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    end(process, seconds=20)  # to the end of its output, which a worker would hold open
