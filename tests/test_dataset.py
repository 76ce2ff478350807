"""From labelled files to a dataset and back."""

import pickle

import numpy as np
import pytest

from uss_jax import audio, dataset
from uss_jax.dataset import ClipFile, Clips

RATE_HZ = 32_000
DOG, BARK, SPEECH = 74, 75, 0


def noise(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def sound(folder, name, count=1000, seed=0, rate_hz=RATE_HZ, subtype="FLOAT"):
    audio.write(folder / name, noise(count, seed), rate_hz, subtype)
    return folder / name


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# Tables


def test_labels_are_mids_or_names_in_either_column(tmp_path):
    read = dataset.read_labels(
        table(tmp_path, 'filename,mids,labels\na.wav,"/m/0bt9lr,/m/05tny_",Rain\nb.wav,,"Male speech, man speaking"\n'),
        tmp_path,
        prefix="set/",
    )
    assert read == [
        ClipFile("set/a.wav", tmp_path / "a.wav", (DOG, BARK)),
        ClipFile("set/b.wav", tmp_path / "b.wav", (1,)),
    ]


def test_a_byte_order_mark_and_spaces_after_commas_do_no_harm(tmp_path):
    read = dataset.read_labels(table(tmp_path, '\ufefffilename, mids\na.wav, "Dog, Bark"\n'), tmp_path)
    assert read[0].labels == (DOG, BARK)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,mids\na.wav,Dog\n", "no column 'filename'"),
        ("", "no column 'filename'"),
        ("filename,name\na.wav,Dog\n", "line 2 has no labels in a column 'mids' or 'labels'"),
        ("filename,mids\na.wav,Dog\nb.wav,\n", "line 3 has no labels"),
        ("filename,labels\na.wav,Dog\nb.wav,\n", "line 3 has no labels"),
        ("filename,mids\na.wav,Dog\nb.wav,Dgo\n", "line 3: 'Dgo' is not"),
        ("filename,mids\na.wav,Dog\n../b.wav,Dog\n", "line 3: '../b.wav': names a file outside of"),
        ("filename,mids\n/b.wav,Dog\n", "line 2: '/b.wav': names a file outside of"),
        ("filename,mids\na.wav,/m/0bt9lr,/m/05tny_\n", "line 2"),  # a second label outside of quotes is not dropped
        ("mids,filename\nDog\n", "line 2"),
    ],
)
def test_a_wrong_table_is_named_with_the_line(tmp_path, text, says):
    with pytest.raises(ValueError, match=says) as error:
        dataset.read_labels(table(tmp_path, text), tmp_path)
    assert "labels.csv" in str(error.value)


def test_a_missing_table_and_one_that_is_no_text_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.csv: no such file"):
        dataset.read_labels(tmp_path / "gone.csv", tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"filename,mids\n\xff\xfe.wav,Dog\n")
    with pytest.raises(ValueError, match=r"labels\.csv: not a CSV table"):
        dataset.read_labels(tmp_path / "labels.csv", tmp_path)


# Splits

FOLDS = "filename,mids,fold\na.wav,Dog,1\nb.wav,Dog,2\nc.wav,Speech,4\n"


@pytest.mark.parametrize(
    ("held_out", "train", "validation"),
    [("fold=4", "ab", "c"), ("fold=2,4", "a", "bc"), ("fold=14,2", "ac", "b"), (None, "abc", "")],
)
def test_held_out_rows_are_the_validation_split(tmp_path, held_out, train, validation):
    splits = dataset.collect([tmp_path], [table(tmp_path, FOLDS)], held_out=held_out)
    assert [clip.clip_id for clip in splits["train"]] == [f"{name}.wav" for name in train]
    assert [clip.clip_id for clip in splits.get("validation", [])] == [f"{name}.wav" for name in validation]


def test_the_held_out_column_may_be_in_another_table(tmp_path):
    labels = table(tmp_path, "filename,mids\na.wav,Dog\nb.wav,Dog\n")
    meta = table(tmp_path, "filename,take\na.wav,A\nb.wav,B\n", name="meta.csv")
    splits = dataset.collect([tmp_path], [labels], [meta], held_out="take=B")
    assert [clip.clip_id for clip in splits["validation"]] == ["b.wav"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [("fold", "expected COLUMN=VALUE"), ("take=A", "no column 'take'"), ("fold=9", "no row has fold=9")],
)
def test_a_wrong_rule_is_refused(tmp_path, rule, says):
    with pytest.raises(ValueError, match=says):
        dataset.collect([tmp_path], [table(tmp_path, FOLDS)], held_out=rule)


