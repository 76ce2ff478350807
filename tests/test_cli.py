"""The real command lines: the whole chain in miniature, and what a wrong input gets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_run
import soundfile

from uss_jax import cli
from uss_jax.anchors import load_anchors
from uss_jax.dataset import Clips

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "yard.flac"

SMALL_TAGGER = [
    "--config.tagger.widths=(8, 8)",
    "--config.tagger.embedding_size=8",
    "--config.batch_size=4",
    "--config.log_every=1",
    "--config.optimiser.warmup_steps=1",
]
SMALL_SEPARATOR = [
    "--config.separator.widths=(8, 8)",
    "--config.separator.strides=((2, 2), (2, 2))",
    "--config.batch_size=4",
    "--config.log_every=1",
    "--config.optimiser.warmup_steps=1",
]


def run(*command: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs Python with these arguments in the repository, and checks the exit status."""
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | small_run.SHARING | small_run.HASTY,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result


def uss_jax(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    return run("-m", "uss_jax.cli", *arguments, status=status)


@pytest.fixture(scope="module")
def chain(tones, tmp_path_factory) -> Path:
    """A folder in which prepare, train, anchors and train were run by their command lines."""
    work = tmp_path_factory.mktemp("chain")
    labels = tones.labels
    uss_jax("prepare", "tones", "--audio", tones.audio, "--labels", labels, "--held-out", "fold=4", "--out", work)
    data = work / "tones"
    tagger = [
        "train.py",
        "--config=configs/tiny_tagger.py",
        f"--workdir={work}/tagger",
        f"--config.data.dataset={data}",
    ]
    run(*tagger, "--config.steps=4", *SMALL_TAGGER)
    uss_jax("anchors", data, "--model", work / "tagger/model", "--out", work / "anchors")
    run(*separator_command(work, "separator"))
    return work


def separator_command(work: Path, name: str) -> list[str]:
    return [
        "train.py",
        "--config=configs/tiny_separator.py",
        f"--workdir={work / name}",
        f"--config.data.dataset={work / 'tones'}",
        f"--config.data.anchors={work / 'anchors'}",
        f"--config.tagger_model={work / 'tagger/model'}",
        "--config.steps=6",
        "--config.checkpoint_every=3",
        *SMALL_SEPARATOR,
    ]


def test_the_chain_ends_in_a_model_that_evaluates_and_separates(chain, tmp_path):
    data, model = chain / "tones", chain / "separator/model"
    for query in ("average", "oracle"):
        out = tmp_path / f"{query}.json"
        run("eval.py", f"--model={model}", "--benchmark=folder", f"--data={data}", f"--out={out}", f"--query={query}",
            "--per-class=2")  # fmt: skip
        result = json.loads(out.read_text())
        assert result["query"] == query
        assert result["n"] == 2 * len(result["per_class"])
        assert np.isfinite(result["mean"]["sdri"])
    run("eval.py", f"--model={chain / 'tagger/model'}", "--benchmark=tagging", f"--data={data}",
        f"--out={tmp_path / 'tags.json'}")  # fmt: skip

    uss_jax("separate", EXAMPLE, "--model", model, "--classes", "Speech", "289", "--out", tmp_path)
    stems, rate = zip(*(soundfile.read(tmp_path / "yard" / name) for name in ("Speech.wav", "Rain.wav")), strict=True)
    residual, _ = soundfile.read(tmp_path / "yard" / "residual.wav")
    mixture, mixture_rate = soundfile.read(EXAMPLE)
    assert set(rate) == {mixture_rate}
    np.testing.assert_allclose(sum(stems) + residual, mixture, atol=1e-6)
    timeline = json.loads((tmp_path / "yard" / "timeline.json").read_text())
    assert [stem["file"] for stem in timeline["stems"]] == ["Speech.wav", "Rain.wav"]

    uss_jax("anchors", data, "--model", model, "--out", tmp_path / "anchors")
    mined, again = (load_anchors(folder, Clips(data, "train")) for folder in (chain / "anchors", tmp_path / "anchors"))
    np.testing.assert_allclose(mined.confidence, again.confidence, atol=0.01)  # the model's weights are 16-bit floats

    uss_jax("embed", EXAMPLE, "--model", model, "--out", tmp_path / "q.npy")
    uss_jax(
        "separate", EXAMPLE, "--model", model, "--embedding", tmp_path / "q.npy", "--out", tmp_path / "by_embedding"
    )
    assert (tmp_path / "by_embedding/yard/q.wav").is_file()


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(chain, tmp_path):
    """Six steps equal three, a stop, and three more: weights and metrics."""
    whole = chain / "separator"
    stopped = chain / "stopped"
    command = separator_command(chain, "stopped")
    run("-c", STOP_AFTER_FOUR_STEPS, *command[1:], status=9)
    assert not (stopped / "model").exists()
    run(*command)
    for file in ("metrics.jsonl", "model/weights.safetensors"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes(), file


STOP_AFTER_FOUR_STEPS = """
import os, sys
from uss_jax.training.metrics import MetricWriter
write = MetricWriter.write
def stop(self, step, **content):
    write(self, step, **content)
    if step == 4:
        os._exit(9)
MetricWriter.write = stop
import train
from absl import app
app.run(train.main, sys.argv[:1] + sys.argv[1:])
"""


def test_workers_read_the_same_mixtures_as_threads(chain):
    work = chain / "with_workers"
    run(*separator_command(chain, "with_workers"), "--config.data.workers=1")
    assert (work / "metrics.jsonl").read_bytes() == (chain / "separator/metrics.jsonl").read_bytes()


def test_help_names_the_commands_without_loading_jax():
    assert "separate" in uss_jax("--help").stdout
    code = "import sys, uss_jax, uss_jax.cli; sys.exit(any(m in sys.modules for m in ('jax', 'librosa', 'numpy')))"
    run("-c", code)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["separate", "no such file.wav"], 1, "no such file.wav: no such file"),
        (["separate", "README.md"], 1, "README.md: not readable as audio"),
        (["separate", "tests"], 1, "tests: no audio files"),
        (["separate", EXAMPLE, "--classes", "Dogg"], 1, "did you mean 'Dog'"),
        (["separate", EXAMPLE, "--model", "tests"], 1, "tests: not a model directory"),
        (["separate", EXAMPLE, "--model", "huge"], 1, "neither a known model"),
        (["separate", EXAMPLE, "--levels", "7"], 2, "invalid choice: 7"),
        (["separate", EXAMPLE, "--together"], 2, "--together goes with --classes"),
        (["separate", EXAMPLE, "--classes", "Dog=0.5"], 1, "'Dog=0.5' is not"),
        (["separate", EXAMPLE, "--classes", "Dog=x", "Rain", "--together"], 1, "Dog=x: expected CLASS=WEIGHT"),
        (["separate", EXAMPLE, "--classes", "Dog=-1", "Rain", "--together"], 1, "weights: expected one above 0"),
        (["separate", EXAMPLE, "--not", "Rain"], 2, "ask for some"),
        (["separate", EXAMPLE, "--classes", "Dog", "--not", "Rian"], 1, "did you mean 'Rain'"),
        (["separate", EXAMPLE, "--span", "5-3"], 2, "5-3: expected two times"),
        (["separate", EXAMPLE, "--span", "20-30"], 1, "yard.flac: span 20-30: not a time in the recording"),
        (["separate", EXAMPLE, "--paper", "--span", "1-3"], 2, "--paper goes without"),
        (["separate", EXAMPLE, "--overwrite", "--skip"], 2, "not allowed with"),
        (["separate", EXAMPLE, "--format", "flac", "--subtype", "FLOAT"], 1, "'FLOAT': not a subtype of flac"),
        (["separate", EXAMPLE, EXAMPLE], 1, "both be written"),
        (["separate", EXAMPLE, "--query", "tests"], 1, "no audio files"),
        (["separate", EXAMPLE, "--embedding", "README.md"], 1, "not an embedding"),
        (["separate", EXAMPLE, "--out", "README.md"], 1, "README.md"),
        (["separate"], 2, "required: AUDIO"),
        (["tag", "LICENSE"], 1, "LICENSE: not readable as audio"),
        (["anchors", "tests", "--model", "tiny", "--out", "x"], 1, "no dataset"),
        (["prepare", "x", "--audio", "tests", "--labels", "none.csv", "--out", "x"], 1, "none.csv: no such file"),
        (["listen"], 2, "invalid choice"),
    ],
)
def test_a_wrong_input_gets_one_sentence(arguments, status, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if "--out" not in arguments and arguments[0] == "separate":
        arguments = [*arguments, "--out", tmp_path / "out"]
    try:
        returned = cli.main(list(map(str, arguments)))
    except SystemExit as wrong_usage:
        returned = wrong_usage.code
    said = capsys.readouterr().err
    assert returned == status
    assert says in said
    if status == 1:
        assert said.startswith("uss-jax: ")
        assert said.count("\n") == 1
    assert list(tmp_path.rglob("*.*")) == []


def test_an_existing_result_is_kept_as_it_is(tmp_path):
    folder = tmp_path / "yard"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    result = uss_jax("separate", EXAMPLE, "--out", tmp_path, status=1)
    assert "exists already" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["yard", "mine.txt"]


def test_overwriting_replaces_results_and_nothing_else(tmp_path, capsys):
    """Neither a folder of recordings, nor a recording, nor what a link points to."""
    samples, rate = soundfile.read(EXAMPLE, frames=8_000)
    (tmp_path / "song").mkdir()
    for path in (tmp_path / "song" / "song.wav", tmp_path / "noise.wav", tmp_path / "plain.wav"):
        soundfile.write(path, samples, rate)
    (tmp_path / "plain").write_text("kept")
    (tmp_path / "noise").symlink_to(tmp_path / "song")
    before = sorted(tmp_path.rglob("*"))
    for name in ("song/song.wav", "plain.wav", "noise.wav"):
        arguments = ["separate", str(tmp_path / name), "--classes", "Dog", "--out", str(tmp_path), "--overwrite"]
        assert cli.main(arguments) == 1
        assert "not overwritten" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before

    out = str(tmp_path / "out")
    assert cli.main(["separate", str(tmp_path / "noise.wav"), "--classes", "Dog", "--out", out]) == 0
    assert cli.main(["separate", str(tmp_path / "noise.wav"), "--classes", "Rain", "--out", out, "--overwrite"]) == 0
    assert {path.name for path in (tmp_path / "out" / "noise").iterdir()} == {
        "Rain.wav",
        "residual.wav",
        "timeline.json",
        "labels.txt",
        "report.html",
    }
    stem = str(tmp_path / "out" / "noise" / "Rain.wav")
    again = ["separate", str(tmp_path / "noise.wav"), "--query", stem, "--out", out, "--overwrite"]
    assert cli.main(again) == 1
    assert "to be read from it" in capsys.readouterr().err


def test_anchors_of_another_dataset_are_refused(chain, tmp_path):
    with np.load(chain / "anchors" / "anchors-train.npz") as mined:
        np.savez(tmp_path / "anchors-train.npz", **dict(mined) | {"dataset": np.array("another")})
    command = [part for part in separator_command(chain, "none") if "data.anchors" not in part]
    result = run(*command, f"--config.data.anchors={tmp_path}", f"--workdir={tmp_path / 'run'}", status=1)
    assert "of another dataset" in result.stderr
    assert not (tmp_path / "run").exists()  # so that the corrected command may use it


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["configs/tiny_tagger.py", "--config.stops=1"], "tiny_tagger.py: has no 'stops'; Did you mean \"steps\""),
        (["configs/tiny_tagger.py", "steps=5"], "unexpected argument 'steps=5'"),
        (["configs/grid/paper.py:large"], "scale 'large': expected one of paper, small"),
        (["configs/none.py"], "No such file or directory: 'configs/none.py'"),
        (["LACKS_A_FIELD"], ".py: has no 'initial_model'"),
    ],
)
def test_a_wrong_configuration_gets_one_sentence(arguments, says, tones, tmp_path):
    path, *fields = arguments
    if path == "LACKS_A_FIELD":
        path, lines = tmp_path / "old.py", (ROOT / "configs" / "tiny_tagger.py").read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "initial_model" not in line))
        fields = [f"--config.data.dataset={tones.dataset}"]
    said = run("train.py", f"--config={path}", f"--workdir={tmp_path / 'run'}", *fields, status=1).stderr
    assert says in said
    assert said.startswith("train.py: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_train_and_eval_answer_wrong_input_in_one_sentence(tmp_path):
    result = run("train.py", "--config=configs/tiny_tagger.py", f"--workdir={tmp_path}", status=1)
    assert "no dataset" in result.stderr
    assert "Traceback" not in result.stderr
    result = run(
        "eval.py", "--model=tiny", "--benchmark=folder", "--data=tests", f"--out={tmp_path / 'r.json'}", status=1
    )
    assert "no dataset" in result.stderr
    assert not (tmp_path / "r.json").exists()
