"""The scripts of benchmarks/: the synthetic AudioSet is what it says, and the sums are right."""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from uss_jax import audio, audioset
from uss_jax.dataset import Clips

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import cost  # noqa: E402
import synthetic_audioset as synthetic  # noqa: E402


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_and_stops_do_not_change_a_synthetic_audioset(tmp_path: Path) -> None:
    assert synthetic.write(tmp_path / "one", 60, seconds=2.0, workers=1) == 60
    assert synthetic.write(tmp_path / "two", 60, seconds=2.0, workers=2) == 60
    whole = content(tmp_path / "one")
    assert content(tmp_path / "two") == whole
    removed = sorted((tmp_path / "two" / "audios").rglob("*.flac"))[::20]
    for path in removed:
        path.unlink()
    assert synthetic.write(tmp_path / "two", 60, seconds=2.0, workers=1) == len(removed)
    assert content(tmp_path / "two") == whole
    synthetic.write(tmp_path / "other", 60, seconds=2.0, workers=1, seed=1)
    assert not set(content(tmp_path / "other")) & {name for name in whole if name.endswith(".flac")}


def test_tables_are_as_audioset_has_them(tmp_path: Path) -> None:
    clips = synthetic.plan(600, seed=0)
    synthetic.write_tables(tmp_path, clips, seconds=10.0)
    table = (tmp_path / "metadata" / "unbalanced_train_segments.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 3 + 576
    assert table[2] == "# YTID, start_seconds, end_seconds, positive_labels"
    for line, clip in zip(table[3:], (clip for clip in clips if clip.split.startswith("unbalanced")), strict=True):
        ytid, start, end, labels = next(csv.reader([line], skipinitialspace=True))
        assert (ytid, float(end) - float(start)) == (clip.ytid, 10.0)
        assert set(audioset.parse_labels(labels)) == set(clip.labels)


def test_labels_are_long_tailed_and_every_class_sounds() -> None:
    clips = synthetic.plan(20_000, seed=0)
    assert len({clip.ytid for clip in clips}) == 20_000
    assert any(clip.ytid.startswith("-") for clip in clips)
    counts = np.array([len(clip.labels) for clip in clips])
    assert 2.6 < counts.mean() < 2.8
    assert (counts.min(), counts.max()) == (1, 4)
    assert all(len(set(clip.labels)) == len(clip.labels) for clip in clips)
    sound = [clip for clip in clips if not clip.flaw]
    assert {label for clip in sound for label in clip.labels} == set(range(audioset.CLASS_COUNT))
    sizes = np.sort(np.bincount([label for clip in clips for label in clip.labels]))[::-1]
    assert sizes[0] > 0.3 * len(clips)
    assert sizes[0] > 100 * np.median(sizes)
    assert {clip.flaw for clip in clips} == {"", *synthetic.FLAW_SHARES}
    assert 0.007 < sum(clip.flaw != "" for clip in clips) / len(clips) < 0.013
    assert {clip.folder.rsplit("part", 1)[-1] for clip in clips if "_part" in clip.folder} == {"00", "01", "02", "03"}


@pytest.mark.parametrize("kind", range(4))
def test_a_class_sounds_the_same_at_every_rate_and_unlike_others(kind: int) -> None:
    low = synthetic.class_sound(200 + kind, 16_000).astype(float)
    high = synthetic.class_sound(200 + kind, 32_000).astype(float)
    assert np.corrcoef(low, high[::2])[0, 1] > 0.999
    other = synthetic.class_sound(240 + kind, 16_000).astype(float)
    assert abs(np.corrcoef(low, other)[0, 1]) < 0.3


def test_flawed_clips_are_as_flawed_as_they_say(tmp_path: Path) -> None:
    def clip(flaw: str) -> synthetic.SyntheticClip:
        return synthetic.SyntheticClip(7, flaw.ljust(11, "_"), "eval_segments", "eval_segments", (0, 5), flaw)

    clips = [clip(flaw) for flaw in ("", *synthetic.FLAW_SHARES)]
    assert synthetic.write_clips(tmp_path, clips, 10.0, seed=0) == 5
    path = {one.flaw: tmp_path / "audios" / "eval_segments" / f"Y{one.ytid}.flac" for one in clips}
    whole = audio.read_mono(path[""], 32_000)
    assert len(whole) in (320_000, 320_640)
    loud = np.sqrt(np.mean(whole[:320_000].reshape(100, -1) ** 2, axis=1)) > 0.005
    assert 10 <= loud.sum() <= 80  # two sounds of 1 to 4 s, and faint noise
    assert not path["missing"].exists()
    assert not audio.read_mono(path["silent"], 32_000).any()
    assert len(audio.read_mono(path["short"], 32_000)) == 96_000
    assert path["truncated"].stat().st_size < 0.4 * path[""].stat().st_size
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path["garbage"])


