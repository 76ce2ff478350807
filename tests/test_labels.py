"""The table of benchmark labels, and what a machine id covers."""

import csv
import importlib.resources
import itertools
import re

import pytest

from uss_jax import audioset
from uss_jax.evaluation import labels

FSDKAGGLE2018 = [
    *("Acoustic_guitar", "Applause", "Bark", "Bass_drum", "Burping_or_eructation", "Bus", "Cello", "Chime", "Clarinet"),
    *("Computer_keyboard", "Cough", "Cowbell", "Double_bass", "Drawer_open_or_close", "Electric_piano", "Fart"),
    *("Finger_snapping", "Fireworks", "Flute", "Glockenspiel", "Gong", "Gunshot_or_gunfire", "Harmonica", "Hi-hat"),
    *("Keys_jangling", "Knock", "Laughter", "Meow", "Microwave_oven", "Oboe", "Saxophone", "Scissors", "Shatter"),
    *("Snare_drum", "Squeak", "Tambourine", "Tearing", "Telephone", "Trumpet", "Violin_or_fiddle", "Writing"),
]
MUSDB18 = ["vocals", "bass", "drums", "other"]
SLAKH2100 = [
    *("Bass", "Brass", "Chromatic Percussion", "Drums", "Ethnic", "Guitar", "Organ", "Percussive", "Piano", "Pipe"),
    *("Reed", "Sound Effects", "Sound effects", "Strings", "Strings (continued)", "Synth Lead", "Synth Pad"),
]
# None of AudioSet's 527 classes is at or below these classes of FSD50K.
UNCOVERED = ["/m/0bm0k", "/m/01dwxx", "/m/05mxj0q", "/m/07q8k13"]


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table():
    return rows(importlib.resources.files("uss_jax").joinpath("tables", "benchmark_labels.csv"))


def names(benchmark, label):
    return set(audioset.class_names(labels.classes_of(benchmark, label)))


def covered(mid):
    return set(audioset.class_names(labels.classes_of_mid(mid)))


def assert_disjoint(benchmark, several):
    for one, other in itertools.combinations(several, 2):
        assert audioset.disjoint(labels.classes_of(benchmark, one), labels.classes_of(benchmark, other)), (one, other)


def test_every_row_resolves_and_says_why():
    for row in table():
        found = labels.classes_of(row["benchmark"], row["label"])
        assert found
        assert list(found) == sorted(set(found))
        assert row["reason"].strip()


@pytest.mark.parametrize(
    ("benchmark", "expected"),
    [("fsdkaggle2018", FSDKAGGLE2018), ("musdb18", MUSDB18), ("slakh2100", SLAKH2100), ("voicebank", ["speech"])],
)
def test_each_label_of_a_benchmark_is_there_once(benchmark, expected):
    assert sorted(row["label"] for row in table() if row["benchmark"] == benchmark) == sorted(expected)


def test_there_are_no_other_benchmarks():
    assert {row["benchmark"] for row in table()} == {"fsdkaggle2018", "musdb18", "slakh2100", "voicebank"}


@pytest.mark.parametrize("label", FSDKAGGLE2018)
def test_a_label_of_fsdkaggle_covers_the_class_of_its_name(label):
    name = label.replace("_or_eructation", ", eructation").replace("_or_gunfire", ", gunfire")
    name = name.replace("_or_fiddle", ", fiddle").replace("_", " ")
    assert (name if label != "Oboe" else "Wind instrument, woodwind instrument") in names("fsdkaggle2018", label)


def test_what_a_label_of_fsdkaggle_covers_beside_its_name():
    assert names("fsdkaggle2018", "Bark") == {"Bark"}
    assert names("fsdkaggle2018", "Cough") == {"Cough", "Throat clearing"}
    assert names("fsdkaggle2018", "Snare_drum") == {"Snare drum", "Rimshot", "Drum roll"}
    assert names("fsdkaggle2018", "Oboe") == {"Wind instrument, woodwind instrument"}


def test_no_mixture_of_two_labels_of_fsdkaggle_is_asked_twice_for_a_class():
    assert_disjoint("fsdkaggle2018", FSDKAGGLE2018)


def test_the_stems_of_musdb_are_disjoint_and_cover_all_musical_instruments():
    assert_disjoint("musdb18", MUSDB18)
    together = set().union(*(names("musdb18", label) for label in MUSDB18))
    assert together == covered("/m/04szw") | covered("/m/015lz1")  # Musical instrument, Singing
    assert "Speech" not in together


@pytest.mark.parametrize(
    ("label", "some"),
    [
        ("vocals", {"Singing", "Male singing", "Female singing", "Choir", "Rapping"}),
        ("bass", {"Bass guitar", "Double bass"}),
        ("drums", {"Percussion", "Drum kit", "Snare drum", "Hi-hat", "Bass drum", "Cymbal", "Tambourine", "Cowbell"}),
        ("other", {"Musical instrument", "Electric guitar", "Piano", "Synthesizer", "Violin, fiddle", "Vibraphone"}),
    ],
)
def test_stems_of_musdb(label, some):
    assert some <= names("musdb18", label)


