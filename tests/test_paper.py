"""Converted checkpoints, run in paper mode by the command line, give the files of the reference, sample for sample."""

import hashlib
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from seeded import NETWORKS, assert_close, normal, state

from uss_jax import audio, audioset, blocks, cli, compiling, model_dir
from uss_jax.evaluation import items, journal
from uss_jax.evaluation.evaluate import Request, evaluate
from uss_jax.evaluation.fsd import FsdKaggle2018
from uss_jax.evaluation.run import Options
from uss_jax.evaluation.workers import Workers
from uss_jax.pytorch import names
from uss_jax.targets import THRESHOLD

reference_inference = pytest.importorskip("reference_inference")

pytestmark = pytest.mark.usefixtures("on_cpu")

SEGMENT = 64_000
ACTIVE = ("Speech", "Bark", "Rain")  # classes that the tagger is made to hear now and then
SOFT = {
    "model_type": "Cnn14_Wrapper",
    "base_checkpoint_type": "Cnn14",
    "bottleneck_type": "at_soft",
    "freeze_base": True,
    "outputs_num": 527,
}
LATENT = SOFT | {"bottleneck_type": "embedding", "outputs_num": 2048}
ADAPTIVE = SOFT | {"model_type": "AdaptiveCnn14_Wrapper", "freeze_adaptor": False}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The reference; the environment is as before in the end."""
    before, folder = dict(os.environ), Path.cwd()
    os.chdir(tmp_path_factory.mktemp("work"))  # it writes into the working folder
    yield reference_inference.Inference(tmp_path_factory.mktemp("home"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def scene(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first six blocks of a real recording, with rain, a dog, speech and a chain saw."""
    samples, rate = soundfile.read(data_dir / "scenes" / "scene_001.flac", frames=6 * SEGMENT)
    path = tmp_path_factory.mktemp("scene") / "scene.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def hearing(scene: Path) -> names.State:
    """Weights of a Cnn14 that hears three classes in some blocks of the scene, and nothing else anywhere.

    Random weights would hear everything or nothing: the outputs are shifted and scaled.
    """
    weights = state("Cnn14")
    segments = blocks.split(audio.read_mono(scene, 32_000), SEGMENT)
    variables = names.to_linen(weights, NETWORKS["Cnn14"].tensors)
    apply = jax.jit(NETWORKS["Cnn14"].module.apply, compiler_options=compiling.options())
    logits = np.asarray(apply(variables, segments).logits)
    scale = 0.7 / logits.std(axis=0)
    offset = np.full(527, -6.0)
    for name in ACTIVE:
        offset[audioset.find_class(name).index] = np.log(THRESHOLD / (1 - THRESHOLD)) - 0.4
    weights["fc_audioset.weight"] = (weights["fc_audioset.weight"] * scale[:, None]).astype(np.float32)
    weights["fc_audioset.bias"] = ((weights["fc_audioset.bias"] - logits.mean(axis=0)) * scale + offset).astype("f4")
    return weights


