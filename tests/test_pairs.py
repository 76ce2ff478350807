"""Mixtures, sources and estimates as WAV files: the layout that others read, and what is refused of theirs."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uss_jax import audio
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips
from uss_jax.evaluation import evaluate as evaluation
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import journal as journals
from uss_jax.evaluation import pairs, registry
from uss_jax.evaluation import run as runs
from uss_jax.evaluation.audioset import AnchorMixtures, Pairs, is_pairs
from uss_jax.evaluation.benchmark import Benchmark, Plan, Sound
from uss_jax.evaluation.evaluate import Request, evaluate, export_items
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.run import Options
from uss_jax.evaluation.workers import Workers

RATE_HZ = 32_000
HOSTILE = ["../../up", "/etc/passwd", "a/../../b", "..", ".", "", " ", "C:\\x", "a\nb", "a\0b", "~", "-rf", '*?<>|":']
NO_WORKERS = Workers(0, None)


def noise(seed, shape=64_000):
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


class Made(Benchmark):
    """Two seconds of noise, in stereo if the source's name says so."""

    name = "made"

    def plan(self, split, per_class, seed, workers):
        return Plan([Item(label, 0, f"{label}.wav") for label in ("a/b", "a_b")], {})

    def read(self, item):
        if "gone" in item.source:
            raise ValueError(f"{self.data}/{item.source}: no such file")
        shape = (64_000, 2) if "stereo" in item.source else 64_000
        source = noise(len(item.source), shape)
        return Sound(source + noise(1000, shape), source, RATE_HZ)

    def query_source(self, item):
        return self.read(item).source

    def classes(self, item):
        return (0,)

    def training_files(self):
        return []


MADE = Made(Path("folder"))
ITEM = Item("noise", 0, "noise.wav")


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def mixtures(tones):
    """The benchmark on the generated clips, and its items."""
    anchors = {}
    for split in ("train", "validation"):
        clips = Clips(tones.dataset, split)
        clip, label = clips.label_pairs()
        anchors[split] = Anchors(clip, label, np.full(len(clip), 3000), np.ones(len(clip)))
    benchmark = AnchorMixtures(tones.dataset, anchors=anchors)
    with Workers(0, benchmark) as workers:
        return benchmark, benchmark.plan("test", 3, 1234, workers).items


@pytest.fixture(scope="module")
def exported(mixtures, tmp_path_factory):
    """The folder of the exported items."""
    folder = tmp_path_factory.mktemp("exported") / "pairs"
    benchmark, items = mixtures
    assert all(pairs.export(benchmark, item, folder) for item in items)
    return folder


# Out and back


def test_the_layout_is_that_of_the_reference(mixtures, exported):
    found = names(exported)
    assert len(found) == 2 * len(mixtures[1]) == 2 * 5 * 3
    assert "class_id=74/class_id=74,index=000,mixture.wav" in found
    assert "class_id=74/class_id=74,index=002,source.wav" in found
    assert {path.name for path in exported.iterdir()} == {f"class_id={i}" for i in (0, 74, 75, 289, 339)}


def test_the_expressions_of_the_reference_find_every_file_and_nothing_else_lies_there(exported):
    """It takes a folder's class from `=(.*)`, and would stop at a file that is neither a mixture nor a source."""
    for folder in exported.iterdir():
        class_index = re.search(r"=(.*)", folder.name).group(1)
        assert class_index.isdecimal()
        parts = [re.search(r"(.*),(mixture|source).wav", path.name).groups() for path in folder.iterdir()]
        assert {stem.split(",")[0] for stem, _ in parts} == {f"class_id={class_index}"}
        assert sorted(part for _, part in parts) == ["mixture"] * 3 + ["source"] * 3


def test_exported_items_are_read_back_in_order_and_to_the_bit(mixtures, exported):
    benchmark, items = mixtures
    assert is_pairs(exported)
    assert not is_pairs(exported / "class_id=74")
    back = Pairs(exported)
    found = {(item.label, item.index): item for item in back.plan("test", 100, 0, NO_WORKERS).items}
    assert set(found) == {(item.label, item.index) for item in items}
    for item in items:
        mine, theirs = benchmark.read(item), back.read(found[item.label, item.index])
        np.testing.assert_array_equal(theirs.mixture, mine.mixture)
        np.testing.assert_array_equal(theirs.source, mine.source)
        assert theirs.sample_rate_hz == mine.sample_rate_hz == RATE_HZ
        assert back.classes(item) == benchmark.classes(item)
        assert back.export_name(item) == benchmark.export_name(item)


def test_any_split_is_the_folder_and_a_number_per_class_takes_the_first(exported):
    back = Pairs(exported)
    test, train = (back.plan(split, 2, 0, NO_WORKERS).items for split in ("test", "train"))
    assert test == train
    assert [item.index for item in test] == [0, 1] * 5
    assert [back.classes(item)[0] for item in test[::2]] == [0, 74, 75, 289, 339]
    assert test[2].source == "class_id=74/class_id=74,index=000,source.wav"
    assert not back.has_training()


