"""AudioSet's own tables, and the folders and names in which its recordings come."""

import numpy as np
import pytest

from uss_jax import audio, audioset_tables, storage, weak_labels
from uss_jax.dataset import Clips

RATE_HZ = 32_000
HEADER = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
DOG, BARK, SPEECH, RAIN = "/m/0bt9lr", "/m/05tny_", "/m/09x0r", "/m/06mb1"


def table(folder, stem, *lines):
    path = folder / f"{stem}.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE_HZ)).astype(np.float32)


def test_a_table_is_read_as_it_is_published(tmp_path):
    path = table(
        tmp_path,
        "balanced_train_segments",
        f'--PJHxphWEs, 30.000, 40.000, "{SPEECH},{DOG}"',
        f'_#b_30-xyz9, 0.000, 8.500, "{BARK}"',
    )
    touch(tmp_path / "--PJHxphWEs.wav")
    clips = weak_labels.collect([tmp_path], [path])["train"]
    assert [clip.clip_id for clip in clips] == ["--PJHxphWEs", "_#b_30-xyz9"]
    assert [clip.labels for clip in clips] == [(0, 74), (75,)]
    assert [clip.seconds for clip in clips] == [10.0, 8.5]
    assert [clip.name for clip in clips] == ["--PJHxphWEs.wav", ""]


@pytest.mark.parametrize(
    "line",
    [
        "abc, 0.000, 10.000",
        "abc, 0.000, 10.000, /m/0bt9lr, /m/05tny_",  # a second label outside of quotes is not dropped
        'abc, zero, 10.000, "/m/0bt9lr"',
        'abc, 10.000, 10.000, "/m/0bt9lr"',
        'abc, nan, 10.000, "/m/0bt9lr"',
        'abc, 0.000, inf, "/m/0bt9lr"',
        ', 0.000, 10.000, "/m/0bt9lr"',
        'abc, 0.000, 10.000, "/m/nothing"',
        'abc, 0.000, 10.000, ""',
    ],
)
def test_a_wrong_line_is_named(tmp_path, line):
    path = table(tmp_path, "eval_segments", f'xyz, 0.000, 10.000, "{DOG}"', line)
    with pytest.raises(ValueError, match=r"eval_segments\.csv: line 5: "):
        audioset_tables.read_segments(path)


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("balanced_train_segments", "train"),
        ("unbalanced_train_segments", "unbalanced"),
        ("unbalanced_train_segments_part07", "unbalanced"),
        ("eval_segments", "validation"),
        ("mine", "train"),
    ],
)
def test_the_name_of_a_table_is_its_split(tmp_path, stem, split):
    path = table(tmp_path, stem, f'abc, 0.000, 10.000, "{DOG}"')
    touch(tmp_path / "abc.wav")
    assert list(weak_labels.collect([tmp_path], [path])) == [split]


@pytest.mark.parametrize(
    "name",
    [
        "abc.wav",
        "abc.flac",
        "Yabc.WAV",
        "abc_30.mp3",
        "abc_30000.ogg",
        "abc_30_40.wav",
        "abc_30.000_40.000.wav",
        "abc_30000_40000.flac",
    ],
)
def test_files_are_found_under_the_names_of_several_tools(tmp_path, name):
    touch(tmp_path / name)
    touch(tmp_path / "abcd.wav")
    path = table(tmp_path, "eval_segments", f'abc, 30.000, 40.000, "{DOG}"')
    assert weak_labels.collect([tmp_path], [path])["validation"][0].path == tmp_path / name


@pytest.mark.parametrize("name", ["abc_20_30.wav", "abc_300.wav", "ab.wav", "abc.txt", "YYabc.wav"])
def test_a_file_of_another_segment_is_none(tmp_path, name):
    touch(tmp_path / name)
    touch(tmp_path / "xyz.wav")
    path = table(tmp_path, "eval_segments", *(f'{of}, 30.000, 40.000, "{DOG}"' for of in ("abc", "xyz")))
    assert [clip.name for clip in weak_labels.collect([tmp_path], [path])["validation"]] == ["", "xyz.wav"]