@pytest.fixture(scope="module")
def folder(theirs: Any, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tagger.pth."""
    folder = tmp_path_factory.mktemp("checkpoints")
    reference_inference.save_tagger(folder / "tagger.pth", hearing(scene))
    theirs.tagger = folder / "tagger.pth"
    return folder


def write_config(path: Path, query_net: dict[str, Any]) -> Path:
    sections = {
        "data": {"sample_rate": 32_000, "segment_seconds": 2.0},
        "query_net": query_net,
        "ss_model": {"model_type": "ResUNet30", "input_channels": 1, "output_channels": 1},
    }
    path.write_text(json.dumps(sections))  # JSON is YAML
    return path


def run(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def convert(folder: Path, name: str, *more: object) -> Path:
    """Converts NAME.ckpt and tagger.pth by the command line."""
    checkpoint, tagger = folder / f"{name}.ckpt", folder / "tagger.pth"
    run("convert", "--separator", checkpoint, "--tagger", tagger, "--out", folder / name, *more)
    return folder / name


@pytest.fixture(scope="module")
def soft(theirs: Any, folder: Path) -> Path:
    """The at_soft model, converted; its checkpoint holds all that a released one does."""
    write_config(folder / "soft.yaml", SOFT)
    sed = reference_inference.reference.module("Cnn14_DecisionLevelMax")
    theirs.save(folder / "soft.ckpt", SOFT, "ResUNet30_soft", sed)
    return convert(folder, "soft")


def ours(model: Path, recording: Path, out: Path, *wanted: object) -> dict[str, np.ndarray]:
    """Stems of paper mode by the path of their file."""
    run("separate", recording, "--model", model, "--paper", "--out", out, *wanted)
    folder = out / recording.stem
    stems = {str(path.relative_to(folder)): soundfile.read(path)[0] for path in sorted(folder.rglob("*.wav"))}
    residual = stems.pop("residual.wav")
    assert len(residual) == len(next(iter(stems.values())))
    return stems


def excerpt(
    recording: Path, path: Path, channels: tuple[float, ...] = (1.0,), rate: int = 32_000, length: float = 2.5
) -> Path:
    """So many blocks of a recording, as float WAV, said to be of another sample rate."""
    samples, _ = soundfile.read(recording, frames=round(length * SEGMENT), start=SEGMENT)
    soundfile.write(path, np.outer(samples, channels), rate, subtype="FLOAT")
    return path


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """The same files, sample for sample; and not just silence."""
    assert list(found) == list(expected)
    assert any(np.abs(samples).max() > 1e-3 for samples in expected.values())
    for name, samples in expected.items():
        if samples.any():
            assert_close(1e-4, found[name], samples, name)
        else:
            assert not found[name].any(), name


def test_the_ontology_is_the_references(theirs):
    for level in range(1, audioset.deepest_level() + 1):
        of_level = [node for node in theirs.nodes() if node.level == level]
        expected = {node.class_id: theirs.classes_below(node) for node in of_level}
        found = {node.mid: list(node.class_indices) for node in audioset.nodes_at(level)}
        assert found == {mid: classes for mid, classes in expected.items() if classes}


@pytest.mark.slow
def test_levels(theirs, folder, soft, scene, tmp_path):
    part = excerpt(scene, tmp_path / "part.wav", length=5.5)
    expected = theirs.separate(part, folder / "soft.yaml", folder / "soft.ckpt", tmp_path / "t", levels=[1, 2, 3])
    assert len(expected) >= 6
    assert_same(ours(soft, part, tmp_path / "o", "--levels", 1, 2, 3), expected)


@pytest.mark.slow
def test_classes(theirs, folder, soft, scene, tmp_path):
    short = excerpt(scene, tmp_path / "short.wav")
    speech, bark = audioset.find_class("Speech").index, audioset.find_class("Bark").index
    files = folder / "soft.yaml", folder / "soft.ckpt"
    alone = theirs.separate(short, *files, tmp_path / "alone", class_ids=[speech])
    assert_same(ours(soft, short, tmp_path / "1", "--classes", "Speech"), alone)
    both = theirs.separate(short, *files, tmp_path / "both", class_ids=[speech, bark])
    assert_same(ours(soft, short, tmp_path / "2", "--classes", speech, bark, "--together"), both)
    never = theirs.separate(scene, *files, tmp_path / "never", class_ids=[5])
    found = ours(soft, scene, tmp_path / "3", "--classes", 5)
    assert list(found) == list(never)
    assert not np.any([*found.values(), *never.values()])


@pytest.mark.slow
def test_queries(theirs, folder, soft, scene, data_dir, tmp_path):
    """Examples of several rates and lengths, one of them mostly silent; then the same query as an embedding."""
    examples = tmp_path / "barking dogs"
    examples.mkdir()
    for number, source in enumerate(sorted((data_dir / "fsdkaggle2018_mini").rglob("*train/*.wav"))[:3]):
        samples, rate = soundfile.read(source)
        soundfile.write(examples / f"{number}.wav", np.concatenate([samples, np.zeros(number * 50_000)]), rate)
    short = excerpt(scene, tmp_path / "short.wav", channels=(1.0, 0.5), rate=44_100)
    files = folder / "soft.yaml", folder / "soft.ckpt"
    expected = theirs.separate(short, *files, tmp_path / "t", queries_dir=str(examples))
    assert_same(ours(soft, short, tmp_path / "o", "--query", examples), expected)

    run("embed", examples, "--model", soft, "--out", tmp_path / "barking dogs.npy")
    assert_same(ours(soft, short, tmp_path / "e", "--embedding", tmp_path / "barking dogs.npy"), expected)


@pytest.mark.slow
def test_a_latent_query(theirs, folder, soft, scene, tmp_path):
    """Also by class, where the reference masks the embedding, whose elements stand for no class."""
    files = write_config(folder / "latent.yaml", LATENT), folder / "latent.ckpt"
    theirs.save(files[1], LATENT, "ResUNet30_latent")
    model = convert(folder, "latent")
    config = json.loads((model / "config.json").read_text())
    assert config["query"] == {"kind": "latent"}
    short = excerpt(scene, tmp_path / "short.wav")
    expected = theirs.separate(short, *files, tmp_path / "t", class_ids=[audioset.find_class("Speech").index])
    assert_same(ours(model, short, tmp_path / "o", "--classes", "Speech"), expected)
    (tmp_path / "query.pkl").write_bytes(pickle.dumps(np.abs(normal((2048,), 0, "query"))))
    np.save(tmp_path / "query.npy", np.abs(normal((2048,), 0, "query")))
    expected = theirs.separate(short, *files, tmp_path / "te", query_emb_path=str(tmp_path / "query.pkl"))
    found = ours(model, short, tmp_path / "oe", "--embedding", tmp_path / "query.npy")
    assert_same(dict(zip(expected, found.values(), strict=True)), expected)  # the reference calls it query=111.wav


@pytest.mark.slow
def test_a_trained_query_net(theirs, folder, soft, scene, tmp_path):
    """Learnable layers, and a base that is no longer the released tagger: the latter still says what is active."""

    def change(query_net: Any) -> None:
        with reference_inference.torch.no_grad():
            for name, weight in query_net.named_parameters():
                if name.startswith("fc"):
                    weight.copy_(reference_inference.torch.from_numpy(0.05 * normal(tuple(weight.shape), 3, name)))
            query_net.base.fc_audioset.bias += 1.0

    files = write_config(folder / "adaptive.yaml", ADAPTIVE), folder / "adaptive.ckpt"
    theirs.save(files[1], ADAPTIVE, "ResUNet30_soft", query=change)
    model = convert(folder, "adaptive")
    config = json.loads((model / "config.json").read_text())
    assert config["query"] == {"kind": "soft", "adaptor_size": 527, "hidden": 2048}
    assert config["query_tagger"] == {"kind": "cnn14"}
    short = excerpt(scene, tmp_path / "short.wav")
    expected = theirs.separate(short, *files, tmp_path / "t", class_ids=[audioset.find_class("Bark").index])
    assert_same(ours(model, short, tmp_path / "o", "--classes", "Bark"), expected)


@pytest.mark.slow
def test_a_checkpoint_of_a_training_holds_both_taggers(folder, soft):
    run("convert", "--separator", folder / "soft.ckpt", "--sed", folder / "soft.ckpt", "--out", folder / "all")
    found, expected = model_dir.load(folder / "all"), model_dir.load(soft)
    assert found.config == expected.config | {"name": "all", "sed": {"kind": "cnn14_decision_level_max"}}
    for part in ("tagger", "separator"):
        jax.tree.map(np.testing.assert_array_equal, found.variables[part], expected.variables[part])
    sed = names.to_linen(state("Cnn14_DecisionLevelMax"), names.tagger_tensors())
    jax.tree.map(np.testing.assert_array_equal, found.variables["sed"], sed)
    card = (folder / "all" / "README.md").read_text()
    assert card.count(hashlib.sha256((folder / "soft.ckpt").read_bytes()).hexdigest()) == 2


@pytest.mark.slow
def test_an_exported_model_runs_in_the_reference(theirs, folder, soft, scene, tmp_path):
    """With the numbers of the model that it was converted from; and it converts back to the bit."""
    run("convert", "--to-torch", soft, "--out", folder / "exported")
    files = folder / "exported" / "config.yaml", folder / "exported" / "separator.ckpt"
    short, speech = excerpt(scene, tmp_path / "short.wav"), audioset.find_class("Speech").index
    expected = theirs.separate(short, folder / "soft.yaml", folder / "soft.ckpt", tmp_path / "a", class_ids=[speech])
    theirs.tagger = folder / "exported" / "cnn14.pth"
    found = theirs.separate(short, *files, tmp_path / "b", class_ids=[speech])
    theirs.tagger = folder / "tagger.pth"
    assert_same(found, expected)

    run("convert", "--separator", files[1], "--tagger", folder / "exported" / "cnn14.pth", "--out", folder / "back")
    weights = [(model / "weights.safetensors").read_bytes() for model in (soft, folder / "back")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_released_taggers_alone_tag_and_mine(folder, tones, tmp_path):
    run("convert", "--tagger", folder / "tagger.pth", "--out", folder / "cnn14")
    assert model_dir.load(folder / "cnn14").separator is None
    reference_inference.save_tagger(folder / "sed.pth", state("Cnn14_DecisionLevelMax"), "Cnn14_DecisionLevelMax")
    run("convert", "--sed", folder / "sed.pth", "--out", folder / "cnn14_sed")
    run("anchors", tones.dataset, "--model", folder / "cnn14_sed", "--out", tmp_path / "anchors")
    assert (tmp_path / "anchors" / "anchors-train.npz").is_file()
    run("convert", "--to-torch", folder / "cnn14_sed", "--out", folder / "exported_sed")
    assert [path.name for path in (folder / "exported_sed").iterdir()] == ["cnn14_decision_level_max.pth"]


@pytest.mark.slow
def test_benchmarks_by_average_queries_have_the_scores_of_the_references_evaluation(
    theirs, folder, soft, data_dir, tmp_path, monkeypatch
):
    """Its own functions for average queries and separation, and SDR; the mixtures as `--export` writes them."""
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    data = data_dir / "fsdkaggle2018_mini"
    few = {"limit": 3, "workers": 0, "options": Options(batch_size=1)}
    evaluate(Request("fsdkaggle2018", data, tmp_path / "r.json", str(soft), export=tmp_path / "pairs", **few))
    _, rows = journal.read(tmp_path / "r.journal.jsonl")
    benchmark = FsdKaggle2018(data)
    training = benchmark.plan("train", 100, 1234, Workers(0, benchmark)).items
    model = theirs.load(folder / "soft.yaml", folder / "soft.ckpt")
    assert len(rows) == 3
    for place, item in enumerate(items.read_list(tmp_path / "r.mixtures.csv")):
        examples = tmp_path / "examples" / item.label
        examples.mkdir(parents=True)
        for source in {other.source for other in training if other.label == item.label}:
            (examples / Path(source).name).symlink_to(data / source)
        query = theirs.average_query(model, examples)
        name = tmp_path / "pairs" / benchmark.export_name(item)
        mixture, source = (soundfile.read(f"{name},{part}.wav", dtype="float32")[0] for part in ("mixture", "source"))
        sdr = theirs.sdr(source, theirs.separate_by_query(model, mixture, query))
        assert rows[place]["estimate"]["sdr"] == pytest.approx(sdr, abs=1e-3)
        assert rows[place]["estimate"]["sdri"] == pytest.approx(sdr - theirs.sdr(source, mixture), abs=1e-3)


@pytest.mark.slow
def test_whole_recordings_in_paper_mode_have_the_estimates_of_the_reference(
    theirs, folder, soft, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("pesq")
    data = data_dir / "voicebank_demand_mini"
    options = Options(estimates_to=tmp_path / "estimates")
    evaluate(
        Request("voicebank", data, tmp_path / "r.json", str(soft), limit=1, workers=0, paper=True, options=options)
    )
    (item,) = items.read_list(tmp_path / "r.mixtures.csv")
    model = theirs.load(folder / "soft.yaml", folder / "soft.ckpt")
    query = theirs.average_query(model, data / "clean_trainset_wav", remove_silence=True)
    expected = theirs.separate_by_query(model, audio.read_mono(data / item.mixture, 32_000), query)
    estimate, _ = soundfile.read(tmp_path / "estimates" / "label=speech" / "label=speech,index=000,estimate.wav")
    assert_close(1e-4, estimate, expected, "estimate")
