"""The study: every configuration is one, what is run for it, and the table of what came out."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from small_run import HASTY, ROOT

from uss_jax import anchors, dataset, files, model_dir
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation.compare import Paths
from uss_jax.evaluation.items import Item, numbered
from uss_jax.evaluation.journal import Journal
from uss_jax.grid import __main__ as command
from uss_jax.grid import cells, plan, results, table, workers
from uss_jax.training.tasks import make_task

CELLS = sorted((ROOT / "configs" / "grid").glob("*.py"))


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Configurations import one another from the folder that holds `configs`."""
    monkeypatch.syspath_prepend(str(ROOT))


def load(*names, settings=(), scale=None):
    return cells.load([ROOT / "configs" / "grid" / f"{name}.py" for name in names], scale, {"separator": settings})


def study(folder, **fields):
    evaluated = {"benchmarks": {"folder": folder}, "protocols": ("average", "oracle"), "per_class": 4}
    return plan.Study(**({"workdir": folder, "dataset": folder / "data", "models": {}} | evaluated | fields))


# Configurations


def test_the_study_has_every_row_that_the_paper_compares():
    names = {path.stem for path in CELLS}
    assert {f"query_{kind}" for kind in ("hard", "latent")} <= names
    for kind in ("soft", "latent"):
        assert {f"query_mlp_{kind}_{how}" for how in ("frozen", "fine_tuned", "from_scratch")} <= names
    assert {f"separator_{kind}" for kind in ("resunet60", "unet", "conv_tasnet", "open_unmix")} <= names
    assert {f"anchors_{seconds}_s" for seconds in ("0_5", "1", "4", "6", "8", "10")} <= names
    assert {f"sources_{j}_to_{k}" for j in (3, 4) for k in range(1, j)} <= names


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_configuration_builds_its_networks(scale):
    """Under its file's name, different from all others, with fields that networks and tasks know."""
    found = cells.load(CELLS, scale, {})
    assert list(found) == [path.stem for path in CELLS]
    without_names = {json.dumps(cell.config | {"name": ""}) for cell in found.values()}
    # At the paper's scale the reference's recipe is a row of its own alone for what the balanced part changes.
    assert len(without_names) == len(found)
    for cell in found.values():
        tagger = found[cell.config["tagger_model"]] if cell.config["task"] == "separator" else cell
        description = {"name": "x", "segment_seconds": 2.0, "classes": [], "tagger": tagger.config["tagger"]}
        if cell.config["task"] == "separator":
            description |= {part: cell.config[part] for part in ("query", "separator")}
        model_dir.build_networks(description, {})


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("raise RuntimeError('no')", (), r"gives no configuration \(RuntimeError: no\)"),
        ("", (), "gives no configuration"),
        ("{file}", ("data.x=1",), "cannot set 'data.x=1'"),
        ("{file}", ("steps='many'",), "cannot set"),
        ("{file}", ("steps",), "expected FIELD=VALUE"),
    ],
)
def test_what_is_no_configuration_is_named(tmp_path, text, settings, said):
    path = tmp_path / "paper.py"
    path.write_text(text.replace("{file}", (ROOT / "configs" / "grid" / "paper.py").read_text()))
    with pytest.raises(ValueError, match=said):
        cells.load([path], None, {"separator": settings})


def test_a_configuration_has_the_name_of_its_file(tmp_path):
    path = tmp_path / "other.py"
    path.write_text((ROOT / "configs" / "grid" / "paper.py").read_text())
    with pytest.raises(ValueError, match="its name is 'paper'; expected that of the file"):
        cells.load([path], None, {})
    with pytest.raises(ValueError, match="another configuration has the name"):
        load("paper", "paper")
    with pytest.raises(ValueError, match="no such file"):
        load("nothing")


# Plan


def test_taggers_come_first_then_anchors_then_seeds(tmp_path):
    found = load("paper", "anchors_4_s", "anchors_in_clip", "tagger_cnn10", "tagger_cnn14", "tagger_sed")
    taggers, anchors, runs = plan.stages(study(tmp_path), found, [0, 1])
    assert [job.name for job in taggers] == ["tagger_cnn10", "tagger_cnn14", "tagger_sed"]
    assert [(job.name, job.seconds, job.splits) for job in anchors] == [
        ("tagger_sed", 2.0, ("train",)),
        ("tagger_sed", 4.0, ("train",)),
    ]
    assert [(job.name, job.seed) for job in runs] == [
        (name, seed) for seed in (0, 1) for name in ("paper", "anchors_4_s", "anchors_in_clip")
    ]
    of_paper = runs[3].config
    assert of_paper["seed"] == 1
    assert of_paper["tagger_model"] == str(tmp_path / "taggers" / "tagger_cnn14" / "model")
    assert of_paper["data"]["anchors"] == str(tmp_path / "anchors" / "tagger_sed-2s")
    assert runs[1].config["data"]["anchors"] == str(tmp_path / "anchors" / "tagger_sed-4s")
    assert runs[2].config["data"]["anchors"] == ""  # they are anywhere in their clips


