"""FSDKaggle2018 and FSD50K, each against another way to read it, and what a run leaves out of them."""

import csv
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from uss_jax import audio, audioset
from uss_jax.evaluation.fsd import Fsd50k, FsdKaggle2018
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.run import Options, run
from uss_jax.evaluation.workers import Workers

RATE_HZ = 32_000
FOLDERS = {FsdKaggle2018: "fsdkaggle2018_mini", Fsd50k: "fsd50k_mini"}
KAGGLE_TABLES = {
    "train": "FSDKaggle2018.meta/train_post_competition.csv",
    "test": "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv",
}


def plan(benchmark, split="test", per_class=100, seed=1234):
    with Workers(0, benchmark) as workers:
        return benchmark.plan(split, per_class, seed, workers)


def noise(seconds, rate_hz, seed=0, peak=0.5, channels=1):
    samples = np.random.default_rng(seed).uniform(-peak, peak, (round(seconds * rate_hz), channels))
    return samples.astype(np.float32)


class Nothing:
    """Leaves mixtures as they are."""

    def separate(self, items, sounds):
        return [sound.mixture for sound in sounds]


def left_out_of(benchmark, items, folder):
    """Why a run leaves items out, by source; "" for those that have scores."""
    journal = Journal(folder / "R.journal.jsonl", {})
    journal.begin("list", {})
    with Workers(0, benchmark) as workers:
        run(benchmark, items, Nothing(), journal, workers, Options(batch_size=2))
    return {items[place].source: row.get("left_out", "") for place, row in journal.rows.items()}


def clips_of(data, benchmark, split):
    """File and label of every clip, as the reference reads the tables."""
    if benchmark is FsdKaggle2018:
        with (data / KAGGLE_TABLES[split]).open() as file:
            rows = csv.DictReader(file)
            return [(data / f"FSDKaggle2018.audio_{split}" / row["fname"], row["label"]) for row in rows]
    part = {"train": "dev", "test": "eval"}[split]
    with (data / f"FSD50K.ground_truth/{part}.csv").open() as file:
        rows = csv.DictReader(file)
        return [(data / f"FSD50K.{part}_audio/{row['fname']}.wav", row["labels"].split(",")[0]) for row in rows]


def reference_mixtures(clips, per_class):
    """Label, source and partner of every mixture that the reference's scripts make of clips."""
    random, counts, found = np.random.RandomState(1234), Counter(), []
    while any(counts[label] < per_class for _, label in clips):
        for i in random.permutation(len(clips)):
            (source, label), (partner, other) = clips[i], clips[(i + 1) % len(clips)]
            if label != other and counts[label] < per_class:
                counts[label] += 1
                found.append((label, counts[label] - 1, source, partner))
    return sorted(found, key=lambda row: [label for label, *_ in found].index(row[0]))


