"""Whole evaluations of the bundled model on small copies of the public sets, checked by what they export."""

import dataclasses
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recomputed import recomputed
from test_benchmarks_musdb import write_song
from test_benchmarks_slakh import stem, write_track

from uss_jax import dataset, files, mining, storage, targets, weak_labels
from uss_jax.anchors import anchors_path
from uss_jax.evaluation import evaluate, items
from uss_jax.evaluation.run import Options

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PER_CLASS = {"fsdkaggle2018": 3, "fsd50k": 2, "slakh2100": 3, "musdb18": 1, "voicebank": 1, "audioset": 2}
FOLDERS = {
    "fsdkaggle2018": "fsdkaggle2018_mini",
    "fsd50k": "fsd50k_mini",
    "slakh2100": "slakh2100_mini",
    "musdb18": "musdb18hq_mini",
    "voicebank": "voicebank_demand_mini",
}
ALL = [*FOLDERS, "audioset", "pairs"]
SEGMENT_METRICS = {"sdr", "sdri", "si_sdr", "si_sdri"}
DOG, ROOSTER, RAIN, HELICOPTER = "-0.ogg", "-1.ogg", "-10.ogg", "-40.ogg"  # as names of clips of ESC-10 end


@dataclasses.dataclass(frozen=True)
class Run:
    """One evaluation: its folder (R.json, pairs, estimates), what was asked for, and the result."""

    folder: Path
    request: evaluate.Request
    result: dict[str, Any]


def run(folder: Path, benchmark: str, data: Path, **fields: Any) -> Run:
    fields = {"model": "tiny", "workers": 0} | fields
    request = evaluate.Request(benchmark, data, folder / "R.json", **fields)
    result, _ = evaluate.evaluate(request)
    assert json.loads((folder / "R.json").read_text()) == result
    return Run(folder, request, result)