def test_models_stand_for_taggers(tmp_path):
    models = {"tagger_cnn14": "cnn14", "tagger_sed": "cnn14_sed"}
    taggers, anchors, runs = plan.stages(study(tmp_path, models=models), load("paper", scale="paper"), [0])
    assert not taggers
    assert [job.splits for job in anchors] == [("train", "unbalanced")]
    assert (runs[0].config["tagger_model"], runs[0].config["sed_model"]) == ("cnn14", "cnn14_sed")
    with pytest.raises(ValueError, match="tagger_model is 'tagger_cnn14', which is no configuration of a tagger here"):
        plan.stages(study(tmp_path), load("paper"), [0])


def test_taggers_alone_are_trained(tmp_path):
    taggers, anchors, runs = plan.stages(study(tmp_path), load("tagger_cnn10", "tagger_cnn6"), [0])
    assert [job.name for job in taggers] == ["tagger_cnn10", "tagger_cnn6"]
    assert (anchors, runs) == ([], [])


# Table


MODELS = {"tagger_cnn14": "a", "tagger_sed": "b"}


def finished(of, job, scores, labels=("a", "b"), left_out=()):
    """Writes what a run leaves behind whose items have these scores, (labels, items)."""
    listed = numbered([Item(label, 0, f"clip{n}") for label in labels for n in range(len(scores[0]))])
    mean = {}
    for evaluation in of.evaluations:
        paths = Paths(of.result(job.name, job.seed, evaluation))
        files.write_text(paths.mixtures, item_lists.to_csv(listed))
        journal = Journal(paths.journal, {})
        journal.begin(item_lists.digest(listed), {})
        flat = dict(enumerate(np.concatenate(scores).tolist()))
        rows = {place: {"item": place, "estimate": {"sdr": x, "sdri": x}} for place, x in flat.items()}
        journal.write(list((rows | {place: {"item": place, "left_out": "why"} for place in left_out}).values()))
        mean[evaluation] = {"sdr": 0.0, "sdri": float(np.mean([np.median(x) for x in scores]))}
    result = {"name": job.name, "about": job.about, "config": job.config, "mean": mean} | results.asked(job, of)
    parts = {"parameters": {"tagger": 5, "separator": 7}, "items_per_second": 1.5 + job.seed}
    files.write_json(of.folder(job) / "result.json", result | parts | {"device": "cpu", "versions": {}})


def runs_of(of, *names, seeds=(0,)):
    """The runs of cells by name and seed, in the order in which they are done."""
    return {(job.name, job.seed): job for job in plan.stages(of, load(*names), seeds)[2]}


def test_rows_are_means_over_seeds_with_paired_differences(tones, tmp_path):
    of = study(tmp_path, dataset=tones.dataset, models=MODELS)
    runs = runs_of(of, "query_hard", "paper", "query_latent", seeds=(0, 1, 2))
    random = np.random.default_rng(0)
    base = random.normal(3.0, 2.0, (2, 3, 2, 40))  # (cells, seeds, labels, items)
    for seed in range(3):
        finished(of, runs["paper", seed], base[0, seed])
        finished(of, runs["query_hard", seed], base[0, seed] + 1.0 + random.normal(0, 0.01, (2, 40)))
    finished(of, runs["query_latent", 0], base[1, 0])
    collected = table.collect(of, runs.values(), "paper")
    rows = {row["name"]: row for row in collected["separators"]}
    assert list(rows) == ["paper", "query_hard", "query_latent"]  # the base first
    average = {name: row["evaluations"]["folder/average"] for name, row in rows.items()}
    expected = np.mean([np.median(base[0, seed], axis=1).mean() for seed in range(3)])
    assert average["paper"]["mean"]["sdri"] == pytest.approx(expected)
    low, high = average["paper"]["interval"]
    assert low < expected < high
    assert 0.3 < high - low < 2.5
    # The items are the same, so that the difference is known far better than either.
    low, high = average["query_hard"]["difference_interval"]
    assert low < average["query_hard"]["difference"] < high
    assert high - low < 0.05
    assert abs(average["query_hard"]["difference"] - 1.0) < 0.02
    assert "difference" not in average["paper"]
    of_both = np.median(base[1, 0], axis=1).mean() - np.median(base[0, 0], axis=1).mean()
    assert average["query_latent"]["difference"] == pytest.approx(of_both)  # of the seed that both have
    assert rows["paper"]["trained"] == 7
    assert rows["paper"]["items_per_second"] == 2.5
    json.dumps(collected)
    text = table.markdown(collected)
    assert [line.split("`")[1] for line in text.splitlines()[2:]] == ["paper", "query_hard", "query_latent"]
    assert f"{expected:.2f} (" in text
    assert "over `paper`" in text
    assert "over" not in table.markdown(table.collect(of, runs.values(), None)).splitlines()[0]