def reference_segment(path):
    samples, _ = librosa.load(path, sr=RATE_HZ, mono=True)
    return np.tile(samples, 2 * RATE_HZ // len(samples) + 1)[: 2 * RATE_HZ]


def reference_gain(source, partner):
    energies = [np.mean(np.square(samples, dtype=np.float64)) for samples in (source, partner)]
    return np.clip(np.sqrt(energies[0] / max(energies[1], 1e-10)), 0.02, 50)


def assert_as_in_the_reference(data, benchmark, split, per_class):
    found, segments, sounds = plan(benchmark(data), split, per_class), {}, {}
    expected = reference_mixtures(clips_of(data, benchmark, split), per_class)
    assert [(i.label, i.index, data / i.source, data / i.partner) for i in found.items] == expected
    assert not found.left_out
    for item in found.items:
        names = data / item.source, data / item.partner
        for name in names:
            segments.setdefault(name, reference_segment(name) if name not in segments else None)
        source, partner = (segments[name] for name in names)
        np.testing.assert_allclose(benchmark(data).query_source(item), source, atol=1e-6)
        if split == "test" and names not in sounds:
            sounds[names] = benchmark(data).read(item)
            assert item.partner_gain == pytest.approx(reference_gain(source, partner), rel=1e-5)
            np.testing.assert_allclose(sounds[names].source, source, atol=1e-6)
            mixture = source + reference_gain(source, partner) * partner
            np.testing.assert_allclose(sounds[names].mixture, mixture, atol=1e-5)
            assert sounds[names].mixture.dtype == np.float32
    return found.items


@pytest.mark.parametrize("per_class", [3, 100])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("benchmark", [FsdKaggle2018, Fsd50k])
def test_the_mixtures_are_those_that_the_references_scripts_make(benchmark, split, per_class, data_dir):
    items = assert_as_in_the_reference(data_dir / FOLDERS[benchmark], benchmark, split, per_class)
    assert Counter(item.label for item in items).most_common()[-1][1] == per_class
    assert len({item.label for item in items}) == 6


def write_kaggle(data, clips, split="test", columns=("fname", "label")):
    """A data set of these clips: name, label, samples, rate. No file is written where there are no samples."""
    table = data / KAGGLE_TABLES[split]
    for folder in (table.parent, data / f"FSDKaggle2018.audio_{split}"):
        folder.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows((name, label) for name, label, *_ in clips)
    for name, _, *content in clips:
        if content:
            soundfile.write(data / f"FSDKaggle2018.audio_{split}" / name, *content)
    return data


CLIPS = [
    ("a.wav", "Loud", noise(2.4, 44_100, 1, 1.0), 44_100),
    ("b.wav", "Quiet", noise(0.3, 22_050, 2, 1e-3), 22_050),  # the gain would be 1000 and 0.001
    ("c.wav", "Loud", noise(7.0, 48_000, 3, 0.2, channels=2), 48_000),
    ("d.wav", "Loud", noise(2.0, 44_100, 4), 44_100),  # as the partner of the one before, of the same label
    ("e.wav", "Other", noise(1.999, 44_100, 5), 44_100),
]


def test_long_and_short_quiet_and_stereo_clips_are_mixed_as_in_the_reference(tmp_path):
    items = assert_as_in_the_reference(write_kaggle(tmp_path, CLIPS), FsdKaggle2018, "test", 5)
    gains = {item.source[-5]: item.partner_gain for item in items}
    assert set(gains) == set("abde")
    assert gains["a"] == pytest.approx(50)
    assert gains["b"] == pytest.approx(0.02)
    assert 0.5 < gains["d"] < 2


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000, 96_000])
def test_reading_the_beginning_of_a_clip_gives_the_samples_of_the_whole_clip(tmp_path, rate_hz, channels):
    for seconds in (0.01, 1.99, 2.0, 2.2, 2.5, 2.51, 9.0):
        soundfile.write(tmp_path / "a.wav", noise(seconds, rate_hz, channels=channels), rate_hz, "FLOAT")
        whole = audio.resample(audio.to_mono(audio.read(tmp_path / "a.wav")[0]), rate_hz, RATE_HZ)
        piece = FsdKaggle2018(tmp_path).piece("a.wav", 0.0)
        np.testing.assert_allclose(piece, np.resize(whole[: 2 * RATE_HZ], 2 * RATE_HZ), atol=1e-6)


