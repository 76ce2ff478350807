"""Checkpoints from strangers: what is no set of weights is refused, and nothing of it is run."""

import collections
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import seeded
from test_training import SMALL

from uss_jax import cli, model_dir
from uss_jax.pytorch import checkpoints, convert, names

torch = pytest.importorskip("torch")

KERNEL = "base.encoder_block2.conv_block1.conv1.weight"
FILM = "film.conv_block7a->conv_block1->beta1.weight"


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    """The state dict of a ResUNet30 as tensors."""
    state = seeded.draw(seeded.NETWORKS["ResUNet30_soft"])
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}


def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: object) -> str:
    """What `uss-jax convert` says when it fails: one line; nothing is left of its output."""
    capsys.readouterr()
    assert cli.main(["convert", *map(str, arguments), "--out", str(tmp_path / "model")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("uss-jax: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".*"))
    return said


# Hostile and broken files


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "pickle protocol 2"])
@pytest.mark.parametrize("place", ["weights", "beside"])
def test_a_hostile_pickle_is_refused_and_makes_no_file(capsys, tmp_path, form, place):
    path, made = tmp_path / "hostile.ckpt", tmp_path / "made"
    inside = {"state_dict": {"ss_model.a": torch.zeros(2)}}
    content: Any = inside | {"callbacks": Hostile(made)} if place == "beside" else {"state_dict": Hostile(made)}
    if form.startswith("pickle"):
        path.write_bytes(
            pickle.dumps({"state_dict": content["state_dict"], "x": Hostile(made)}, 2 if "2" in form else 4)
        )
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    for part in ("--separator", "--tagger", "--sed"):
        said = fails(capsys, tmp_path, part, path)
        assert f"{path}: refused, and nothing of it was run" in said
        assert not made.exists()
    with path.open("rb") as file:  # the test can fail: this pickle does make the file
        (pickle.load if form.startswith("pickle") else lambda file: torch.load(file, weights_only=False))(file)
    assert made.exists()


def test_a_pickled_module_is_refused(capsys, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    assert "torch.nn.modules.linear.Linear" in fails(capsys, tmp_path, "--tagger", tmp_path / "module.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_named(capsys, tmp_path, weights, zipped):
    path = tmp_path / "cut.ckpt"
    torch.save({"state_dict": weights}, path, _use_new_zipfile_serialization=zipped)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1_000_000)
    assert f"{path}: not a complete PyTorch file" in fails(capsys, tmp_path, "--separator", path)


@pytest.mark.parametrize("content", [b"", b"RIFF0000WAVEfmt ", b"PK\x03\x04 no archive", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_named(capsys, tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    assert str(path) in fails(capsys, tmp_path, "--tagger", path)


def test_a_missing_file_and_a_folder_are_named(capsys, tmp_path):
    assert "no such file" in fails(capsys, tmp_path, "--tagger", tmp_path / "none.pth")
    assert "no such file" in fails(capsys, tmp_path, "--tagger", tmp_path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"model": {"a": 3}}, {1: torch.zeros(1)}, torch.zeros(3), "text"])
def test_a_file_without_a_state_dict_is_named(capsys, tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    assert "other.pth: holds no" in fails(capsys, tmp_path, "--tagger", tmp_path / "other.pth")


# Weights that do not fit


def test_all_wrong_tensors_are_named_in_one_error(capsys, tmp_path, weights):
    """One renamed, one of another shape, and others that are wrong in other ways."""
    changed = dict(weights)
    changed["base.renamed"] = changed.pop("base.pre_conv.bias")
    changed["base.after_conv.bias"] = torch.zeros(4)
    changed["base.bn0.weight"] = torch.full((1025,), float("nan"))
    changed["base.bn0.bias"] = torch.zeros(1025, dtype=torch.int32)
    changed["base.bn0.running_mean"] = torch.zeros(1025).to_sparse()
    changed[KERNEL] = torch.zeros(1).expand(2**40, 2**20)  # of a few bytes in the file
    torch.save(changed, tmp_path / "wrong.ckpt")
    said = fails(capsys, tmp_path, "--separator", tmp_path / "wrong.ckpt")
    for problem in (
        "base.pre_conv.bias is missing",
        "base.renamed is unknown",
        "base.after_conv.bias has shape (4,), not (3,)",
        "base.bn0.weight holds numbers that are not finite",
        "base.bn0.bias holds int32",
        "base.bn0.running_mean is not a dense tensor",
        f"{KERNEL} has shape",
    ):
        assert problem in said


def test_a_network_of_another_kind_is_not_listed_without_end(capsys, tmp_path):
    torch.save({FILM: torch.zeros(384, 527)} | {f"layer{i}": torch.zeros(1) for i in range(900)}, tmp_path / "x.ckpt")
    said = fails(capsys, tmp_path, "--separator", tmp_path / "x.ckpt")
    assert "more" in said
    assert len(said) < 5000


def test_names_of_tensors_cannot_speak_to_the_terminal(capsys, tmp_path, weights):
    strange = dict.fromkeys(["\x1b[2J\r\nall is well", "a" * 10_000], torch.zeros(1))
    torch.save(weights | strange, tmp_path / "x.ckpt")
    said = fails(capsys, tmp_path, "--separator", tmp_path / "x.ckpt")
    assert "all is well is unknown" in said
    assert said.rstrip("\n").isprintable()
    assert "a" * 1000 not in said


@pytest.mark.parametrize(("shape", "size"), [((384, 100), 100), ((384,), 384), ((), 0)])
def test_a_query_of_another_size_is_refused(capsys, tmp_path, weights, shape, size):
    torch.save({FILM: torch.zeros(shape)}, tmp_path / "other.ckpt")
    said = fails(capsys, tmp_path, "--separator", tmp_path / "other.ckpt")
    assert f"its query has {size} elements, not 527 (soft) or 2048 (latent)" in said


def test_a_separator_alone_needs_a_tagger(capsys, tmp_path, weights):
    torch.save(weights, tmp_path / "alone.ckpt")
    assert "holds no tagger; give one (--tagger)" in fails(capsys, tmp_path, "--separator", tmp_path / "alone.ckpt")


@pytest.mark.parametrize("state_dict", [lambda w: w, lambda w: collections.OrderedDict(w), lambda w: {"state_dict": w}])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_form_of_a_file_gives_the_same_numbers(tmp_path, weights, state_dict: Callable[[Any], Any], zipped):
    some = {name: weights[name] for name in (KERNEL, FILM)}
    shapes = {name: tuple(tensor.shape) for name, tensor in some.items()}
    half = {name: torch.nn.Parameter(tensor.half()) for name, tensor in some.items()}
    torch.save(state_dict(half), tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    checkpoint = checkpoints.Checkpoint(tmp_path / "a.ckpt")
    found = checkpoint.take("", shapes)
    checkpoint.finish()
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, some[name].half().float().numpy())


def test_a_front_end_of_another_rate_is_refused(tmp_path):
    """PANNs' taggers at 16 and 8 kHz have weights of the same shapes."""
    constant = names.tagger_constants()["logmel_extractor.melW"]
    for wrong in (constant[::-1].copy(), constant[:257], np.full_like(constant, np.nan)):
        torch.save({"logmel_extractor.melW": torch.from_numpy(wrong.copy())}, tmp_path / "t.pth")
        checkpoint = checkpoints.Checkpoint(tmp_path / "t.pth")
        checkpoint.take("", {}, {"logmel_extractor.melW": constant})
        with pytest.raises(ValueError, match="melW is not the front end's at 32 kHz"):
            checkpoint.finish()


# The command


def test_pytorch_is_asked_for_where_it_is_missing_or_unsafe(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    assert "PyTorch 2.5.1+cpu does not read files safely" in fails(capsys, tmp_path, "--tagger", "a.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'uss-jax[convert]'" in fails(capsys, tmp_path, "--tagger", "a.pth")


@pytest.mark.parametrize("arguments", [[], ["--to-torch", "tiny", "--tagger", "a.pth"]])
def test_wrong_usage(tmp_path, arguments):
    with pytest.raises(SystemExit) as raised:
        cli.main(["convert", *arguments, "--out", str(tmp_path / "model")])
    assert raised.value.code == 2


def test_an_existing_folder_is_kept(capsys, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("precious")
    assert cli.main(["convert", "--tagger", "a.pth", "--out", str(tmp_path / "model")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "model" / "mine").read_text() == "precious"


# Back to PyTorch


def test_a_network_that_the_reference_does_not_have_is_not_exported(capsys, tmp_path):
    said = fails(capsys, tmp_path, "--to-torch", "tiny")
    assert "tagger: the reference has only Cnn14, this is a Cnn14DecisionLevelMax" in said
    networks = model_dir.build_networks(SMALL, {})
    networks = model_dir.build_networks(SMALL, model_dir.initial_variables(networks, jax.random.key(0)))
    for change, problem in (
        ({"kind": "cnn14"}, "embedding_size is 8; the reference has only 2048"),
        (
            {"kind": "cnn14", "embedding_size": 2048},
            "widths is (8, 8); the reference has only (64, 128, 256, 512, 1024, 2048)",
        ),
    ):
        config = SMALL | {"tagger": SMALL["tagger"] | change}
        with pytest.raises(ValueError, match="tagger: ") as error:
            convert.export(model_dir.build_networks(config, networks.variables), tmp_path / "model")
        assert problem in str(error.value)
    assert not (tmp_path / "model").exists()