def test_an_item_is_found_under_the_name_that_its_files_have(tmp_path):
    """However many there are, and where one is missing; its estimate is looked for under the same name."""
    (tmp_path / "class_id=74").mkdir()
    for index in (0, 2, 7, 100, 1000, 1001):
        (tmp_path / f"class_id=74/class_id=74,index={index:03d},source.wav").touch()
    back = Pairs(tmp_path)
    items = back.plan("test", 5, 0, NO_WORKERS).items
    assert [re.search(r"index=(\d+)", item.source).group(1) for item in items] == ["000", "002", "007", "100", "1000"]
    for item in items:
        assert f"{back.export_name(item)},source.wav" == item.source
        assert f"{back.export_name(item)},mixture.wav" == item.mixture


def test_what_cannot_be_read_is_not_exported(tmp_path):
    assert not pairs.export(MADE, Item("noise", 0, "gone.wav"), tmp_path / "pairs")
    assert not names(tmp_path)


@pytest.mark.parametrize("source", ["mono", "stereo"])
def test_labels_stand_in_the_names_of_other_benchmarks(tmp_path, source):
    item = Item("Bass, electric", 12, source)
    assert pairs.export(MADE, item, tmp_path)
    stem = "label=Bass, electric/label=Bass, electric,index=012"
    assert names(tmp_path) == [f"{stem},mixture.wav", f"{stem},source.wav"]
    np.testing.assert_array_equal(audio.read(tmp_path / f"{stem},source.wav")[0], MADE.read(item).source)


def test_a_benchmark_that_is_a_folder_of_pairs_is_opened_as_one(exported, tones):
    assert isinstance(registry.open_benchmark("audioset", exported), Pairs)
    assert isinstance(registry.open_benchmark("audioset", tones.dataset), AnchorMixtures)


# Names


@pytest.mark.parametrize("label", HOSTILE)
def test_no_label_leaves_the_folder(tmp_path, label):
    folder = tmp_path / "deep" / "pairs"
    item = Item(label, 0, "noise.wav")
    assert pairs.export(MADE, item, folder)
    pairs.export_estimate(MADE, item, noise(0), RATE_HZ, folder)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == 3
    for path in found:
        assert path.parent.parent == folder
        assert path.parent.name.startswith("label=")
        assert path.name.startswith(f"{path.parent.name},index=000,")
    assert pairs.read_estimate(MADE, item, MADE.read(item), folder).shape == (64_000,)


@pytest.mark.parametrize(
    ("label", "other"), [("a/b", "a_b"), ("..", ""), ("x" * 200 + "1", "x" * 200 + "2"), ("Piano.", "Piano")]
)
def test_two_labels_of_one_name_are_refused(label, other):
    items = [Item(label, 0, "1.wav"), Item("c", 0, "2.wav"), Item(other, 0, "3.wav")]
    with pytest.raises(ValueError, match="would be exported under one name") as error:
        pairs.check_names(MADE, items)
    assert repr(label) in str(error.value)
    assert repr(other) in str(error.value)
    pairs.check_names(MADE, items[:2])
    pairs.check_names(MADE, [items[0], dataclasses.replace(items[0], index=1)])


@pytest.mark.parametrize("option", ["export", "estimates_to", "estimates_from"])
def test_a_run_that_would_mix_up_the_files_of_two_labels_is_refused(tmp_path, monkeypatch, option):
    """Whether pairs or estimates are written, or another system's estimates are read."""
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry.BENCHMARKS, "made", Made)
    theirs = tmp_path / "theirs"
    for item in MADE.plan("test", 1, 0, NO_WORKERS).items:
        pairs.export_estimate(MADE, item, noise(0), RATE_HZ, theirs)
    options = Options(estimates_from=theirs, estimates_to=tmp_path / "mine" if option == "estimates_to" else None)
    export = tmp_path / "mine" if option == "export" else None
    with pytest.raises(ValueError, match=r"'a_b' and 'a/b' would be .* under one name"):
        evaluate(Request("made", tmp_path, tmp_path / "r.json", export=export, workers=0, options=options))
    assert not (tmp_path / "r.json").exists()


def test_an_export_that_would_mix_up_the_files_of_two_labels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.BENCHMARKS, "made", Made)
    with pytest.raises(ValueError, match=r"'a_b' and 'a/b' would be .* under one name"):
        export_items(Request("made", tmp_path, export=tmp_path / "mine", workers=0))
    assert not names(tmp_path)