def test_a_third_of_the_clips_are_longer() -> None:
    clips = [synthetic.SyntheticClip(number, "", "", "", (0,), "") for number in range(60)]
    lengths = [len(samples) / rate for samples, rate in (synthetic.clip_samples(clip, 10.0, seed=0) for clip in clips)]
    assert set(lengths) == {10.0, 10.02}
    assert 10 <= lengths.count(10.02) <= 30


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--clips=10: .* at least 50"):
        synthetic.plan(10, seed=0)


def test_cost_of_a_run() -> None:
    args = argparse.Namespace(
        seconds_per_step=0.36,
        steps=1_000_000,
        devices=8,
        batch_per_device=16,
        price_per_device_hour=2.5,
        clips=2_000_000,
        clip_seconds=10.0,
        store_share=0.2,
        prepare_clips_per_second=100.0,
        mining_clips_per_second=50.0,
    )
    found = {quantity.name: quantity for quantity in cost.report(args)}
    expected = {
        "disk, clips": 1280.0,
        "disk, anchors": 256.0,
        "preparing": 2e6 / 100 / 3600,
        "mining": 2e6 / 400 / 3600,
        "training": 100.0,
        "reading": 128 * 128e3 / 0.36 / 1e6,
        "price": (100.0 + 2e6 / 400 / 3600) * 8 * 2.5,
    }
    assert {name: quantity.value for name, quantity in found.items()} == pytest.approx(expected)
    assert str(found["training"]).split() == [
        "training",
        "100.00",
        "h",
        "=",
        "1,000,000",
        "steps",
        "×",
        "0.36",
        "s",
        "/",
        "3600",
    ]
    args.store_share = args.prepare_clips_per_second = args.mining_clips_per_second = None
    short = [quantity.name for quantity in cost.report(args)]
    assert short == ["disk, clips", "training", "reading", "price"]


def test_a_step_by_an_assumed_share_of_the_peak() -> None:
    found = cost.step_seconds(gflop_per_item=300.0, batch_per_device=16, peak_tflops=480.0, share_of_peak=0.2)
    assert found.value == pytest.approx(4.8e12 / 96e12)
    assert found.formula == "300 GFLOP × 16 / (480 TFLOP/s × 0.2)"


def test_largest_batch_that_fits() -> None:
    pytest.importorskip("psutil")
    from train_step import largest_batch

    def memory(batch: int) -> float:
        return 1.5 + 0.5 * batch

    assert largest_batch(memory, limit_gib=10.0) == (16, {1: 2.0, 2: 2.5, 4: 3.5, 8: 5.5, 16: 9.5, 32: 17.5})
    assert largest_batch(memory, limit_gib=9.5, first=8)[0] == 16
    assert largest_batch(memory, limit_gib=5.0, first=8) == (0, {8: 5.5})


def test_stages_of_the_roofline_make_up_the_step() -> None:
    """Every product of a training step has one stage, and a level's gradient the level's; floors are by type."""
    import jax
    from roofline import LEVELS, count, stage_of
    from training import CONFIG, TAGGER, load_config, make_training, random_batch

    from uss_jax import parallel
    from uss_jax.training import speed

    state, step = make_training(
        load_config(CONFIG, "bfloat16", False), TAGGER | {"widths": [8, 8], "embedding_size": 8}
    )
    arguments = state, jax.eval_shape(lambda: parallel.shard(random_batch(jax.local_device_count())))
    products = list(speed.products(parallel.jaxpr_of_step(step, *arguments)))
    peaks = {"float32": 1e12, "bfloat16": 4e12}
    counts = count(products, peaks, bandwidth=1e30)
    assert sum(of.flops for of in counts.values()) == sum(product.flops for product in products)
    levels = {f"{way}{level}" for way in ("encoder", "decoder") for level in range(LEVELS)}
    assert set(counts) == levels | {"middle", "tagger", "rest"}
    forward = [product for product in products if "transpose" not in product.modules]
    for stage in levels:
        ahead = sum(product.flops for product in forward if stage_of(product.modules) == stage)
        assert counts[stage].flops == pytest.approx(3 * ahead, rel=0.01), stage
        assert counts[stage].floor == pytest.approx(counts[stage].flops / 4e12, rel=0.01), stage
    assert counts["tagger"].floor == pytest.approx(counts["tagger"].flops / 1e12)