def test_another_seed_gives_another_order_and_the_same_seed_the_same(tmp_path):
    write_kaggle(tmp_path, CLIPS)
    assert plan(FsdKaggle2018(tmp_path)) == plan(FsdKaggle2018(tmp_path))
    assert plan(FsdKaggle2018(tmp_path), seed=1).items != plan(FsdKaggle2018(tmp_path), seed=2).items


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gone.wav", "no such file"),
        ("../../outside.wav", "outside of its folder"),
        ("sub/../../../outside.wav", "outside of its folder"),
        ("{outside}", "no such file"),
        ("link.wav", "no such file"),
        ("", "a folder, where an audio file was expected"),
        ("no\0name.wav", "outside of its folder"),
        ("x" * 300, "no such file"),
        ("text.wav", "not readable as audio"),
        ("empty.wav", "holds no samples"),
        ("nan.wav", "NaN"),
        ("silence.wav", "silent"),
    ],
)
def test_what_cannot_be_used_is_left_out_by_name_and_nothing_outside_is_read(tmp_path, name, why):
    outside = tmp_path / "outside.wav"
    soundfile.write(outside, noise(2.0, 8000), 8000)
    name = name.format(outside=outside)
    data = write_kaggle(tmp_path / "data", [*CLIPS[:2], (name, "Loud"), *CLIPS[4:], ("silence2.wav", "Quiet")])
    folder = data / "FSDKaggle2018.audio_test"
    (folder / "link.wav").symlink_to(tmp_path / "gone.wav")
    (folder / "text.wav").write_text("RIFF, but no more")
    soundfile.write(folder / "empty.wav", np.zeros(0), 8000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan), 8000, "FLOAT")
    for silence in ("silence.wav", "silence2.wav"):
        soundfile.write(folder / silence, np.zeros(16_000), 8000)
    found = plan(FsdKaggle2018(data), per_class=2)
    assert not found.left_out
    sources = [f"FSDKaggle2018.audio_test/{clip}" for clip in ("a.wav", "b.wav", name, "e.wav", "silence2.wav")]
    assert {item.source for item in found.items} == set(sources)  # each is the partner of the one before
    gains = {item.source: item.partner_gain for item in found.items}
    assert gains[sources[0]] == pytest.approx(50)
    assert set(gains.values()) == {gains[sources[0]], 0}
    left_out = left_out_of(FsdKaggle2018(data), found.items, tmp_path)
    assert {source for source, reason in left_out.items() if not reason} == {sources[0]}
    assert why in left_out[sources[1]]
    assert why in left_out[sources[2]]
    assert "silent partner" in left_out[sources[3]]
    assert left_out[sources[4]] == "silent source"
    assert not any(str(data) in reason for reason in left_out.values())


def test_a_level_that_was_never_measured_is_not_taken_for_one_where_the_file_was_repaired(tmp_path):
    data = write_kaggle(tmp_path / "data", [*CLIPS[:4], ("e.wav", "Other")])
    items = plan(FsdKaggle2018(data), per_class=2).items
    write_kaggle(data, CLIPS)
    left_out = left_out_of(FsdKaggle2018(data), items, tmp_path)
    assert {source[-5:]: why[-10:] for source, why in left_out.items() if why} == {
        "d.wav": "begin anew",
        "e.wav": "begin anew",
    }
    assert not any(left_out_of(FsdKaggle2018(data), plan(FsdKaggle2018(data)).items, tmp_path).values())


@pytest.mark.parametrize("folder", ["data", "data/", "sub/../data", "./data"])
def test_a_reason_holds_no_folder_of_the_data_however_it_is_named(tmp_path, folder):
    write_kaggle(tmp_path / "data", [*CLIPS[:4], ("e.wav", "Other")])
    (tmp_path / "sub").mkdir()
    benchmark = FsdKaggle2018(Path(f"{tmp_path}/{folder}"))
    left_out = left_out_of(benchmark, plan(benchmark, per_class=2).items, tmp_path)
    assert left_out["FSDKaggle2018.audio_test/e.wav"] == "FSDKaggle2018.audio_test/e.wav: no such file"


def test_links_in_the_folder_of_the_data_are_followed(tmp_path):
    data = write_kaggle(tmp_path / "data", CLIPS)
    found = plan(FsdKaggle2018(data))
    folder = data / "FSDKaggle2018.audio_test"
    (folder / "a.wav").rename(tmp_path / "elsewhere.wav")
    (folder / "a.wav").symlink_to(tmp_path / "elsewhere.wav")
    folder.rename(tmp_path / "audio")
    folder.symlink_to(tmp_path / "audio")
    (tmp_path / "link").symlink_to(data)
    assert plan(FsdKaggle2018(tmp_path / "link")) == found
    assert not any(left_out_of(FsdKaggle2018(tmp_path / "link"), found.items, tmp_path).values())


@pytest.mark.parametrize("folder", [".", "..", "../data", "sub/.."])
def test_names_outside_of_a_folder_that_is_named_from_within_are_refused(tmp_path, monkeypatch, folder):
    data = write_kaggle(tmp_path / "data", CLIPS)
    (data / "sub").mkdir()
    monkeypatch.chdir(data / "sub" if folder == ".." else data)
    for name in ("../outside.wav", "../../outside.wav", f"{tmp_path}/outside.wav"):
        with pytest.raises(ValueError, match="names a file outside of its folder"):
            FsdKaggle2018(Path(folder)).piece(name, 0.0)
    assert FsdKaggle2018(Path(folder)).piece("FSDKaggle2018.audio_test/a.wav", 0.0).any()


