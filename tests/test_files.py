"""Nothing half-written carries its final name, and nothing that is read is run."""

import json

import numpy as np
import pytest

from uss_jax import files

# Folders


def test_a_folder_appears_only_when_it_is_finished(tmp_path):
    with files.new_folder(tmp_path / "deep" / "new") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "deep" / "new").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]
    assert (tmp_path / "deep" / "new" / "a").read_text() == "1"


def fill_and_fail(path, overwrite):
    with files.new_folder(path, overwrite) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill_and_fail(tmp_path / "new", overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_what_was_to_be_replaced(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("whole")
    with pytest.raises(KeyboardInterrupt):
        fill_and_fail(tmp_path / "old", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "a").read_text() == "whole"


def test_what_exists_is_refused_before_any_work_and_kept(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("kept")
    with pytest.raises(ValueError, match="old: exists already"), files.new_folder(tmp_path / "old"):
        pytest.fail("the work began")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "a").read_text() == "kept"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_overwriting_replaces_all_that_was_there(tmp_path, kind):
    if kind == "folder":
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "stale").touch()
    else:
        (tmp_path / "old").touch()
    with files.new_folder(tmp_path / "old", overwrite=True) as folder:
        (folder / "a").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["old", "old/a"]


def test_what_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(ValueError, match="new: exists already"), files.new_folder(tmp_path / "new"):
        (tmp_path / "new").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: cannot be made a folder"):
        files.make_folder(tmp_path / "file")


# Files


def test_json_comes_back_and_keeps_its_letters(tmp_path):
    content = {"name": "Größe 音", "list": [1, 2.5, None]}
    files.write_json(tmp_path / "deep" / "a.json", content)
    text = (tmp_path / "deep" / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert "音" in text


def test_a_file_name_that_is_no_text_is_written_with_question_marks(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": "caf\udce9.wav"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": "caf?.wav"}


def test_json_that_cannot_be_written_leaves_the_old_file_alone(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises((TypeError, ValueError)):
        files.write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_arrays_come_back_to_the_bit(tmp_path):
    arrays = {
        "x": np.arange(5, dtype=np.int16),
        "y": np.random.default_rng(0).random((3, 4)),
        "z": np.array(["a", "é"]),
    }
    files.write_arrays(tmp_path / "deep" / "a.npz", **arrays)
    back = files.read_arrays(tmp_path / "deep" / "a.npz", ("z", "x", "y"))
    assert list(back) == ["z", "x", "y"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npz"]


def test_arrays_that_cannot_be_written_leave_the_old_file_alone(tmp_path):
    class Unwritable:
        def __reduce__(self):
            raise OSError("disk full")

    files.write_arrays(tmp_path / "a.npz", x=np.arange(3))
    with pytest.raises(OSError, match="disk full"):
        files.write_arrays(tmp_path / "a.npz", x=np.arange(4), y=np.array([Unwritable()], object))
    np.testing.assert_array_equal(files.read_arrays(tmp_path / "a.npz", ("x",))["x"], np.arange(3))


def test_pickled_arrays_are_refused_and_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    np.savez(tmp_path / "a.npz", x=np.array([Hostile()], object))
    with pytest.raises(ValueError, match=r"a\.npz"):
        files.read_arrays(tmp_path / "a.npz", ("x",))
    assert not (tmp_path / "made").exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["x"]
    assert (tmp_path / "made").exists()  # so the file was hostile indeed


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    files.write_arrays(tmp_path / "a.npz", x=np.random.default_rng(0).random(1000))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"a\.npz"):
        files.read_arrays(tmp_path / "a.npz", ("x",))


@pytest.mark.parametrize("place", [80, 4000])  # in the compressed array's first block, and in its numbers
def test_a_damaged_file_is_named(tmp_path, place):
    files.write_arrays(tmp_path / "a.npz", x=np.random.default_rng(0).random(1000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz"):
        files.read_arrays(tmp_path / "a.npz", ("x",))


def test_a_missing_file_a_missing_name_and_another_format_are_named(tmp_path):
    files.write_arrays(tmp_path / "a.npz", x=np.arange(3))
    np.save(tmp_path / "b.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"gone\.npz: no such file"):
        files.read_arrays(tmp_path / "gone.npz", ("x",))
    with pytest.raises(ValueError, match=r"a\.npz.*'y'|a\.npz.*y is not"):
        files.read_arrays(tmp_path / "a.npz", ("x", "y"))
    with pytest.raises(ValueError, match=r"b\.npy"):
        files.read_arrays(tmp_path / "b.npy", ("x",))