def test_configurations_that_import_one_another(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    program = (
        f"import sys; sys.path[0] = {str(BENCHMARKS)!r}; import training; from pathlib import Path\n"
        "print(training.load_config(Path(sys.argv[1]), 'bfloat16', True).query.kind)"
    )
    config = BENCHMARKS.parent / "configs" / "resunet30_latent.py"
    assert subprocess.check_output([sys.executable, "-c", program, config], text=True, cwd=tmp_path) == "latent\n"


def test_memory_of_the_index_of_a_clip() -> None:
    pytest.importorskip("psutil")
    import index_memory

    clips = 20_000
    found = index_memory.measure(clips, draws=200)
    for of in found.values():
        of_a_clip = {name: 1e6 * of[name] / clips for name in ("read_mb", "drawn_mb", "peak_mb", "pickle_mb")}
        assert 50 < of_a_clip["read_mb"] < 250  # of two million 65 and 100, for pages weigh less there
        assert of_a_clip["read_mb"] <= of_a_clip["drawn_mb"] < 300
        assert of_a_clip["read_mb"] <= of_a_clip["peak_mb"] + 10
        assert of_a_clip["pickle_mb"] < 50


def test_loaders_read_the_same_clips(tones: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("psutil")
    import loader

    clips = Clips(tones.dataset, "train")
    chosen = loader.choose_clips(clips, 6, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == 6
    assert sorted(chosen) == chosen.tolist()
    labels = {int(label) for clip in chosen for label in clips.labels(int(clip))}
    assert labels == set(clips.label_pairs()[1].tolist())  # one clip of each class at least
    anchors = loader.random_anchors(clips, chosen, seed=0)
    assert set(anchors.clip.tolist()) == set(chosen.tolist())
    with h5py.File(loader.write_hdf5(tmp_path, clips, chosen)) as index:
        assert index["target"].shape == (6, len(labels))
        assert index["target"][:].sum() == len(anchors.clip)
        assert index["index_in_hdf5"][:].tolist() == list(range(6))
        waveforms = Path(index["hdf5_path"][0].decode())
    with h5py.File(waveforms) as file:
        for row, clip in enumerate(chosen):
            stored = file["waveform"][row] / 32767.0
            assert stored.shape == (320_000,)
            expected = audio.fit_length(clips.audio(int(clip)), 320_000)
            np.testing.assert_allclose(stored, expected, atol=2e-5)


def test_rows_beside_the_reference() -> None:
    pytest.importorskip("psutil")
    import against_reference

    found = against_reference.result("levels", 4.0, ours=[2.0, 1.0, 4.0], theirs=[9.0, 7.0, 8.0], error=2e-6)
    assert (found["median_ours"], found["median_theirs"], found["ratio"]) == (2.0, 8.0, 4.0)
    line = against_reference.line(found)
    assert line.split() == ["levels", "2", "(1–4)", "8", "(7–9)", "4.00", "4.0", "2.0e-06"]
    memory = against_reference.result("memory", 2.0, ours=[100.0], theirs=[150.0], error=None)
    assert against_reference.line(memory).split() == ["memory", "100", "(100–100)", "150", "(150–150)", "1.50", "2.0"]
    assert len(line) == len(against_reference.HEADING)
    assert against_reference.failures([found, memory]) == []
    wrong = [found | {"row": "cnn14-1", "error": 3e-3}, found | {"row": "anchors", "error": float("nan")}]
    phrases = against_reference.failures([found, *wrong])
    assert phrases == [
        "cnn14-1 differs from the reference by 3.0e-03, at most 1e-04",
        "anchors differs from the reference by nan, at most 1e-04",
    ]


def test_errors_beside_the_reference() -> None:
    pytest.importorskip("psutil")
    from against_reference import relative_error

    stem = np.float32([3.0, 4.0])
    assert relative_error({"a": stem, "b": 2 * stem}, {"a": stem, "b": stem}) == pytest.approx(1.0)
    assert relative_error({"a": stem}, {"a": stem}) == 0.0
    starts = np.arange(4)
    assert relative_error({"starts": starts}, {"starts": np.where(starts == 2, 5, starts)}) == 0.25
    for ours, theirs in (({}, {}), ({"a": stem}, {}), ({"a": stem}, {"b": stem}), ({"a": stem}, {"a": stem[:1]})):
        with pytest.raises(ValueError, match="the outputs are other ones"):
            relative_error(ours, theirs)