def test_labels_of_one_name_are_no_matter_where_no_files_are_named_after_them(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.BENCHMARKS, "made", Made)
    monkeypatch.setattr(evaluation, "load_model", lambda *_: registry.NamedModel(None, "stub", "0"))
    monkeypatch.setattr(evaluation.systems, "ModelSystem", lambda *_: Half())
    request = Request("made", tmp_path, tmp_path / "r.json", model="stub", query="oracle", workers=0)
    result, done = evaluate(request)
    assert list(result["per_class"]) == ["a/b", "a_b"]
    assert done.items == 2
    assert evaluate(request) == (result, (0, pytest.approx(0, abs=10)))


# Another system's estimates


@pytest.mark.parametrize("source", ["mono", "stereo"])
def test_estimates_come_back_to_the_bit(tmp_path, source):
    item = dataclasses.replace(ITEM, source=source)
    sound = MADE.read(item)
    estimate = 3 * noise(7, sound.mixture.shape)  # beyond full scale, too
    pairs.export_estimate(MADE, item, estimate, RATE_HZ, tmp_path)
    assert names(tmp_path) == ["label=noise/label=noise,index=000,estimate.wav"]
    np.testing.assert_array_equal(pairs.read_estimate(MADE, item, sound, tmp_path), estimate)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_estimate_at_another_rate_is_resampled(tmp_path, rate_hz, channels):
    item = dataclasses.replace(ITEM, source="stereo" if channels == 2 else "mono")

    def tone(rate):
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate).astype(np.float32)
        return np.stack([wave, -wave], axis=1) if channels == 2 else wave

    pairs.export_estimate(MADE, item, tone(rate_hz), rate_hz, tmp_path)
    found = pairs.read_estimate(MADE, item, MADE.read(item), tmp_path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[1000:-1000], tone(RATE_HZ)[1000:-1000], atol=1e-3)


@pytest.mark.parametrize("length", [64_000 - 3_200, 63_000, 64_001, 64_000 + 3_200])
def test_an_estimate_that_is_a_little_shorter_or_longer_is_fitted(tmp_path, length):
    pairs.export_estimate(MADE, ITEM, noise(0, 70_000)[:length], RATE_HZ, tmp_path)
    found = pairs.read_estimate(MADE, ITEM, MADE.read(ITEM), tmp_path)
    assert found.shape == (64_000,)
    common = min(length, 64_000)
    np.testing.assert_array_equal(found[:common], noise(0, 70_000)[:common])
    assert not found[common:].any()


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (noise(0, 64_000 - 3_201), RATE_HZ),
        (noise(0, 64_000 + 3_201), RATE_HZ),
        (noise(0, 64_000), 16_000),
        (noise(0, (64_000, 2)), RATE_HZ),
        (noise(0, (64_000, 3)), RATE_HZ),
    ],
)
def test_an_estimate_of_another_length_or_number_of_channels_is_refused_by_name(tmp_path, samples, rate_hz):
    pairs.export_estimate(MADE, ITEM, samples, rate_hz, tmp_path)
    with pytest.raises(ValueError, match=r"index=000,estimate\.wav: has shape .* but its mixture has \(64000,\)"):
        pairs.read_estimate(MADE, ITEM, MADE.read(ITEM), tmp_path)


def test_a_mono_estimate_of_a_stereo_mixture_is_refused_by_name(tmp_path):
    item = dataclasses.replace(ITEM, source="stereo")
    pairs.export_estimate(MADE, item, noise(0), RATE_HZ, tmp_path)
    with pytest.raises(ValueError, match=r"estimate\.wav: has shape \(64000,\), but its mixture has \(64000, 2\)"):
        pairs.read_estimate(MADE, item, MADE.read(item), tmp_path)