def test_files_of_one_name_in_two_folders_are_two_clips(tmp_path):
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tables.append(table(tmp_path / name, FOLDS))
    splits = dataset.collect([path.parent for path in tables], tables, held_out="fold=4")
    assert [clip.clip_id for clip in splits["validation"]] == ["one/c.wav", "two/c.wav"]
    assert [clip.path for clip in splits["validation"]] == [tmp_path / "one/c.wav", tmp_path / "two/c.wav"]


def test_one_name_twice_is_refused(tmp_path):
    labels = table(tmp_path, "filename,mids\na.wav,Dog\nb.wav,Dog\na.wav,Speech\n")
    with pytest.raises(ValueError, match=r"two clips are called 'a\.wav'"):
        dataset.collect([tmp_path], [labels])


def test_every_folder_needs_a_table(tmp_path):
    with pytest.raises(ValueError, match="2 audio folders need as many"):
        dataset.collect([tmp_path, tmp_path], [table(tmp_path, FOLDS)])


# Storing


def test_clips_come_back_within_half_a_16_bit_step(tmp_path):
    paths = [sound(tmp_path, f"{i}.wav", count=1000 + i, seed=i) for i in range(3)]
    splits = {"train": [ClipFile(path.name, path, (i,)) for i, path in enumerate(paths)]}
    folder, skipped = dataset.prepare("three", splits, tmp_path / "out")
    clips = Clips(folder, "train")
    assert skipped == []
    assert clips.samples.tolist() == [1000, 1001, 1002]
    for i in range(3):
        samples = clips.audio(i)
        assert samples.dtype == np.float32
        assert np.abs(samples - noise(1000 + i, seed=i).clip(-1, 32767 / 32768)).max() <= 0.5 / 32768


def test_16_bit_files_come_back_to_the_bit_and_loud_ones_are_clipped(tmp_path):
    path = sound(tmp_path, "a.wav", subtype="PCM_16")
    audio.write(tmp_path / "loud.wav", np.float32([2.0, -2.0, 0.5]), RATE_HZ)
    loud = ClipFile("loud.wav", tmp_path / "loud.wav", (1,))
    folder, _ = dataset.prepare("two", {"train": [ClipFile("a.wav", path, (0,)), loud]}, tmp_path / "out")
    clips = Clips(folder, "train")
    np.testing.assert_array_equal(clips.audio(0), audio.read(path)[0])
    assert clips.audio(1).tolist() == [32767 / 32768, -1.0, 0.5]


def test_the_index_tells_every_clips_labels_without_its_audio(tones):
    train, validation = Clips(tones.dataset, "train"), Clips(tones.dataset, "validation")
    kinds = ["dog", "rain", "speech", "helicopter"]
    assert train.clip_ids.tolist() == [f"{kind}-{fold}.wav" for kind in kinds for fold in (1, 2, 3)]
    assert validation.clip_ids.tolist() == [f"{kind}-4.wav" for kind in kinds]
    assert validation.labels(0).tolist() == [DOG, BARK]
    assert validation.labels(2).tolist() == [SPEECH]
    pairs, labels = validation.label_pairs()
    assert pairs.tolist() == [0, 0, 1, 2, 3]
    for clip in range(4):
        assert labels[pairs == clip].tolist() == validation.labels(clip).tolist()


def test_clips_are_mono_at_32_khz(tones):
    clips = Clips(tones.dataset, "train")
    np.testing.assert_allclose(clips.samples / RATE_HZ, [2.5, 3.0, 3.5] * 4, atol=1e-3)
    for clip in range(len(clips)):
        expected = audio.read_mono(tones.audio / str(clips.clip_ids[clip]), RATE_HZ)
        assert len(clips.audio(clip)) == clips.samples[clip]
        assert np.abs(clips.audio(clip) - expected).max() <= 0.5 / 32768


def test_clips_pickle_without_their_open_files(tones):
    clips = Clips(tones.dataset, "train")
    expected = clips.audio(3)
    content = pickle.dumps(clips)
    assert b"tensorflow_datasets" not in content
    np.testing.assert_array_equal(pickle.loads(content).audio(3), expected)