@pytest.mark.parametrize(
    ("stem", "folder"),
    [
        ("balanced_train_segments", "."),
        ("balanced_train_segments", "balanced_train_segments"),
        ("eval_segments", "eval_segments"),
        ("unbalanced_train_segments", "unbalanced_train_segments"),
        ("unbalanced_train_segments", "unbalanced_train_segments_part03"),
        ("unbalanced_train_segments", "unbalanced_train_segments/unbalanced_train_segments_part40"),
        ("unbalanced_train_segments_part03", "unbalanced_train_segments_part03"),
        ("unbalanced_train_segments_part03", "unbalanced_train_segments/unbalanced_train_segments_part03"),
        ("unbalanced_train_segments_part03", "unbalanced_train_segments"),
    ],
)
def test_files_are_found_in_the_folders_of_their_table(tmp_path, stem, folder):
    touch(tmp_path / folder / "Yabc.wav")
    for other in ("other", "balanced_train_segments", "eval_segments", "unbalanced_train_segments"):
        if other != folder:
            touch(tmp_path / other / "Yelse.wav")
    path = table(tmp_path, stem, f'abc, 30.000, 40.000, "{DOG}"', f'gone, 0.000, 10.000, "{DOG}"')
    (clips,) = weak_labels.collect([tmp_path], [path]).values()
    assert clips[0].path == tmp_path / folder / "Yabc.wav"
    assert clips[1].name == ""


def test_the_set_that_a_table_is_of_goes_before_other_folders(tmp_path):
    for folder in (".", "eval_segments"):
        touch(tmp_path / folder / "abc.wav")
    path = table(tmp_path, "eval_segments", f'abc, 30.000, 40.000, "{DOG}"')
    assert weak_labels.collect([tmp_path], [path])["validation"][0].folder == tmp_path / "eval_segments"


