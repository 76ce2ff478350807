"""Tables of weak labels and the splits that they make."""

import tracemalloc

import numpy as np
import pytest

from uss_jax import audio, weak_labels
from uss_jax.weak_labels import ClipFile

DOG, BARK = 74, 75


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# Tables


def test_labels_are_mids_or_names_in_either_column(tmp_path):
    read = weak_labels.read_labels(
        table(tmp_path, 'filename,mids,labels\na.wav,"/m/0bt9lr,/m/05tny_",Rain\nb.wav,,"Male speech, man speaking"\n'),
        tmp_path,
        prefix="set/",
    )
    assert read == [
        ClipFile("set/a.wav", tmp_path, "a.wav", (DOG, BARK)),
        ClipFile("set/b.wav", tmp_path, "b.wav", (1,)),
    ]


def test_a_byte_order_mark_and_spaces_after_commas_do_no_harm(tmp_path):
    read = weak_labels.read_labels(table(tmp_path, '\ufefffilename, mids\na.wav, "Dog, Bark"\n'), tmp_path)
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
        weak_labels.read_labels(table(tmp_path, text), tmp_path)
    assert "labels.csv" in str(error.value)


def test_a_missing_table_and_one_that_is_no_text_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.csv: no such file"):
        weak_labels.read_labels(tmp_path / "gone.csv", tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"filename,mids\n\xff\xfe.wav,Dog\n")
    with pytest.raises(ValueError, match=r"labels\.csv: not a CSV table"):
        weak_labels.read_labels(tmp_path / "labels.csv", tmp_path)


# Splits

FOLDS = "filename,mids,fold\na.wav,Dog,1\nb.wav,Dog,2\nc.wav,Speech,4\n"


@pytest.mark.parametrize(
    ("held_out", "train", "validation"),
    [("fold=4", "ab", "c"), ("fold=2,4", "a", "bc"), ("fold=14,2", "ac", "b"), (None, "abc", "")],
)
def test_held_out_rows_are_the_validation_split(tmp_path, held_out, train, validation):
    splits = weak_labels.collect([tmp_path], [table(tmp_path, FOLDS)], held_out=held_out)
    assert [clip.clip_id for clip in splits["train"]] == [f"{name}.wav" for name in train]
    assert [clip.clip_id for clip in splits.get("validation", [])] == [f"{name}.wav" for name in validation]


def test_the_held_out_column_may_be_in_another_table(tmp_path):
    labels = table(tmp_path, "filename,mids\na.wav,Dog\nb.wav,Dog\n")
    meta = table(tmp_path, "filename,take\na.wav,A\nb.wav,B\n", name="meta.csv")
    splits = weak_labels.collect([tmp_path], [labels], [meta], held_out="take=B")
    assert [clip.clip_id for clip in splits["validation"]] == ["b.wav"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [("fold", "expected COLUMN=VALUE"), ("take=A", "no column 'take'"), ("fold=9", "no row has fold=9")],
)
def test_a_wrong_rule_is_refused(tmp_path, rule, says):
    with pytest.raises(ValueError, match=says):
        weak_labels.collect([tmp_path], [table(tmp_path, FOLDS)], held_out=rule)


def test_a_folder_may_be_for_training_alone_but_not_all(tmp_path, caplog):
    (tmp_path / "stems").mkdir()
    tables = [table(tmp_path, FOLDS), table(tmp_path / "stems", "filename,mids,fold\nd.wav,Piano,1\n")]
    splits = weak_labels.collect([path.parent for path in tables], tables, held_out="fold=4")
    assert [clip.path.name for clip in splits["train"]] == ["a.wav", "b.wav", "d.wav"]
    assert [clip.path.name for clip in splits["validation"]] == ["c.wav"]
    assert caplog.messages == [f"{tables[1]}: no clip has fold=4, all are for training"]
    with pytest.raises(ValueError, match=r"labels\.csv, .*stems.labels\.csv: no row has fold=9"):
        weak_labels.collect([path.parent for path in tables], tables, held_out="fold=9")


def test_files_of_one_name_in_two_folders_are_two_clips(tmp_path):
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        tables.append(table(tmp_path / name, FOLDS))
    splits = weak_labels.collect([path.parent for path in tables], tables, held_out="fold=4")
    assert [clip.clip_id for clip in splits["validation"]] == ["one/c.wav", "two/c.wav"]
    assert [clip.path for clip in splits["validation"]] == [tmp_path / "one/c.wav", tmp_path / "two/c.wav"]


def test_one_name_twice_is_refused(tmp_path):
    labels = table(tmp_path, "filename,mids\na.wav,Dog\nb.wav,Dog\na.wav,Speech\n")
    with pytest.raises(ValueError, match=r"two clips are called 'a\.wav'"):
        weak_labels.collect([tmp_path], [labels])


def test_every_folder_needs_a_table(tmp_path):
    with pytest.raises(ValueError, match="2 audio folders need as many"):
        weak_labels.collect([tmp_path, tmp_path], [table(tmp_path, FOLDS)])


# Recordings


def test_of_a_whole_video_no_more_is_read_than_tells_that_it_is_too_long(tmp_path):
    audio.write(tmp_path / "a.wav", np.ones(600 * 32_000, np.float32), 32_000, "PCM_16")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"^too long: .*a\.wav: more than 11\.00 s"):
        ClipFile("a", tmp_path, "a.wav", (DOG,), 10.0).record()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6  # 77 MB of samples in all
    assert len(ClipFile("a", tmp_path, "a.wav", (DOG,)).record().audio) == 600 * 32_000


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("soxr")])
def test_whatever_fails_in_decoding_a_file_is_broken(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    audio.write(tmp_path / "a.wav", np.ones(32_000, np.float32), 32_000)
    monkeypatch.setattr(audio, "resample", fail)
    with pytest.raises(ValueError, match=rf"^broken: .*a\.wav: {type(error).__name__}"):
        ClipFile("a", tmp_path, "a.wav", (DOG,)).record()
