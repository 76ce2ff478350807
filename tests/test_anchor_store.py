"""A dataset of anchors alone reads as the whole one does."""

import subprocess
import sys

import numpy as np
import pytest

from uss_jax import anchor_store, audio, cli, dataset, storage
from uss_jax.anchors import Anchors, anchors_path, load_anchors
from uss_jax.dataset import Clips
from uss_jax.mixtures import MixtureSource

SEGMENT = 16_000  # half a second: clips of 2.5 to 4 s have room for anchors apart


def at_random(clips, seed) -> Anchors:
    """An anchor anywhere in each clip, for each of its labels."""
    clip, _ = clips.label_pairs()
    room = clips.samples[clip] - SEGMENT
    start = (np.random.default_rng(seed).random(len(clip)) * room).astype(np.int32)
    return Anchors.of_pairs(clips, start, np.linspace(0, 1, len(clip)))


@pytest.fixture(params=[0, 4000])
def stored(tones, tmp_path, request):
    """Whole dataset and store, each as (folder of the dataset, folder of the anchors), and the margin in samples."""
    for seed, split in enumerate(dataset.splits(tones.dataset)):
        clips = Clips(tones.dataset, split)
        at_random(clips, seed).save(anchors_path(tmp_path, split), clips)
    made = anchor_store.store(tones.dataset, ["train", "validation"], tmp_path, length=SEGMENT, margin=request.param)
    return (tones.dataset, tmp_path), (tmp_path / "store", tmp_path / "store"), request.param, made


def opened(where, split):
    data, folder = where
    clips = Clips(data, split)
    return clips, load_anchors(folder, clips)


@pytest.mark.parametrize(
    ("start", "margin", "expected"),
    [
        ([50], 0, [(50, 60)]),
        ([50, 20], 0, [(20, 30), (50, 60)]),
        ([50, 55, 50], 0, [(50, 65)]),
        ([50, 60], 0, [(50, 70)]),  # they touch
        ([50, 61], 0, [(50, 60), (61, 71)]),
        ([0, 90, 30], 5, [(0, 15), (25, 45), (85, 100)]),
        ([0, 20], 5, [(0, 35)]),
        ([0], 200, [(0, 100)]),
    ],
)
def test_regions_are_the_union_of_the_anchors(start, margin, expected):
    first, end = anchor_store.regions(np.array(start), 10, margin, samples=100)
    assert list(zip(first, end, strict=True)) == expected
    kept = np.concatenate([np.arange(*region) for region in expected])
    for at, now in zip(start, anchor_store.moved(np.array(start), first, end), strict=True):
        np.testing.assert_array_equal(kept[now : now + 10], np.arange(at, at + 10))


def test_a_clip_shorter_than_an_anchor_is_kept_whole():
    first, end = anchor_store.regions(np.array([0, 0]), 10, 0, samples=7)
    assert (first.tolist(), end.tolist()) == ([0], [7])


def test_every_anchor_of_a_store_is_the_same_to_the_bit(stored):
    whole, store, margin, made = stored
    kept_samples = all_samples = 0
    for split in ("train", "validation"):
        clips, mined = opened(whole, split)
        kept, moved = opened(store, split)
        assert kept.clip_ids[:].tolist() == clips.clip_ids[:].tolist()
        for name in ("clip", "label", "confidence"):
            np.testing.assert_array_equal(getattr(moved, name), getattr(mined, name))
        for anchor, clip in enumerate(mined.clip):
            before = min(margin, mined.start[anchor])
            piece = slice(mined.start[anchor] - before, mined.start[anchor] + SEGMENT + margin)
            there = slice(moved.start[anchor] - before, moved.start[anchor] + SEGMENT + margin)
            np.testing.assert_array_equal(kept.audio(int(clip))[there], clips.audio(int(clip))[piece])
        kept_samples += int(kept.samples.sum())
        all_samples += int(clips.samples.sum())
    assert made.share == kept_samples / all_samples < 0.8


@pytest.mark.parametrize("split", ["train", "train+validation"])
def test_mixtures_of_a_store_are_those_of_the_whole_dataset(stored, split):
    whole, store, margin, _ = stored
    options = {"seed": 3, "length": 40, "segment_samples": SEGMENT, "source_count": 2, "class_power": 0.0}
    options |= {"speed_range": 1.0, "label_query_share": 0.5}
    options |= {"shift_seconds": margin / audio.SAMPLE_RATE_HZ, "level_range_db": 3.0, "gain_range_db": 3.0}
    sources = [MixtureSource(*opened(where, split), **options) for where in (whole, store)]
    for ours, expected in zip(*(source.items(range(40)) for source in sources), strict=True):
        for name, array in expected.items():
            np.testing.assert_array_equal(ours[name], array)