@pytest.fixture(scope="module", autouse=True)
def one_model(tmp_path_factory):
    """One model for all runs, so that each shape is compiled once, and a cache folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USS_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(evaluate, "load_model", functools.cache(evaluate.load_model))
        yield


@pytest.fixture(scope="module")
def esc10(data_dir, tmp_path_factory) -> Path:
    """A dataset of eight training and eight held-back clips."""
    source = data_dir / "esc10"
    found = weak_labels.collect([source / "audio"], [source / "weak_labels.csv"], [source / "meta.csv"], "fold=4")
    splits = {
        split: [clip for kind in (DOG, ROOSTER, RAIN, HELICOPTER) for clip in clips if clip.clip_id.endswith(kind)][::4]
        for split, clips in found.items()
    }
    return storage.store("esc10", splits, tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="module")
def run_of(data_dir, esc10, tmp_path_factory):
    """The evaluation of a benchmark by average queries, with everything exported; each is run once."""

    @functools.cache
    def get(name: str) -> Run:
        folder = tmp_path_factory.mktemp(name)
        fields: dict[str, Any] = {"export": folder / "pairs", "options": Options(estimates_to=folder / "estimates")}
        if name == "pairs":
            return run(folder, "audioset", get("audioset").folder / "pairs", query_data=esc10, **fields)
        data = esc10 if name == "audioset" else data_dir / FOLDERS[name]
        return run(folder, name, data, per_class=PER_CLASS[name], **fields)

    return get


# Figures


@pytest.mark.parametrize("name", ALL)
def test_every_figure_follows_from_the_exported_files(name, run_of):
    done = run_of(name)
    expected, means = recomputed(name, done.folder)
    assert done.result["per_class"].keys() == expected.keys()
    assert len(expected) == {"musdb18": 4, "voicebank": 1, "slakh2100": 4}.get(name, 6)
    for label, row in expected.items():
        assert done.result["per_class"][label] == pytest.approx(row, abs=1e-6)
    mean = {metric: np.mean([row[metric] for row in expected.values()]) for metric in done.result["mean"]}
    assert done.result["mean"] == pytest.approx(mean, abs=1e-6)
    assert done.result["n"] == sum(row["n"] for row in expected.values())
    over_items = {metric: sum(row[metric] * row["n"] for row in means.values()) / done.result["n"] for metric in mean}
    assert done.result["mean_over_items"] == pytest.approx(over_items, abs=1e-6)
    assert done.result["left_out"]["items"] == 0
    assert not {"data", "query_data", "anchors", "query_anchors", "export_estimates"} & done.result["settings"].keys()
    written = (done.folder / "R.json").read_text()
    for folder in (done.folder, done.request.data, done.request.query_data or done.folder):
        assert str(folder) not in written
    if name not in ("musdb18", "voicebank"):
        assert set(mean) == SEGMENT_METRICS


@pytest.mark.parametrize("name", ALL)
def test_exported_estimates_are_scored_alike(name, run_of, tmp_path):
    done = run_of(name)
    fields: dict[str, Any] = {"per_class": done.request.per_class}
    if name == "audioset":  # without a model there are no anchors to choose from
        fields["mixtures"] = done.folder / "R.mixtures.csv"
    estimates = Options(estimates_from=done.folder / "estimates")
    other = run(tmp_path, done.request.benchmark, done.request.data, model=None, options=estimates, **fields).result
    assert other["query"] == "estimates"
    assert other["mean"] == pytest.approx(done.result["mean"], abs=1e-9)
    for label, row in done.result["per_class"].items():
        assert other["per_class"][label] == pytest.approx(row, abs=1e-9)
    assert (tmp_path / "R.mixtures.csv").read_bytes() == (done.folder / "R.mixtures.csv").read_bytes()


@pytest.mark.parametrize("name", ["fsd50k", "audioset", "voicebank"])
def test_the_written_list_gives_the_same_result(name, run_of, tmp_path):
    done = run_of(name)
    listed = done.folder / "R.mixtures.csv"
    again = run(tmp_path, name, done.request.data, per_class=done.request.per_class, mixtures=listed).result
    assert again["settings"]["given_mixtures"] == again["settings"]["mixtures"] == done.result["settings"]["mixtures"]
    assert again | {"settings": None} == done.result | {"settings": None}


# Protocols


@pytest.mark.parametrize("name", ["fsd50k", "voicebank"])
def test_three_protocols_separate_the_same_items_by_other_queries(name, run_of, tmp_path):
    done = run_of(name)
    results = {"average": done.result}
    for query in ("oracle", "label"):
        fields = {"per_class": done.request.per_class, "query": query}
        results[query] = run(tmp_path / query, name, done.request.data, **fields).result
    for query, result in results.items():
        assert result["query"] == query
        assert result["n"] + result["left_out"]["items"] == done.result["n"]
        assert result["settings"]["mixtures"] == done.result["settings"]["mixtures"]
    assert results["oracle"]["n"] == done.result["n"]
    assert len({result["mean"]["si_sdr"] for result in results.values()}) == 3


@pytest.mark.parametrize(("peak", "left_out"), [(0.0, {"vocals, 0: test/A/vocals": "silent source"}), (0.01, {})])
def test_a_silent_stem_is_left_out_by_the_oracle_protocol_and_a_quiet_one_is_not(tmp_path, peak, left_out):
    vocals = write_song(tmp_path / "data", "A") / "vocals.wav"
    samples, rate_hz = soundfile.read(vocals)
    soundfile.write(vocals, peak / np.abs(samples).max() * samples, rate_hz)
    result = run(tmp_path, "musdb18", tmp_path / "data", query="oracle").result
    classes = [name.split(",")[0] for name in left_out]
    count = len(left_out)
    assert result["left_out"] == {"count": count, "items": count, "classes": classes, "names": left_out}
    assert {"vocals", "bass", "drums", "other"} - set(result["per_class"]) == set(classes)


def test_ideal_masks_are_better_than_the_estimate(run_of, tmp_path):
    done = run_of("slakh2100")
    fields = {"per_class": done.request.per_class, "options": Options(oracle_masks=True)}
    result = run(tmp_path, "slakh2100", done.request.data, **fields).result
    assert result["per_class"] == done.result["per_class"]
    for label, row in result["per_class"].items():
        masked = result["ideal_ratio_mask"]["per_class"][label]
        assert all(masked[metric] > row[metric] + 1 for metric in SEGMENT_METRICS)
        assert result["mixture"]["per_class"][label]["sdri"] == 0
        assert result["mixture"]["per_class"][label]["sdr"] < row["sdr"]
    assert result["per_inst_class"].keys() == {"Drums", "Bass", "Piano", "Reed"}


def test_estimates_that_would_have_one_name_are_refused(tmp_path):
    write_track(tmp_path / "data", "A", {"S00": stem("a/b"), "S01": stem("a:b")})
    options = Options(estimates_to=tmp_path / "estimates")
    with pytest.raises(ValueError, match="'a:b' and 'a/b' would be exported under one name"):
        run(tmp_path, "slakh2100", tmp_path / "data", per_class=1, query="oracle", options=options)
    assert not (tmp_path / "estimates").exists()


def test_a_limit_takes_items_of_all_classes(data_dir, tmp_path):
    result = run(tmp_path, "fsdkaggle2018", data_dir / FOLDERS["fsdkaggle2018"], limit=8, query="oracle").result
    assert sorted(row["n"] for row in result["per_class"].values()) == [1, 1, 1, 1, 2, 2]
    assert result["settings"]["limit"] == result["n"] == 8


# Training sources


@pytest.fixture
def kaggle(data_dir, tmp_path, monkeypatch) -> Path:
    """A copy of the mini set that may be changed, and an empty cache folder."""
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(data_dir / FOLDERS["fsdkaggle2018"], tmp_path / "kaggle", copy_function=shutil.copyfile)


def queries() -> dict[Path, int]:
    """The files of average queries: one for each label, in a folder for each key."""
    return {path: path.stat().st_mtime_ns for path in (files.cache_folder() / "queries").glob("*/*")}


def key_of_queries(folder: Path) -> str:
    """What a run's journal says of the training sources of its queries."""
    return json.loads((folder / "R.journal.jsonl").read_text().splitlines()[0])["settings"]["queries"]


