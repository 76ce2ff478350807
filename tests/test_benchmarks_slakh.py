"""Slakh2100, against another way to read it, and what is left out of tracks that are not whole."""

from collections import Counter

import librosa
import numpy as np
import pytest
import soundfile
import yaml

from uss_jax import audioset
from uss_jax.evaluation.slakh2100 import Slakh2100
from uss_jax.evaluation.workers import Workers

RATE_HZ = 32_000


def plan(benchmark, split="test", per_class=100, seed=1234):
    with Workers(0, benchmark) as workers:
        return benchmark.plan(split, per_class, seed, workers)


def noise(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.2, 0.2, count).astype(np.float32)


# The mini set


def reference_items(folder, per_class):
    """Track, stem and beginning of every segment that the reference's script chooses, by plugin_name."""
    candidates = {}
    for track in sorted(folder.iterdir()):
        for key, stem in yaml.safe_load((track / "metadata.yaml").read_text())["stems"].items():
            samples, rate_hz = librosa.load(track / f"stems/{key}.flac", sr=None, mono=True)
            segments = librosa.util.frame(samples, frame_length=2 * rate_hz, hop_length=2 * rate_hz)
            active = np.flatnonzero(np.abs(segments).max(axis=0) > 0.1)
            candidates.setdefault(stem["plugin_name"], []).extend((track.name, key, 2.0 * i) for i in active)
    random = np.random.RandomState(1234)
    chosen = {label: found for label, found in candidates.items() if len(found) > 10}
    for label, found in chosen.items():
        if len(found) >= per_class:
            order = random.choice(np.arange(len(found)), size=per_class, replace=False)
            chosen[label] = [found[i] for i in order]
    return chosen


@pytest.fixture(scope="module")
def slakh(data_dir):
    return data_dir / "slakh2100_mini"


@pytest.mark.parametrize(
    ("split", "per_class"), [("train", 100), ("train", 5), ("test", 100), ("test", 13), ("test", 3)]
)
def test_the_segments_are_those_that_the_references_script_chooses(slakh, split, per_class):
    found, expected = plan(Slakh2100(slakh), split, per_class), reference_items(slakh / split, per_class)
    assert len(expected) == 4
    assert list(dict.fromkeys(item.label for item in found.items)) == list(expected)
    for label, places in expected.items():
        assert len(places) == per_class or 10 < len(places) < per_class
        items = [item for item in found.items if item.label == label]
        assert [item.index for item in items] == list(range(len(items)))
        for item, (track, key, start_s) in zip(items, places, strict=True):
            names = f"{split}/{track}/stems/{key}.flac", f"{split}/{track}/mix.flac"
            assert (item.source, item.mixture, item.start_s) == (*names, start_s)
    assert all("segments, of which more than 10 are needed" in why for why in found.left_out.values())


def test_segments_are_cut_at_the_original_rate_and_then_resampled(slakh):
    items = plan(Slakh2100(slakh), per_class=4).items
    assert max(item.start_s for item in items) > 4
    for item in items:
        sound = Slakh2100(slakh).read(item)
        for name, samples in ((item.source, sound.source), (item.mixture, sound.mixture)):
            start = int(44_100 * item.start_s)
            whole, rate_hz = soundfile.read(slakh / name, dtype="float32")
            piece = librosa.resample(whole[start : start + 88_200], orig_sr=rate_hz, target_sr=RATE_HZ)
            np.testing.assert_allclose(samples, piece, atol=1e-6)
        assert len(sound.source) == 2 * RATE_HZ
        assert np.abs(sound.source).max() > 0.1 - 0.02


def test_items_are_grouped_by_family_which_says_what_classes_they_are(slakh):
    families = {}
    for item in plan(Slakh2100(slakh), per_class=4).items:
        track, key = item.source.split("/")[1], item.source[-8:-5]
        stems = yaml.safe_load((slakh / f"test/{track}/metadata.yaml").read_text())["stems"]
        assert (item.label, item.group) == (stems[key]["plugin_name"], stems[key]["inst_class"])
        families.setdefault(item.group, set()).add(Slakh2100(slakh).classes(item))
    names = {family: set(audioset.class_names(*classes)) for family, classes in families.items()}
    assert set(names) == {"Drums", "Bass", "Piano", "Reed"}
    assert {"Drum kit", "Snare drum"} <= names["Drums"]
    assert {"Piano", "Electric piano"} <= names["Piano"]
    assert "Saxophone" in names["Reed"]
    assert not names["Drums"] & names["Piano"]


def test_a_seed_gives_the_same_items_always_and_another_seed_others(slakh):
    assert plan(Slakh2100(slakh), per_class=5) == plan(Slakh2100(slakh), per_class=5)
    one, other = (plan(Slakh2100(slakh), per_class=5, seed=seed).items for seed in (1, 2))
    assert one != other
    assert Counter(item.label for item in one) == Counter(item.label for item in other)


# Tracks that are not whole