@pytest.mark.parametrize(
    ("label", "some", "none"),
    [
        ("Piano", {"Piano", "Electric piano", "Harpsichord"}, {"Organ", "Synthesizer"}),
        ("Chromatic Percussion", {"Glockenspiel", "Vibraphone", "Tubular bells"}, {"Steelpan", "Percussion"}),
        ("Guitar", {"Guitar", "Acoustic guitar", "Electric guitar"}, {"Bass guitar"}),
        ("Bass", {"Bass guitar", "Double bass"}, {"Guitar"}),
        ("Drums", {"Drum kit", "Snare drum", "Hi-hat", "Bass drum"}, {"Timpani", "Vibraphone"}),
        ("Percussive", {"Drum", "Drum machine", "Steelpan", "Wood block"}, {"Snare drum", "Bass drum", "Percussion"}),
        ("Reed", {"Saxophone", "Clarinet"}, {"Flute"}),
        ("Strings (continued)", {"String section", "Choir"}, {"Cello"}),
    ],
)
def test_families_of_slakh(label, some, none):
    assert some <= names("slakh2100", label)
    assert not none & names("slakh2100", label)


def test_the_speech_of_voicebank_is_the_node_speech():
    assert labels.classes_of("voicebank", "speech") == labels.classes_of_mid("/m/09x0r") == tuple(range(8))


@pytest.mark.parametrize(("benchmark", "label"), [("musdb18", "Vocals"), ("musdb18", "Bark"), ("esc50", "dog")])
def test_an_unknown_label_is_refused(benchmark, label):
    with pytest.raises(ValueError, match=f"'{label}' of a benchmark '{benchmark}'"):
        labels.classes_of(benchmark, label)


def test_a_mid_covers_the_classes_at_or_below_its_node():
    assert covered("/m/05tny_") == {"Bark"}
    assert covered("/m/025rv6n") > {"Fowl", "Chicken, rooster", "Cluck", "Duck", "Quack"}
    assert covered("/m/09hlz4") > {"Breathing", "Cough", "Sneeze"}  # Respiratory sounds, which is no class itself


def test_a_mid_covers_at_least_what_it_does_in_the_tree():
    for mid, node in audioset.nodes().items():
        if node.class_indices:
            assert set(labels.classes_of_mid(mid)) >= set(node.class_indices)


def test_a_node_with_several_parents_is_below_each():
    assert {"Dog", "Cat", "Growling"} < covered("/m/068hy")  # Domestic animals, pets
    assert "Growling" in covered("/m/0bt9lr") & covered("/m/01yrx")  # Dog, Cat
    assert "Doorbell" in covered("/m/07pp_mv") & covered("/m/02dgv")  # Alarm, Door
    assert "Cowbell" in covered("/m/0l14md") & covered("/m/01xq0k1")  # Percussion, Cattle


def test_an_unknown_mid_is_refused():
    with pytest.raises(ValueError, match="'/m/xyzzy' is not the machine id of a node"):
        labels.classes_of_mid("/m/xyzzy")


@pytest.mark.parametrize("mid", UNCOVERED)
def test_a_mid_that_covers_no_class_is_refused(mid):
    with pytest.raises(ValueError, match=re.escape(f"'{audioset.nodes()[mid].name}' ({mid})")):
        labels.classes_of_mid(mid)


def test_labels_of_fsd50k_resolve_by_mid(data_dir):
    truth = data_dir / "fsd50k_mini" / "FSD50K.ground_truth"
    for row in rows(truth / "dev.csv") + rows(truth / "eval.csv"):
        mids = row["mids"].split(",")
        assert len(mids) == len(row["labels"].split(","))
        assert all(labels.classes_of_mid(mid) for mid in mids)


def test_the_vocabulary_of_fsd50k_resolves_but_for_four_classes(data_dir):
    vocabulary = data_dir / "fsd50k_mini" / "FSD50K.ground_truth" / "vocabulary.csv"
    mids = {line.rsplit(",", 1)[1] for line in vocabulary.read_text().splitlines()}
    assert len(mids) == 200
    assert mids >= set(UNCOVERED)
    assert all(labels.classes_of_mid(mid) for mid in mids - set(UNCOVERED))


def test_labels_of_fsdkaggle_resolve_by_the_table(data_dir):
    tables = list((data_dir / "fsdkaggle2018_mini" / "FSDKaggle2018.meta").glob("*.csv"))
    assert tables
    for path in tables:
        assert all(labels.classes_of("fsdkaggle2018", row["label"]) for row in rows(path))


def test_instrument_classes_of_slakh_resolve_by_the_table(data_dir):
    tracks = list((data_dir / "slakh2100_mini").glob("*/*/metadata.yaml"))
    assert tracks
    for path in tracks:
        found = re.findall(r"^ +inst_class: (.+)$", path.read_text(), flags=re.MULTILINE)
        assert found
        assert all(labels.classes_of("slakh2100", label) for label in found)