def test_average_queries_are_kept_and_an_unreadable_training_clip_is_named_each_time(kaggle, tmp_path):
    broken = kaggle / "FSDKaggle2018.audio_train/0adb5fb9.wav"
    broken.write_text("no audio")
    one = run(tmp_path / "one", "fsdkaggle2018", kaggle, per_class=2).result
    kept = list(queries())
    assert len(kept) == 6
    assert {path.parent.name for path in kept} == {key_of_queries(tmp_path / "one")}
    for path in kept:
        os.utime(path, ns=(1, 1))
    other = run(tmp_path / "other", "fsdkaggle2018", kaggle, per_class=2).result
    assert queries() == dict.fromkeys(kept, 1)  # read, and not written
    assert other == one
    assert one["left_out"]["names"].keys() == {"FSDKaggle2018.audio_train/0adb5fb9.wav"}
    assert one["left_out"]["items"] == 0
    assert one["left_out"]["count"] == 1

    kept[0].unlink()  # as in a run that was interrupted
    assert run(tmp_path / "third", "fsdkaggle2018", kaggle, per_class=2).result == one
    assert {path for path, time in queries().items() if time != 1} == {kept[0]}

    shutil.copyfile(kaggle / "FSDKaggle2018.audio_train/b4aa587d.wav", broken)
    with pytest.raises(ValueError, match="of a run with another queries"):
        run(tmp_path / "one", "fsdkaggle2018", kaggle, per_class=2)
    assert json.loads((tmp_path / "one/R.json").read_text()) == one
    mended = run(tmp_path / "one", "fsdkaggle2018", kaggle, per_class=2, overwrite=True).result
    assert len({path.parent for path in queries()}) == 2
    assert mended["left_out"]["count"] == 0


def test_how_many_items_are_taken_does_not_change_the_average_queries(kaggle, tmp_path):
    one, other = (
        run(tmp_path / str(per_class), "fsdkaggle2018", kaggle, per_class=per_class).result for per_class in (1, 2)
    )
    assert key_of_queries(tmp_path / "1") == key_of_queries(tmp_path / "2")
    assert len(queries()) == 6
    assert other["n"] == 2 * one["n"]