def test_tables_that_share_a_folder_list_it_once(tmp_path, monkeypatch):
    touch(tmp_path / "Yabc.wav")
    listed = []
    scandir = audioset_tables.os.scandir
    monkeypatch.setattr(audioset_tables.os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    touch(tmp_path / "xyz.wav")
    tables = [
        table(tmp_path, stem, f'{name}, 30.000, 40.000, "{DOG}"')
        for stem, name in (("eval_segments", "abc"), ("mine", "xyz"))
    ]
    assert len(weak_labels.collect([tmp_path], tables)) == 2
    assert listed == [tmp_path]


def test_several_segments_of_a_recording_are_told_by_their_starts(tmp_path):
    for name in ("abc.wav", "abc_30.wav", "abc_120000_130000.wav"):
        touch(tmp_path / name)
    tables = [
        table(tmp_path, "eval_segments", f'abc, 30.000, 40.000, "{DOG}"'),
        table(tmp_path, "mine", f'abc, 120.000, 130.000, "{RAIN}"', f'abc, 0.500, 9.000, "{RAIN}"'),
    ]
    splits = weak_labels.collect([tmp_path], tables)
    clips = splits["validation"] + splits["train"]
    assert [(clip.clip_id, clip.name) for clip in clips] == [
        ("abc_30", "abc_30.wav"),
        ("abc_120", "abc_120000_130000.wav"),
        ("abc_0.5", ""),
    ]


def test_one_segment_twice_is_refused(tmp_path):
    lines = [f'abc, 30.000, 40.000, "{DOG}"', f'abc, 30.000, 40.000, "{RAIN}"']
    with pytest.raises(ValueError, match="two clips are called 'abc_30'"):
        weak_labels.collect([tmp_path], [table(tmp_path, "mine", *lines)])


def test_tables_may_have_a_folder_each_and_parts_make_one_split(tmp_path):
    tables = []
    for part in ("00", "01"):
        stem = f"unbalanced_train_segments_part{part}"
        touch(tmp_path / part / f"abc{part}.wav")
        tables.append(table(tmp_path, stem, f'abc{part}, 30.000, 40.000, "{DOG}"'))
    clips = weak_labels.collect([tmp_path / "00", tmp_path / "01"], tables)["unbalanced"]
    assert [clip.path for clip in clips] == [tmp_path / "00" / "abc00.wav", tmp_path / "01" / "abc01.wav"]


def test_a_table_of_file_names_may_stand_beside_audiosets_own(tmp_path):
    (tmp_path / "esc").mkdir()
    (tmp_path / "esc" / "labels.csv").write_text("filename,mids,fold\nabc.wav,Dog,1\n")
    own = table(tmp_path, "balanced_train_segments", f'abc, 30.000, 40.000, "{DOG}"')
    clips = weak_labels.collect([tmp_path, tmp_path], [own, tmp_path / "esc" / "labels.csv"])["train"]
    assert [clip.clip_id for clip in clips] == ["abc", "esc/abc.wav"]


def test_audiosets_tables_hold_nothing_out_and_need_a_folder(tmp_path):
    path = table(tmp_path, "eval_segments", f'abc, 30.000, 40.000, "{DOG}"')
    with pytest.raises(ValueError, match=r"eval_segments\.csv: AudioSet's tables have splits of their own"):
        weak_labels.collect([tmp_path], [path], held_out="fold=4")
    with pytest.raises(ValueError, match="gone: no such folder"):
        weak_labels.collect([tmp_path / "gone"], [path])


def test_what_is_missing_broken_silent_or_short_is_listed_and_the_rest_is_stored(tmp_path):
    root = tmp_path / "balanced_train_segments"
    root.mkdir()
    audio.write(root / "Ygood.wav", noise(10), RATE_HZ)
    audio.write(root / "Yshort.wav", noise(9.4), RATE_HZ)
    audio.write(root / "Yenough.wav", noise(9.6), RATE_HZ)
    audio.write(root / "Ysilent.wav", 0 * noise(10), RATE_HZ)
    audio.write(root / "Yfaint.wav", 4e-5 * np.sign(noise(10)), RATE_HZ)
    audio.write(root / "Ytiny.wav", noise(0.09), RATE_HZ)
    audio.write(root / "Yvideo.wav", noise(11.1), RATE_HZ)
    audio.write(root / "Ylonger.wav", noise(10.9), RATE_HZ)
    (root / "Ybroken.wav").write_bytes((root / "Ygood.wav").read_bytes()[:20])
    ids = ("good", "missing", "short", "enough", "silent", "faint", "tiny", "broken", "video", "longer")
    path = table(tmp_path, "balanced_train_segments", *(f'{name}, 30.000, 40.000, "{DOG}"' for name in ids))
    folder = storage.store("some", weak_labels.collect([tmp_path], [path]), tmp_path / "out")
    clips = Clips(folder, "train")
    assert clips.clip_ids.tolist() == ["good", "short", "enough", "faint", "longer"]
    assert clips.samples.tolist() == [320_000, 300_800, 307_200, 320_000, 348_800]
    assert [(clip.clip_id, clip.kind, clip.kept) for clip in storage.left_out(folder, "train")] == [
        ("missing", "missing", False),
        ("short", "short", True),
        ("silent", "silent", False),
        ("tiny", "too short", False),
        ("broken", "broken", False),
        ("video", "too long", False),
    ]
    lines = (folder / "left_out-train.csv").read_text().splitlines()
    assert lines[0] == "clip_id,reason,kept"
    assert lines[2] == "short,short: 9.40 s of 10.00 s,1"


def test_where_no_clip_of_a_split_has_a_file_it_is_told_before_anything_is_stored(tmp_path):
    touch(tmp_path / "eval_segments" / "xyz.wav")
    tables = [
        table(tmp_path, "unbalanced_train_segments", f'abc, 30.000, 40.000, "{DOG}"'),
        table(tmp_path, "eval_segments", f'xyz, 30.000, 40.000, "{DOG}"'),
    ]
    with pytest.raises(
        ValueError, match=r"unbalanced: none of 1 clips has a file in .*; the first: abc .*\.flac .*convert m4a"
    ):
        weak_labels.collect([tmp_path], tables)