def test_a_table_is_made_of_new_scores_alone_and_of_all_of_them(tones, tmp_path, monkeypatch):
    """What was read is kept, for after every run the table is written again; what was scored again is read again."""
    of = study(tmp_path, dataset=tones.dataset, models=MODELS)
    runs = runs_of(of, "paper", "query_hard")
    finished(of, runs["paper", 0], np.full((2, 6), 1.0))
    first = table.collect(of, runs.values(), "paper")
    finished(of, runs["query_hard", 0], np.full((2, 6), 3.0))
    read = []
    monkeypatch.setattr(
        item_lists, "read_list", lambda path, once=item_lists.read_list: read.append(path) or once(path)
    )
    second = table.collect(of, runs.values(), "paper")
    assert {path.parent.parent.name for path in read} == {"query_hard"}
    assert second["separators"][0] == first["separators"][0]
    for path in tmp_path.glob("runs/paper/*/*.journal.jsonl"):
        path.unlink()
    finished(of, runs["paper", 0], np.full((2, 6), 2.0))
    third = table.collect(of, runs.values(), "paper")
    assert third["separators"][0]["evaluations"]["folder/average"]["interval"] == [2.0, 2.0]


def test_the_spread_of_seeds_is_not_made_less_by_drawing_few():
    """Three seeds without other noise: the interval has the deviation of a mean of three, by the sample's variance."""
    seeds = np.array([1.0, 2.0, 4.0])
    draws = table._over_seeds(np.repeat(seeds[:, None], 100_000, axis=1))
    assert np.mean(draws) == pytest.approx(seeds.mean(), abs=0.01)
    assert np.std(draws) == pytest.approx(np.std(seeds, ddof=1) / 3**0.5, rel=0.02)
    np.testing.assert_array_equal(table._over_seeds(draws[None]), draws)


@pytest.mark.parametrize("change", [{"labels": ("a", "c")}, {"left_out": (3,)}])
def test_differences_are_of_the_same_items_alone(tones, tmp_path, change):
    of = study(tmp_path, dataset=tones.dataset, models=MODELS)
    runs = runs_of(of, "paper", "query_hard")
    scores = np.random.default_rng(0).normal(0, 1, (2, 6))
    finished(of, runs["paper", 0], scores)
    finished(of, runs["query_hard", 0], scores, **change)
    collected = table.collect(of, runs.values(), "paper")
    assert "difference" not in collected["separators"][1]["evaluations"]["folder/average"]


def test_results_of_other_data_in_the_same_place_are_refused(tones, tmp_path, monkeypatch):
    of = study(tmp_path, dataset=tones.dataset, models=MODELS)
    (job,) = runs_of(of, "paper").values()
    finished(of, job, np.ones((2, 3)))
    monkeypatch.setattr(dataset.Clips, "fingerprint", lambda _: "other")
    with pytest.raises(ValueError, match=r"dataset was '[0-9a-f]{64}' and is 'other'"):
        results.read(job, of)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"per_class": 5}, "per_class was 4 and is 5"),
        ({"benchmarks": {"folder": Path("elsewhere")}}, "benchmarks was"),
        ({"models": MODELS | {"tagger_cnn14": "c"}}, "tagger_model was 'a' and is 'c'"),
        ({"protocols": ("label",)}, ""),
    ],
)
def test_results_of_another_study_are_neither_taken_nor_shown(tones, tmp_path, change, said):
    of = study(tmp_path, dataset=tones.dataset, models=MODELS)
    (job,) = runs_of(of, "paper").values()
    finished(of, job, np.ones((2, 3)))
    assert results.read(job, of)["mean"].keys() == {"folder/average", "folder/oracle"}
    other = study(tmp_path, **({"dataset": tones.dataset, "models": MODELS} | change))
    (job,) = runs_of(other, "paper").values()
    if said:
        with pytest.raises(ValueError, match=said):
            results.read(job, other)
    else:  # what is missing is done
        assert results.read(job, other) is None
    assert table.collect(other, [job], "paper")["separators"] == []
    assert table.markdown(table.collect(other, [job], "paper")) == ""