def test_a_file_that_was_repaired_is_scored_by_the_same_command(kaggle, tmp_path):
    whole = run(tmp_path / "whole", "fsdkaggle2018", kaggle, per_class=2, query="oracle").result
    listed = items.read_list(tmp_path / "whole/R.mixtures.csv")
    broken = kaggle / listed[0].source
    content = broken.read_bytes()
    fields: dict[str, Any] = {"query": "oracle", "mixtures": tmp_path / "whole/R.mixtures.csv", "per_class": 2}
    broken.write_text("no audio")
    less = run(tmp_path / "repaired", "fsdkaggle2018", kaggle, **fields).result
    assert less["n"] < whole["n"] == 12
    broken.write_bytes(content)
    repaired = run(tmp_path / "repaired", "fsdkaggle2018", kaggle, **fields)
    assert repaired.result | {"settings": None} == whole | {"settings": None}
    again, done = evaluate.evaluate(repaired.request)
    assert again == repaired.result
    assert done.items == 0


def test_a_class_without_training_clips_is_named_and_counted(kaggle, tmp_path):
    table = kaggle / "FSDKaggle2018.meta/train_post_competition.csv"
    table.write_text("".join(line for line in table.open() if ",Gong," not in line))
    result = run(tmp_path, "fsdkaggle2018", kaggle, per_class=2).result
    names = {name: why for name, why in result["left_out"]["names"].items() if "training source" in why}
    assert {name.split(":")[0] for name in names} == {"Gong, 0", "Gong, 1"}
    assert result["left_out"]["items"] == len(names) == 2
    assert "Gong" not in result["per_class"]
    assert result["left_out"]["classes"] == ["Gong"]
    assert result["n"] == 10


def test_a_label_that_is_no_class_is_named_and_counted(data_dir, tmp_path):
    folder = shutil.copytree(data_dir / FOLDERS["fsd50k"], tmp_path / "fsd50k", copy_function=shutil.copyfile)
    table = folder / "FSD50K.ground_truth/eval.csv"
    table.write_text(table.read_text().replace("/m/01hsr_", "/m/0bm0k"))  # Sneeze becomes Crash cymbal
    result = run(tmp_path, "fsd50k", folder, per_class=2, query="label").result
    assert {name.split(":")[0] for name in result["left_out"]["names"]} == {"Sneeze, 0", "Sneeze, 1"}
    assert all("Crash cymbal" in why for why in result["left_out"]["names"].values())
    assert result["left_out"]["items"] == 2
    assert result["n"] == 10


def test_other_anchors_make_other_queries(esc10, tmp_path, monkeypatch):
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    networks = evaluate.load_model("tiny", 8).model.networks
    for folder, moved in (("one", 0), ("other", 16_000)):
        for split in ("train", "validation"):
            clips = dataset.Clips(esc10, split)
            mined = mining.mine(clips, networks)
            start = (mined.start + moved) % 32_000 if split == "train" else mined.start
            dataclasses.replace(mined, start=start).save(anchors_path(tmp_path / folder, split), clips)
    one, other = (
        run(tmp_path / folder, "audioset", esc10, per_class=1, anchors=tmp_path / folder).result
        for folder in ("one", "other")
    )
    assert len({path.parent for path in queries()}) == 2
    assert one["settings"]["mixtures"] == other["settings"]["mixtures"]
    assert one["mean"] != other["mean"]


def test_labels_asked_for_under_another_threshold_are_not_gone_on_with(data_dir, tmp_path, monkeypatch):
    asked = functools.partial(run, tmp_path, "fsdkaggle2018", data_dir / "fsdkaggle2018_mini", per_class=1)
    asked(query="label")
    monkeypatch.setattr(targets, "EXPECTED", 0.2)
    with pytest.raises(ValueError, match=r"of a run with another least \(\[0\.03, 0\.01\], now \[0\.2, 0\.01\]\)"):
        asked(query="label")
    asked(query="average", overwrite=True)
    monkeypatch.setattr(targets, "EXPECTED", 0.3)
    asked(query="average")