def test_a_clip_id_of_fsd50k_that_leads_elsewhere_is_left_out_by_name(tmp_path):
    soundfile.write(tmp_path / "outside.wav", noise(2.0, 8000), 8000)
    data = write_fsd50k(tmp_path / "data", [("1", "A"), ("../../outside", "B"), ("2", "A"), ("3", "B")])
    found = plan(Fsd50k(data), per_class=5)
    assert not found.left_out
    left_out = left_out_of(Fsd50k(data), found.items, tmp_path)
    why = "'FSD50K.eval_audio/../../outside.wav': names a file outside of its folder"
    names = ("1.wav", "../../outside.wav", "2.wav", "3.wav")  # the first has it as its partner
    assert left_out == dict(zip((f"FSD50K.eval_audio/{name}" for name in names), (why, why, "", ""), strict=True))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("fname,class\na.wav,Loud\n", r"clips\.csv: has no column 'label'"),
        ("fname,label\na.wav,Loud,1\n", r"clips\.csv: line 2 has not 2 cells"),
        ("fname,label\n", "no two neighbouring clips of different labels"),
        ("fname,label\na.wav,Loud\nc.wav,Loud\n", "no two neighbouring clips of different labels"),
        ("", r"clips\.csv: has no column 'fname'"),
        (None, r"clips\.csv: no such file"),
        ("fname,label\n\xff", r"clips\.csv: not a CSV table"),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(tmp_path, rows, says):
    table = write_kaggle(tmp_path, CLIPS) / KAGGLE_TABLES["test"]
    table.unlink() if rows is None else table.write_bytes(rows.encode("latin-1"))
    with pytest.raises(ValueError, match=says) as error:
        plan(FsdKaggle2018(tmp_path))
    assert "\n" not in str(error.value)


def write_fsd50k(data, clips, mids="/m/05tny_", columns="fname,labels,mids"):
    for folder in ("FSD50K.ground_truth", "FSD50K.eval_audio"):
        (data / folder).mkdir(parents=True)
    rows = [f'{name},"{label},Parent","{mids},/m/0jbk"' for name, label in clips]
    (data / "FSD50K.ground_truth/eval.csv").write_text("\n".join([columns, *rows]))
    for name in "123":
        soundfile.write(data / f"FSD50K.eval_audio/{name}.wav", noise(1.0, 8000, int(name)), 8000)
    return data


def test_a_table_of_fsd50k_without_labels_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"eval\.csv: has no column 'labels'"):
        plan(Fsd50k(write_fsd50k(tmp_path, [("1", "A")], columns="fname,label,mids")))


def test_labels_of_fsd50k_stand_for_classes_by_their_machine_ids(data_dir):
    benchmark = Fsd50k(data_dir / "fsd50k_mini")
    items = plan(benchmark, per_class=1).items
    assert {item.label: audioset.class_names(benchmark.classes(item)) for item in items} == {
        "Bark": ["Bark"],
        "Chicken_and_rooster": ["Chicken, rooster", "Cluck", "Crowing, cock-a-doodle-doo"],
        "Rain": ["Rain", "Raindrop", "Rain on surface"],
        "Sneeze": ["Sneeze"],
        "Tick-tock": ["Tick-tock"],
        "Waves_and_surf": ["Waves, surf"],
    }


@pytest.mark.parametrize(
    ("mid", "says"), [("/m/0bm0k", "no AudioSet class is at or below 'Crash cymbal'"), ("/m/nothing", "/m/nothing")]
)
def test_a_label_of_fsd50k_without_a_class_is_named(tmp_path, mid, says):
    benchmark = Fsd50k(write_fsd50k(tmp_path, [("1", "A"), ("2", "B")], mids=mid))
    with pytest.raises(ValueError, match=says):
        benchmark.classes(Item("A", 0, "any"))
    with pytest.raises(ValueError, match="no machine id of the label 'C'"):
        benchmark.classes(Item("C", 0, "any"))