# The command


def grid(folder, *options):
    return [str(ROOT / "configs" / "grid" / "paper.py"), f"--workdir={folder}", *options]


def test_wrong_usage_and_input_are_told_in_a_sentence(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command's handler is not for this process
    assert command.main(grid(tmp_path, "--dataset", str(tmp_path))) == 1
    assert "no dataset made by `uss-jax prepare` here" in capsys.readouterr().err
    of_tones = ["--dataset", str(tones.dataset)]
    assert command.main(grid(tmp_path, *of_tones, "--base", "x")) == 1
    assert "--base x: none of the separators' configurations has this name" in capsys.readouterr().err
    assert command.main(grid(tmp_path, *of_tones, "--benchmark", "x=/nowhere")) == 1
    assert "--benchmark x: expected one of" in capsys.readouterr().err
    assert command.main(grid(tmp_path, *of_tones, "--benchmark", "musdb18=/nowhere")) == 1
    assert "/nowhere: no such folder" in capsys.readouterr().err
    assert command.main(grid(tmp_path, *of_tones)) == 1
    assert "tagger_model is 'tagger_cnn14', which is no configuration of a tagger here" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        command.main(grid(tmp_path, "--dataset", str(tmp_path), "--model", "x"))
    assert exit.value.code == 2


def shares(monkeypatch, count, gpus, visible=None):
    """What each of so many processes takes on a machine of 8 cores: a GPU, a part of its memory, and cores."""
    monkeypatch.setattr(workers, "_gpu_count", lambda: gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    taken = []
    for slot in range(count):
        environment = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
        cores = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", environment)
            patch.setattr(os, "sched_setaffinity", lambda process, given, cores=cores: cores.extend(given))
            workers._take_share(slot, count)
        memory = environment.get("XLA_PYTHON_CLIENT_MEM_FRACTION")
        taken.append((environment["CUDA_VISIBLE_DEVICES"], memory, cores))
    return taken


def test_processes_share_gpus_or_else_cores(monkeypatch):
    """Each has a GPU of its own while they last; then several have a part of one's memory."""
    assert shares(monkeypatch, 2, gpus=2) == [("0", None, []), ("1", None, [])]
    assert shares(monkeypatch, 4, gpus=2) == [(gpu, "0.450", []) for gpu in "0101"]
    assert shares(monkeypatch, 3, gpus=2, visible="5") == [("5", "0.300", [])] * 3
    assert [cores for _, _, cores in shares(monkeypatch, 3, gpus=0)] == [[0, 1], [2, 3, 4], [5, 6, 7]]


def random_tagger(folder, kind):
    """Writes a small tagger with random weights and segments of two seconds. Returns its model directory."""
    tagger = {"kind": kind, "patch": [2, 4], "widths": [8, 8], "embedding_size": 8}
    config = {"name": "small", "segment_seconds": 2.0, "classes": [], "tagger": tagger}
    networks = model_dir.build_networks(config, {})
    variables = jax.device_get(model_dir.initial_variables(networks, jax.random.key(0)))
    model_dir.save(folder / "model", model_dir.build_networks(config, variables), card="")
    return folder / "model"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    """One that finds anchors and has no embedding."""
    return random_tagger(tmp_path_factory.mktemp("tagger"), "cnn14_decision_level_max")


@pytest.fixture(scope="module")
def with_embedding(tmp_path_factory):
    """One that gives latent queries, too."""
    return random_tagger(tmp_path_factory.mktemp("cnn14"), "cnn14")


def start(folder, *options, configs, steps):
    """The command on a small separator, in a session of its own, as a terminal has it."""
    small = ["separator.window=512", "separator.hop=256", "separator.widths=(8,)", "separator.strides=((2,2),)"]
    fields = [f"steps={steps}", "log_every=2", "checkpoint_every=1000", "batch_size=4", "optimiser.warmup_steps=1"]
    paths = [str(ROOT / "configs" / "grid" / f"{name}.py") for name in configs]
    arguments = [*paths, f"--workdir={folder}", "--set", *fields, *small, "--per-class", "2", *options]
    environment = os.environ | HASTY | {"USS_JAX_CACHE": str(folder.parent / "cache"), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "uss_jax.grid", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(program, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)


def scores(folder):
    found = json.loads((folder / "table.json").read_text())
    return {row["name"]: row["evaluations"] for row in found["separators"]}


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped_to_the_same_table(tones, tagger, tmp_path):
    """Ctrl-C, which goes to all processes of a terminal: what is reached is saved, and nothing else begun."""
    models = ["--model", f"tagger_cnn14={tagger}", f"tagger_sed={tagger}"]
    options = ["--dataset", str(tones.dataset), "--seeds", "0", "1", *models]
    begin = functools.partial(start, configs=("paper",), steps=60)
    out, error = begin(tmp_path / "whole", *options).communicate(timeout=300)
    assert "failed" not in out + error
    shutil.copytree(tmp_path / "whole" / "compiled", tmp_path / "stopped" / "compiled")

    stopped = begin(tmp_path / "stopped", *options)
    deadline = time.monotonic() + 200
    while not any(path.stat().st_size for path in (tmp_path / "stopped").glob("runs/*/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        assert stopped.poll() is None
        time.sleep(0.02)
    os.killpg(stopped.pid, signal.SIGINT)
    out, error = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, out + error
    assert error == "uss_jax.grid: interrupted; the same command goes on where it stopped\n"
    (saved,) = (tmp_path / "stopped").glob("runs/*/*/checkpoints/*")  # of the first run alone
    assert 0 < int(saved.name) < 60

    out, error = begin(tmp_path / "stopped", *options).communicate(timeout=300)
    assert scores(tmp_path / "stopped").keys() == {"paper"}, out + error
    assert len(scores(tmp_path / "stopped")["paper"]["folder/average"]["per_seed"]) == 2
    assert scores(tmp_path / "whole") == scores(tmp_path / "stopped")


@pytest.mark.slow
def test_what_fails_is_named_and_the_others_go_on(tones, tagger, tmp_path):
    """A tagger without embedding cannot give latent queries; nothing can be asked of a tagger that is missing."""
    models = ["--model", f"tagger_cnn14={tagger}", f"tagger_sed={tagger}", f"tagger_cnn6={tmp_path / 'missing'}"]
    options = ["--dataset", str(tones.dataset), "--base", "paper", "--processes", "2", *models]
    configs = ("query_latent", "query_of_cnn6", "paper")
    process = start(tmp_path / "work", *options, configs=configs, steps=4)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 1, out + error
    assert "query_latent seed 0: failed: a latent query needs a tagger with an embedding" in out
    assert "query_of_cnn6 seed 0: failed: " in out
    assert "missing: neither a known model" in out
    assert "Traceback" not in out + error
    assert list(scores(tmp_path / "work")) == ["paper"]


def zeros(networks, key):
    """In place of drawing variables, which takes seconds to compile for every network."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), model_dir.variable_shapes(networks))


@pytest.mark.slow
@pytest.mark.parametrize("path", CELLS, ids=lambda path: path.stem)
def test_every_configuration_makes_a_task(path, tones, with_embedding, tmp_path, monkeypatch):
    """Its items have the length that its anchors have, and it trains what its name says."""
    monkeypatch.setattr(model_dir, "initial_variables", zeros)
    (cell,) = cells.load([path], "small", {}).values()
    config = ml_collections.ConfigDict(cell.config)
    config.data.dataset = str(tones.dataset)
    if config.task == "separator":
        clips = dataset.Clips(tones.dataset, "train")
        anchors.anywhere(clips, 64_000, 0).save(anchors.anchors_path(tmp_path, "train"), clips)
        config.data.anchors, config.tagger_model, config.sed_model = str(tmp_path), str(with_embedding), ""
    task = make_task(config, items=4)
    if config.task == "tagger":
        assert task.params
        assert not task.frozen
        return
    (made,) = task.source.items([0])
    assert made["mixture"].shape == made["source"].shape == (round(config.data.anchor_seconds * 32_000),)
    trained = {part for part, tree in task.params.items() if tree}
    expected = {"separator"}
    if "query_mlp" in path.stem:
        expected |= {"query"}
    if path.stem.endswith(("fine_tuned", "from_scratch")):
        expected |= {"query_tagger"}
    assert trained == expected
    assert set(task.batch_stats) == expected - {"query"}
    assert bool(task.frozen) == ("query_tagger" not in expected)