def wav(samples):
    """The bytes of a file."""
    content = io.BytesIO()
    soundfile.write(content, samples, RATE_HZ, format="WAV")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "not readable as audio"),
        (b"RIFF but no audio", "not readable as audio"),
        (wav(np.zeros(0, np.float32)), "holds no samples"),
    ],
)
def test_an_estimate_that_cannot_be_read_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "label=noise" / "label=noise,index=000,estimate.wav"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"estimate\.wav: .*{says}"):
        pairs.read_estimate(MADE, ITEM, MADE.read(ITEM), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_estimate_that_is_not_finite_is_refused_by_name(tmp_path, value):
    pairs.export_estimate(MADE, ITEM, np.full(64_000, value, np.float32), RATE_HZ, tmp_path)
    with pytest.raises(ValueError, match=r"estimate\.wav: holds samples that are NaN or infinite"):
        pairs.read_estimate(MADE, ITEM, MADE.read(ITEM), tmp_path)


class Half:
    """A system that halves the mixture."""

    def separate(self, items, sounds):
        return [np.float32(0.5) * sound.mixture for sound in sounds]


def rows_of(path, items, system, options):
    journal = Journal(path, {})
    journal.begin(item_lists.digest(items), {})
    with Workers(0, MADE) as workers:
        runs.run(MADE, items, system, journal, workers, options)
    return journals.read(path)[1]


def test_exported_estimates_are_scored_as_they_were_when_made(tmp_path):
    items = [Item("noise", i, "x" * i + ".wav") for i in range(3)]
    folder = tmp_path / "estimates"
    made = rows_of(tmp_path / "made.jsonl", items, Half(), Options(estimates_to=folder))
    read = rows_of(tmp_path / "read.jsonl", items, None, Options(estimates_from=folder))
    assert read == made
    assert all("estimate" in row for row in read.values())


def test_items_without_an_estimate_or_a_source_are_left_out_by_name_without_any_folder(tmp_path):
    items = [Item("noise", i, f"{name}.wav") for i, name in enumerate(["a", "bb", "gone"])]
    folder = tmp_path / "estimates"
    for item in (items[0], items[2]):
        pairs.export_estimate(MADE, item, noise(0), RATE_HZ, folder)
    rows = rows_of(tmp_path / "r.jsonl", items, None, Options(estimates_from=folder))
    assert "estimate" in rows[0]
    assert rows[1]["left_out"] == "label=noise/label=noise,index=001,estimate.wav: no such file"
    assert rows[2]["left_out"] == "gone.wav: no such file"


# Folders of pairs that are wrong


def write_pair(folder, mixture, source, name="class_id=74/class_id=74,index=000"):
    (folder / name).parent.mkdir(exist_ok=True)
    for part, samples in (("mixture", mixture), ("source", source)):
        if samples is not None:
            audio.write(folder / f"{name},{part}.wav", samples, RATE_HZ)


@pytest.mark.parametrize(
    ("mixture", "source", "says"),
    [
        (noise(0, 1000), noise(1, 999), r"index=000,source\.wav: 999 samples, but its mixture has 1000"),
        (None, noise(1, 1000), r"index=000,mixture\.wav: no such file"),
    ],
)
def test_a_source_without_its_mixture_is_named(tmp_path, mixture, source, says):
    write_pair(tmp_path, mixture, source)
    (item,) = Pairs(tmp_path).plan("test", 100, 0, NO_WORKERS).items
    with pytest.raises(ValueError, match=says):
        Pairs(tmp_path).read(item)


def test_pairs_at_another_rate_or_in_stereo_are_read_as_the_model_needs_them(tmp_path):
    (tmp_path / "class_id=0").mkdir()
    for part in ("mixture", "source"):
        audio.write(tmp_path / f"class_id=0/class_id=0,index=000,{part}.wav", noise(0, (32_000, 2)), 16_000)
    (item,) = Pairs(tmp_path).plan("test", 100, 0, NO_WORKERS).items
    sound = Pairs(tmp_path).read(item)
    assert sound.mixture.shape == sound.source.shape == (64_000,)
    np.testing.assert_allclose(sound.source, audio.resample(noise(0, (32_000, 2)).mean(axis=1), 16_000, RATE_HZ))


@pytest.mark.parametrize("field", ["source", "mixture"])
@pytest.mark.parametrize("name", ["../secret.wav", "/etc/passwd", "class_id=74/../../secret.wav", "a\0b"])
def test_a_list_cannot_name_files_outside_of_the_folder(tmp_path, field, name):
    (tmp_path / "pairs").mkdir()
    audio.write(tmp_path / "secret.wav", noise(0, 1000), RATE_HZ)
    write_pair(tmp_path / "pairs", noise(0, 1000), noise(1, 1000))
    (item,) = Pairs(tmp_path / "pairs").plan("test", 100, 0, NO_WORKERS).items
    with pytest.raises(ValueError, match="outside of its folder"):
        Pairs(tmp_path / "pairs").read(dataclasses.replace(item, **{field: name}))


def test_links_inside_of_the_folder_are_followed(tmp_path):
    """They are its owner's: large data are kept elsewhere."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_pair(tmp_path, noise(0, 1000), noise(1, 1000))
    (folder / "class_id=74").symlink_to(tmp_path / "class_id=74")
    (item,) = Pairs(folder).plan("test", 100, 0, NO_WORKERS).items
    np.testing.assert_array_equal(Pairs(folder).read(item).source, noise(1, 1000))


def test_a_folder_without_pairs_and_a_class_that_is_none_are_named(tmp_path):
    (tmp_path / "class_id=74").mkdir()
    (tmp_path / "class_id=dog").mkdir()
    with pytest.raises(ValueError, match=r"no class_id=N/class_id=N,index=…,source\.wav here"):
        Pairs(tmp_path).plan("test", 100, 0, NO_WORKERS)
    (tmp_path / "class_id=900").mkdir()
    with pytest.raises(ValueError, match="there is no class 900"):
        Pairs(tmp_path).plan("test", 100, 0, NO_WORKERS)