def test_unreadable_files_are_counted_and_left_out(tmp_path):
    clips = [ClipFile(name, sound(tmp_path, name), (DOG,)) for name in ("a.wav", "c.wav")]
    (tmp_path / "b.wav").write_text("no recording")
    clips[1:1] = [ClipFile("b.wav", tmp_path / "b.wav", (BARK,)), ClipFile("gone.wav", tmp_path / "gone.wav", (BARK,))]
    folder, skipped = dataset.prepare("some", {"train": clips}, tmp_path / "out")
    assert Clips(folder, "train").clip_ids.tolist() == ["a.wav", "c.wav"]
    assert Clips(folder, "train").label_pairs()[1].tolist() == [DOG, DOG]
    assert [line.split(": ")[0] for line in skipped] == [str(tmp_path / "b.wav"), str(tmp_path / "gone.wav")]


def test_where_no_file_is_readable_the_first_is_named_and_nothing_is_left(tmp_path):
    clips = [ClipFile(name, tmp_path / name, (DOG,)) for name in ("a.wav", "b.wav")]
    with pytest.raises(ValueError, match=r"none of 2 files could be read; the first: .*a\.wav: no such file"):
        dataset.prepare("none", {"train": clips}, tmp_path / "out")
    assert not (tmp_path / "out" / "none").exists()


def test_an_empty_table_makes_no_dataset(tmp_path):
    splits = dataset.collect([tmp_path], [table(tmp_path, "filename,mids\n")])
    with pytest.raises(ValueError, match="no clips"):
        dataset.prepare("empty", splits, tmp_path / "out")
    assert not (tmp_path / "out" / "empty").exists()


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_a_split_without_readable_clips_is_refused_by_name(tmp_path, empty):
    good = [ClipFile("a.wav", sound(tmp_path, "a.wav"), (DOG,))]
    bad = [ClipFile("gone.wav", tmp_path / "gone.wav", (DOG,))]
    splits = {split: bad if split == empty else good for split in ("train", "validation")}
    with pytest.raises(ValueError, match=empty):
        dataset.prepare("half", splits, tmp_path / "out")


def test_a_dataset_is_not_replaced(tones):
    before = sorted(tones.dataset.iterdir())
    with pytest.raises(ValueError, match="tones: exists already"):
        dataset.prepare("tones", {"train": []}, tones.dataset.parents[1])
    assert sorted(tones.dataset.iterdir()) == before


@pytest.mark.parametrize("name", ["My Set", "Upper", "../out", "a-b", "1st", ""])
def test_a_name_that_is_none_for_a_dataset_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no dataset name"):
        dataset.prepare(name, {"train": []}, tmp_path)
    assert not list(tmp_path.iterdir())


# Opening


def test_a_dataset_is_found_from_the_folders_above_it(tones):
    for folder in (tones.dataset, tones.dataset.parent, tones.dataset.parents[1]):
        assert Clips(folder, "train").folder == tones.dataset


def test_a_folder_without_a_dataset_and_a_missing_split_are_named(tones, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}: no dataset"):
        Clips(tmp_path, "train")
    with pytest.raises(ValueError, match="gone: no dataset"):
        Clips(tmp_path / "gone", "train")
    with pytest.raises(ValueError, match="no split 'test'"):
        Clips(tones.dataset, "test")


def test_two_datasets_in_a_folder_must_be_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "1.0.0").mkdir(parents=True)
        (tmp_path / name / "1.0.0" / "dataset_info.json").touch()
    with pytest.raises(ValueError, match="more than one dataset"):
        dataset.find_folder(tmp_path)
    assert dataset.find_folder(tmp_path / "two") == tmp_path / "two" / "1.0.0"


def test_a_dataset_of_real_recordings_keeps_their_labels(data_dir, tmp_path):
    folder = data_dir / "esc10"
    splits = dataset.collect([folder / "audio"], [folder / "weak_labels.csv"], [folder / "meta.csv"], "fold=4")
    few = {split: clips[:3] for split, clips in splits.items()}
    prepared, skipped = dataset.prepare("few", few, tmp_path)
    assert skipped == []
    for split, clips in few.items():
        stored = Clips(prepared, split)
        assert stored.clip_ids.tolist() == [clip.clip_id for clip in clips]
        assert [tuple(stored.labels(i)) for i in range(3)] == [clip.labels for clip in clips]
        assert (np.abs([stored.audio(i).max() for i in range(3)]) > 0).all()
