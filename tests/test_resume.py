"""A run that was killed, stopped, or found its disk full or its files broken goes on to the same bits."""

import json
import os
import random
import shutil
import signal
import time

import pytest
import small_run

FIELDS = [
    "--config.steps=30",
    "--config.log_every=1",
    "--config.checkpoint_every=4",
    "--config.checkpoints_kept=2",
    "--config.evaluation.every=10",
    "--config.evaluation.per_class=1",
]
FILES = (
    "metrics.jsonl",
    "evaluations.jsonl",
    "model/weights.safetensors",
    "model/README.md",
    "best/weights.safetensors",
    "best/README.md",
)


@pytest.fixture(scope="module")
def fields(tones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    return [*small_run.prepare(tones.dataset, folder), *FIELDS], folder


@pytest.fixture(scope="module")
def whole(fields):
    """The workdir of a run that nothing happened to."""
    command, folder = fields
    small_run.finish(small_run.start(command, folder / "whole"))
    return folder / "whole"


@pytest.mark.slow
def test_a_run_is_evaluated_and_its_best_kept(whole):
    scores = {line["step"]: line["sdri"] for line in map(json.loads, (whole / "evaluations.jsonl").open())}
    assert list(scores) == [10, 20, 30]
    best = max(scores, key=scores.__getitem__)
    assert {28, 30, best} <= set(checkpoint_steps(whole))
    assert f"for {best} steps" in (whole / "best/README.md").read_text()
    assert "for 30 steps" in (whole / "model/README.md").read_text()


def assert_same(workdir, whole):
    for name in FILES:
        assert (workdir / name).read_bytes() == (whole / name).read_bytes(), name


def steps_logged(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for_step(run, workdir, step):
    while steps_logged(workdir) < step:
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)


def checkpoint_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_in_the_same_bits(fields, whole):
    """SIGKILL four times, wherever it is: in a step, in a checkpoint, before the first."""
    command, folder = fields
    workdir = folder / "killed"
    chance = random.Random(int(os.environ.get("USS_JAX_TEST_SEED", "0")))
    killed_at = []
    for _ in range(4):
        before = max(checkpoint_steps(workdir), default=0) if workdir.exists() else 0
        run = small_run.start(command, workdir)
        wait_for_step(run, workdir, min(before + chance.randint(1, 7), 29))
        time.sleep(chance.uniform(0, 0.3))
        run.kill()
        run.communicate()
        killed_at.append(steps_logged(workdir))
        newest = max(checkpoint_steps(workdir), default=0)
        assert killed_at[-1] - newest <= 4 + 1, "more than checkpoint_every steps are repeated"
    small_run.finish(small_run.start(command, workdir))
    assert_same(workdir, whole)


KILL_WHILE_SAVING = """
import os, sys
from orbax.checkpoint import CheckpointManager
from uss_jax.training import checkpoints
save = CheckpointManager.save
def killed(self, step, *args, **kwargs):
    if step == 12:
        from etils import epath
        def die(self, *args, **kwargs):
            os.kill(os.getpid(), 9)
        type(epath.Path("/")).rename = type(epath.Path("/")).replace = die
        os.rename = os.replace = lambda *args: os.kill(os.getpid(), 9)
    return save(self, step, *args, **kwargs)
CheckpointManager.save = killed
import train
from absl import app, flags
flags.mark_flags_as_required(["config", "workdir"])
app.run(train.main)
"""


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_ends_in_the_same_bits(fields, whole, tmp_path):
    command, folder = fields
    program = tmp_path / "kill_while_saving.py"
    program.write_text(KILL_WHILE_SAVING)
    workdir = folder / "killed-saving"
    run = small_run.start(command, workdir, program=str(program))
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert checkpoint_steps(workdir) == [8, 10]
    assert len(list((workdir / "checkpoints").iterdir())) == 3  # and what was being written
    said = small_run.finish(small_run.start(command, workdir))
    assert "resumed after step 10" in said
    assert all(path.name.isdigit() for path in (workdir / "checkpoints").iterdir())
    assert_same(workdir, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_stop_saves_first(fields, whole, number, status):
    command, folder = fields
    workdir = folder / f"stopped-{status}"
    run = small_run.start([*command, "--config.data.workers=1"], workdir)
    wait_for_step(run, workdir, 6)
    os.killpg(run.pid, number)  # as a terminal and a cluster do: the reading process gets it, too
    said = small_run.finish(run, status=status)
    newest = max(checkpoint_steps(workdir))
    assert newest >= 6
    assert f"train.py: stopped after step {newest}, which is saved; the same command goes on" in said
    assert "Traceback" not in said
    said = small_run.finish(small_run.start(command, workdir))
    assert f"resumed after step {newest}" in said
    assert_same(workdir, whole)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_broken_checkpoint_is_named_and_the_one_before_it_is_taken(fields, whole, damage):
    command, folder = fields
    workdir = folder / f"broken-{damage}"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "model")
    older, newest = checkpoint_steps(workdir)[-2:]
    largest = max((workdir / "checkpoints" / str(newest)).rglob("*"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    middle = len(content) // 2
    largest.write_bytes(
        content[:middle] if damage == "cut" else content[:middle] + b"\xff" * 64 + content[middle + 64 :]
    )
    said = small_run.finish(small_run.start(command, workdir))
    assert f"checkpoints/{newest}: not a whole checkpoint" in said
    assert f"resumed after step {older}" in said
    assert (workdir / f"broken-checkpoint-{newest}").is_dir()
    assert_same(workdir, whole)


@pytest.mark.slow
def test_where_no_checkpoint_can_be_read_the_run_stops_with_one_sentence(fields, whole):
    command, folder = fields
    workdir = folder / "all-broken"
    shutil.copytree(whole, workdir)
    for path in (workdir / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said = small_run.finish(small_run.start(command, workdir), status=1)
    assert "train.py: no checkpoint can be read" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert len(checkpoint_steps(workdir)) >= 2


DISK_FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
import train
from absl import app, flags
flags.mark_flags_as_required(["config", "workdir"])
app.run(train.main)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_gives_one_sentence_and_keeps_the_last_state(fields, whole, tmp_path):
    """No file may grow over 200 kB: a checkpoint cannot be written."""
    command, folder = fields
    workdir = folder / "full"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "model")
    *_, older, newest = checkpoint_steps(workdir)
    shutil.rmtree(workdir / "checkpoints" / str(newest))
    program = tmp_path / "disk_full.py"
    program.write_text(DISK_FULL)
    said = small_run.finish(small_run.start(command, workdir, program=str(program)), status=1)
    last = said.strip().splitlines()[-1]
    assert last.startswith("train.py: ")
    assert last.endswith(f"checkpoints/{newest}: the checkpoint could not be written (File too large)")
    assert "Traceback" not in said
    assert max(checkpoint_steps(workdir)) == older
    small_run.finish(small_run.start(command, workdir))
    assert_same(workdir, whole)


@pytest.mark.slow
def test_an_unreadable_record_is_named(tones, tmp_path):
    dataset = tmp_path / "tones"
    shutil.copytree(tones.dataset, dataset)
    (shard,) = list(dataset.glob("*train*array_record*"))[:1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 4096] = bytes(4096)
    fields = [*small_run.prepare(dataset, tmp_path), *FIELDS]
    shard.write_bytes(content)
    said = small_run.finish(small_run.start(fields, tmp_path / "run"), status=1)
    last = said.strip().splitlines()[-1]
    assert last.startswith("train.py: ")
    assert shard.name in last
    assert "Traceback" not in said


@pytest.mark.slow
def test_another_configuration_or_other_data_are_refused_and_other_workers_are_not(fields, whole, tones, tmp_path):
    command, _ = fields
    said = small_run.finish(small_run.start([*command, "--config.seed=1"], whole), status=1)
    assert "another configuration (seed was 0 and is 1)" in said
    (tmp_path / "other").mkdir()
    other = small_run.prepare(tones.dataset, tmp_path / "other")
    moved = [*command, *(field for field in other if "anchors" in field or "tagger_model" in field)]
    workdir = tmp_path / "moved"
    shutil.copytree(whole, workdir)
    small_run.finish(small_run.start([*moved, "--config.checkpoints_kept=5"], workdir))
    run = json.loads((whole / "run.json").read_text())
    assert set(run["inputs"]) == {"dataset", "anchors", "tagger", "evaluation", "evaluation_anchors"}
    run["inputs"]["anchors"] = "0" * 64
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "run.json").write_text(json.dumps(run))
    said = small_run.finish(small_run.start(command, changed), status=1)
    assert "a run with another anchors" in said


@pytest.mark.slow
def test_a_second_run_in_a_workdir_is_refused_and_readers_end_with_a_killed_one(fields, tmp_path):
    command, folder = fields
    workdir = folder / "twice"
    run = small_run.start([*command, "--config.data.workers=1", "--config.steps=3000"], workdir)
    wait_for_step(run, workdir, 2)
    said = small_run.finish(small_run.start([*command, "--config.steps=3000"], workdir), status=1)
    assert said.strip().splitlines()[-1] == f"train.py: {workdir}: another process trains in this workdir"
    children = [child for child in small_run.processes_of_group(run.pid) if child != run.pid]
    assert children
    run.kill()
    run.communicate()
    for _ in range(100):
        if not small_run.processes_of_group(run.pid):
            return
        time.sleep(0.1)
    raise AssertionError("reading processes outlived their run")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(fields, tmp_path):
    command, _ = fields
    said = small_run.finish(
        small_run.start([*command, "--config.optimiser.learning_rate=1e30", "--profile"], tmp_path / "run"), status=1
    )
    last = said.strip().splitlines()[-1]
    (written,) = (tmp_path / "run").glob("not-finite-*.json")
    step = int(written.stem.split("-")[-1])
    assert f" at step {step}; the clips of its batch are in {written}, the first " in last
    items = json.loads(written.read_text())["items"]
    assert list(items) == [str(index) for index in range(8 * (step - 1), 8 * step)]
    assert all(len(ids) == 2 and all(name.endswith(".wav") for name in ids) for ids in items.values())
    assert all(saved < step for saved in checkpoint_steps(tmp_path / "run"))


@pytest.mark.slow
def test_a_trace_is_written_on_demand(fields, tmp_path):
    command, _ = fields
    run = [*command, "--config.steps=6", "--config.evaluation.every=0", "--profile"]
    small_run.finish(small_run.start(run, tmp_path / "run"))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
    assert not (tmp_path / "run" / "best").exists()