def test_the_command_mines_and_stores(tones, tmp_path, capsys):
    command = ["anchors", str(tones.dataset), "--model", "tiny", "--out", str(tmp_path), "--splits", "validation"]
    assert cli.main([*command, "--store", "--margin", "0.1"]) == 0
    assert "of the samples in" in capsys.readouterr().out
    clips, mined = opened((tones.dataset, tmp_path), "validation")
    kept, moved = opened((tmp_path / "store", tmp_path / "store"), "validation")
    for anchor, clip in enumerate(map(int, mined.clip)):
        piece, there = (slice(start, start + 64_000) for start in (mined.start[anchor], moved.start[anchor]))
        np.testing.assert_array_equal(kept.audio(clip)[there], clips.audio(clip)[piece])


def test_a_store_goes_on_where_it_was_stopped(tones, tmp_path, monkeypatch):
    clips = Clips(tones.dataset, "train")
    at_random(clips, 0).save(anchors_path(tmp_path, "train"), clips)
    with monkeypatch.context() as patch:
        patch.setattr(anchor_store.Excerpts, "moved", None)
        with pytest.raises(TypeError):
            anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT)
    made = anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT)
    written = {path: path.stat().st_mtime_ns for path in made.folder.iterdir()}
    assert len(load_anchors(tmp_path / "store", Clips(made.folder, "train")).start) == len(clips.label_pairs()[1])
    assert anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT) == made
    assert {path: path.stat().st_mtime_ns for path in made.folder.iterdir()} == written


def test_a_store_of_other_anchors_is_replaced_only_if_asked(tones, tmp_path):
    clips = Clips(tones.dataset, "train")
    for seed in (0, 1):
        at_random(clips, seed).save(anchors_path(tmp_path, "train"), clips)
        if seed:
            with pytest.raises(ValueError, match="no store of these anchors"):
                anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT)
        made = anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT, overwrite=bool(seed))
    with pytest.raises(ValueError, match="no store of these anchors"):
        anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT, margin=1)
    start = int(at_random(clips, 1).start[0])
    ours = Clips(made.folder, "train").audio(0)[
        int(load_anchors(tmp_path / "store", Clips(made.folder, "train")).start[0]) :
    ]
    np.testing.assert_array_equal(ours[:SEGMENT], clips.audio(0)[start : start + SEGMENT])


def test_a_clip_that_cannot_be_read_stops_the_store_and_what_is_stored_stays(tones, tmp_path, monkeypatch):
    clips = Clips(tones.dataset, "train")
    at_random(clips, 0).save(anchors_path(tmp_path, "train"), clips)
    monkeypatch.setattr(storage, "shard_ranges", lambda count: [range(i, i + 3) for i in range(0, count, 3)])
    read, asked = Clips.audio, []

    def broken(self, clip):
        asked.append(clip)
        if clip == 4 and len(asked) == 5:
            raise ValueError("train-00001.array_record: record 1 is broken")
        return read(self, clip)

    monkeypatch.setattr(Clips, "audio", broken)
    with pytest.raises(OSError, match=r"train-00001\.array_record: record 1 is broken"):
        anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT)
    assert asked == [0, 1, 2, 3, 4]
    made = anchor_store.store(tones.dataset, ["train"], tmp_path, length=SEGMENT)
    assert asked[5:] == list(range(3, 12))
    assert Clips(made.folder, "train").clip_ids.tolist() == clips.clip_ids.tolist()


def test_a_margin_that_training_would_exceed_is_refused(stored):
    (whole, out), (store, _), margin, made = stored
    for folder in (store, made.folder, made.folder.parent):
        assert anchor_store.is_store(folder)
        anchor_store.check_stored(folder, SEGMENT, margin)
        with pytest.raises(
            ValueError, match=rf"store: holds {margin / 32000:g} s .*, and 0\.501 s are .*--margin 0\.501"
        ):
            anchor_store.check_stored(folder, SEGMENT, 16_001)
    for folder in (whole, out, out / "nothing"):
        assert not anchor_store.is_store(folder)
        anchor_store.check_stored(folder, SEGMENT, 16_001)


def test_training_reads_no_store_that_has_too_little(stored):
    """tiny's recipe moves anchors by up to 0.5 s and plays 0.55 s in half a second: 0.55 s on either side."""
    from configs import tiny_separator, tiny_tagger
    from uss_jax.training.tasks import make_task

    _, (store, folder), *_ = stored
    config = tiny_separator.get_config()
    config.data.dataset, config.data.anchors, config.tagger_model = str(store), str(folder), "tiny"
    with pytest.raises(ValueError, match=r"holds anchors of 0\.5 s, and 2 s are asked for"):
        make_task(config, items=8)
    config.data.anchor_seconds = 0.5
    with pytest.raises(ValueError, match=r"0\.55 s are read; store them with --margin 0\.55"):
        make_task(config, items=8)
    tagger = tiny_tagger.get_config()
    tagger.data.dataset = str(store)
    with pytest.raises(ValueError, match="holds anchors alone"):
        make_task(tagger, items=8)


def test_a_store_can_be_told_without_jax():
    program = "import sys; from uss_jax import anchor_store; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