def write_track(data, name, stems, seconds=24, left_out=(), rate_hz=8000):
    """A track of noise: `stems` are the rows of metadata.yaml, `left_out` the files that are not written."""
    folder = data / "test" / name
    (folder / "stems").mkdir(parents=True)
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"UUID": "0", "stems": stems}))
    for file in {f"stems/{key}.flac" for key in stems} | {"mix.flac"}:
        if file not in left_out:
            soundfile.write(folder / file, noise(seconds * rate_hz), rate_hz)
    return folder


def stem(name="piano.nkm", family="Piano", **more):
    return {"plugin_name": name, "inst_class": family} | more


def test_what_is_missing_or_broken_is_left_out_by_name_and_what_was_never_rendered_is_no_error(tmp_path):
    two = {"S00": stem(), "S01": stem("bass.nkm", "Bass")}
    write_track(tmp_path, "Track1", two | {"S02": stem(audio_rendered=False)}, left_out=["stems/S02.flac"])
    write_track(tmp_path, "Track2", {"S00": stem(audio_rendered=True), "S01": stem()}, left_out=["stems/S00.flac"])
    broken = write_track(tmp_path, "Track3", two)
    (broken / "stems/S00.flac").write_bytes((broken / "stems/S00.flac").read_bytes()[:30])
    write_track(tmp_path, "Track4", two, left_out=["mix.flac"])
    write_track(tmp_path, "Track5", two)
    (tmp_path / "test/Track5/metadata.yaml").unlink()
    (tmp_path / "test/ATTRIBUTION.md").write_text("no track")
    found = plan(Slakh2100(tmp_path))
    assert set(found.left_out) == {
        "test/Track2/stems/S00.flac",
        "test/Track3/stems/S00.flac",
        "test/Track4/mix.flac",
        "test/Track5",
    }
    assert not any(str(tmp_path) in why for why in found.left_out.values())
    sources = Counter(item.source for item in found.items)
    pieces = ("1/stems/S00", "1/stems/S01", "2/stems/S01", "3/stems/S01")
    assert sources == {f"test/Track{piece}.flac": 12 for piece in pieces}


HOSTILE = [
    "stems: !!python/object/apply:os.mkdir [made]",
    "- a\n- list",
    "stems: [a, list]",
    "stems:\n",
    "",
    "stems: {S00: piano}",
    "stems: {S00: {plugin_name: piano.nkm}}",
    "stems: {S00: {plugin_name: [piano], inst_class: Piano}}",
    "stems: {S00: {plugin_name: piano.nkm, inst_class: Piano}, 7: {plugin_name: a, inst_class: b}}",
    "stems: {../../../outside: {plugin_name: piano.nkm, inst_class: Piano}}",
    "date: 2020-13-45\nstems: {}",
    "stems: &a {S00: *a}",
    "stems: {S00: [",
    "\xff\xfe\x00\x80",
    "[" * 20_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_metadata_that_is_broken_or_hostile_is_left_out_by_name(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    write_track(data, "Track1", {"S00": stem()})
    soundfile.write(tmp_path / "outside.flac", noise(24 * 8000), 8000)
    soundfile.write(tmp_path / "data/outside.flac", noise(24 * 8000), 8000)
    hostile = write_track(data, "Track2", {"S00": stem()})
    (hostile / "metadata.yaml").write_bytes(text.encode("latin-1"))
    found = plan(Slakh2100(data))
    assert {item.source for item in found.items} == {"test/Track1/stems/S00.flac"}
    assert set(found.left_out) == {"test/Track2"}
    assert str(data) not in found.left_out["test/Track2"]
    assert "\n" not in found.left_out["test/Track2"]
    assert not (tmp_path / "made").exists()


def test_a_stem_whose_name_is_too_long_for_a_file_is_left_out(tmp_path):
    write_track(tmp_path, "Track1", {"S00": stem()})
    track = write_track(tmp_path, "Track2", {})
    (track / "metadata.yaml").write_text(yaml.safe_dump({"stems": {"S" * 300: stem()}}))
    found = plan(Slakh2100(tmp_path))
    assert {item.source for item in found.items} == {"test/Track1/stems/S00.flac"}
    assert [name.split("/")[1] for name in found.left_out] == ["Track2"]


def test_peaks_of_a_tenth_and_ten_segments_are_not_enough(tmp_path):
    write_track(tmp_path, "Track1", {"S00": stem("few"), "S01": stem("soft"), "S02": stem("enough")}, seconds=23)
    folder = tmp_path / "test/Track1/stems"
    soundfile.write(folder / "S00.flac", noise(20 * 8000), 8000)
    soundfile.write(folder / "S01.flac", np.round(0.4 * noise(24 * 8000), 3), 8000)
    found = plan(Slakh2100(tmp_path))
    assert {item.label for item in found.items} == {"enough"}
    assert [item.start_s for item in found.items] == [2.0 * i for i in range(11)]  # a last part segment is none
    assert set(found.left_out) == {"few (test)", "soft (test)"}
    with pytest.raises(ValueError, match="train: no tracks of Slakh2100 here"):
        plan(Slakh2100(tmp_path), "train")
