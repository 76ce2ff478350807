"""The items of the benchmarks on clips, and the sources of their average queries; no model takes part."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from uss_jax import audio, audioset, dataset, mixing, storage, weak_labels
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips
from uss_jax.evaluation import clips as benchmarks
from uss_jax.evaluation import items as item_lists
from uss_jax.evaluation import run
from uss_jax.evaluation.audioset import AnchorMixtures
from uss_jax.evaluation.clips import Category, Folder
from uss_jax.evaluation.evaluate import Request, make_list
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.workers import Workers

DOG, BARK, RAIN, SPEECH, HELICOPTER = 74, 75, 289, 0, 339
RATE_HZ = 32_000
SEGMENT = 64_000


class Labelled:
    """Stands for a split of a dataset: the labels of its clips."""

    folder = "labelled"

    def __init__(self, *labels):
        self._labels = labels

    def __len__(self):
        return len(self._labels)

    def labels(self, clip):
        return np.array(self._labels[clip])

    def label_pairs(self):
        pairs = [(clip, label) for clip, labels in enumerate(self._labels) for label in labels]
        return tuple(np.array(pairs).T)


@pytest.fixture(scope="module")
def train(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def validation(tones):
    return Clips(tones.dataset, "validation")


def plan_of(benchmark, split="test", per_class=4, seed=0):
    with Workers(0, benchmark) as workers:
        return benchmark.plan(split, per_class, seed, workers)


def anchors_of(clips, seed=0):
    """One anchor of each (clip, label), anywhere in the clip."""
    clip, label = clips.label_pairs()
    start = np.random.default_rng(seed).integers(0, np.maximum(1, clips.samples[clip] - SEGMENT))
    return Anchors(clip, label, start, np.ones(len(clip)))


def anchor_mixtures(path, seed=0):
    anchors = {split: anchors_of(Clips(path, split), seed) for split in dataset.splits(path)}
    return AnchorMixtures(path, anchors=anchors)


def numbers(clips, names):
    """Numbers of clips named `split/id`."""
    ids = clips.clip_ids.tolist()
    assert {name.split("/")[0] for name in names} == {clips.split}
    return [ids.index(name.partition("/")[2]) for name in names]


# Categories


def test_classes_that_always_stand_together_are_one_category(train, validation):
    found = benchmarks.categories(train, validation)[0]
    assert {category.name: category.labels for category in found} == {
        "Speech": (SPEECH,),
        "Dog / Bark": (DOG, BARK),
        "Rain": (RAIN,),
        "Helicopter": (HELICOPTER,),
    }


def test_classes_that_part_in_either_split_are_two_categories():
    together, apart = Labelled((DOG, BARK), (DOG, BARK)), Labelled((DOG, BARK), (DOG,))
    assert [c.name for c in benchmarks.categories(together, together)[0]] == ["Dog / Bark"]
    assert [c.name for c in benchmarks.categories(together, apart)[0]] == ["Dog", "Bark"]
    assert [c.name for c in benchmarks.categories(apart, together)[0]] == ["Dog", "Bark"]


def test_a_class_without_clips_in_either_split_is_not_evaluated_and_named_if_it_has_validation_clips():
    found, untrained = benchmarks.categories(Labelled((DOG,), (RAIN,)), Labelled((DOG,), (SPEECH,)))
    assert found == [Category("Dog", (DOG,))]
    assert untrained == ["Speech"]


def test_the_clips_of_a_category_are_all_that_have_its_labels():
    clips = Labelled((DOG, BARK), (RAIN,), (DOG, BARK, RAIN))
    assert benchmarks.clips_with(clips, Category("Dog / Bark", (DOG, BARK))).tolist() == [0, 2]
    assert benchmarks.clips_with(clips, Category("Rain", (RAIN,))).tolist() == [1, 2]
    assert benchmarks.clips_with(clips, Category("Speech", (SPEECH,))).tolist() == []


# Pairs of clips


def test_pairs_are_a_function_of_dataset_number_and_seed(train, validation):
    found = benchmarks.categories(train, validation)[0]
    chosen = benchmarks.choose_pairs(found, train, per_class=6, seed=0)[0]
    assert benchmarks.choose_pairs(found, train, per_class=6, seed=0)[0] == chosen
    assert benchmarks.choose_pairs(found, train, per_class=6, seed=1)[0] != chosen
    for category in found:  # those of a class do not depend on the other classes
        alone = benchmarks.choose_pairs([category], train, per_class=6, seed=0)[0]
        assert alone == [pair for pair in chosen if pair[0] == category]


def test_the_pairs_of_earlier_results_are_chosen_again():
    clips = Labelled((DOG,), (DOG,), (DOG,), (RAIN,), (RAIN,), (RAIN,))
    chosen = benchmarks.choose_pairs(benchmarks.categories(clips, clips)[0], clips, per_class=4, seed=0)[0]
    assert [(category.name, clip, partner) for category, clip, partner in chosen] == [
        ("Dog", 2, 5),
        ("Dog", 1, 3),
        ("Dog", 0, 4),
        ("Dog", 0, 3),
        ("Rain", 4, 2),
        ("Rain", 5, 1),
        ("Rain", 3, 0),
        ("Rain", 5, 0),
    ]


@pytest.mark.parametrize("per_class", [1, 2, 6, 7])
def test_each_class_has_its_number_of_pairs_and_each_clip_an_equal_share(train, validation, per_class):
    found = benchmarks.categories(train, validation)[0]
    chosen = benchmarks.choose_pairs(found, train, per_class, seed=0)[0]
    assert Counter(category for category, _, _ in chosen) == dict.fromkeys(found, per_class)
    for category in found:
        members = benchmarks.clips_with(train, category).tolist()
        shares = Counter(clip for of, clip, _ in chosen if of == category)
        assert set(shares) <= set(members)
        assert max(shares.values()) - min(shares[clip] for clip in members) <= 1


def test_partners_share_no_label_and_vary(train, validation):
    chosen = benchmarks.choose_pairs(benchmarks.categories(train, validation)[0], train, per_class=30, seed=0)[0]
    for _, clip, partner in chosen:
        assert audioset.disjoint(train.labels(clip), train.labels(partner))
    assert {partner for _, _, partner in chosen} == set(range(len(train)))


def test_where_all_clips_share_a_label_there_is_nothing_to_mix():
    dogs = Labelled((DOG,), (DOG, BARK))
    with pytest.raises(ValueError, match="labelled: no two validation clips without a common label"):
        benchmarks.choose_pairs([Category("Dog", (DOG,))], dogs, per_class=2, seed=0)


def test_a_clip_that_shares_a_label_with_every_other_is_said_to_have_no_partner():
    clips = Labelled((DOG,), (DOG, RAIN), (RAIN,))
    categories = [Category("Dog", (DOG,)), Category("Rain", (RAIN,))]
    pairs, alone = benchmarks.choose_pairs(categories, clips, per_class=4, seed=0)
    assert pairs == [(categories[0], 0, 2)] * 2 + [(categories[1], 2, 0)] * 2
    assert set(alone) == {1}


# The sounds of clips


def test_a_piece_is_two_seconds_of_a_clip_padded_where_it_is_shorter(tones, validation):
    benchmark = Folder(tones.dataset)
    samples = validation.audio(0)
    name = f"validation/{validation.clip_ids[0]}"
    np.testing.assert_array_equal(benchmark.piece(name, 0.0), samples[:SEGMENT])
    np.testing.assert_array_equal(benchmark.piece(name, 1234 / RATE_HZ), samples[1234 : 1234 + SEGMENT])
    rest = samples[len(samples) - 100 :]
    start_s = (len(samples) - 100) / RATE_HZ
    np.testing.assert_array_equal(benchmark.piece(name, start_s), np.pad(rest, (0, SEGMENT - 100)))
    assert not benchmark.piece(name, 1e9).any()


def test_every_start_of_an_anchor_is_met_to_the_sample(small):
    """In seconds, many are not quite what they are in samples."""
    path, _ = small
    samples = Clips(path, "train").audio(2)
    assert len(np.unique(samples[1000:1100])) > 95
    found = [Folder(path).piece("train/rain-0.wav", start / RATE_HZ)[:3] for start in range(1000, 1100)]
    np.testing.assert_array_equal(found, [samples[start : start + 3] for start in range(1000, 1100)])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("validation/cat.wav", r"validation/cat\.wav: no such clip in .*1\.0\.0"),
        ("validation", "validation: no such clip"),
        ("", "has no split ''"),
        ("test/dog-4.wav", "has no split 'test'"),
        ("../validation/dog-4.wav", "has no split '..'"),
    ],
)
def test_a_clip_that_is_not_there_is_named(tones, name, says):
    with pytest.raises(ValueError, match=says):
        Folder(tones.dataset).piece(name, 0.0)


# Folder


def test_items_of_a_folder_are_the_loudest_parts_of_the_chosen_clips(tones, train, validation):
    items, left_out = plan_of(Folder(tones.dataset), per_class=3)
    assert not left_out
    chosen = benchmarks.choose_pairs(benchmarks.categories(train, validation)[0], validation, 3, 0)[0]
    assert [item.label for item in items] == [category.name for category, _, _ in chosen]
    assert numbers(validation, [item.source for item in items]) == [clip for _, clip, _ in chosen]
    assert numbers(validation, [item.partner for item in items]) == [partner for _, _, partner in chosen]
    for item in items:
        for name, start_s in ((item.source, item.start_s), (item.partner, item.partner_start_s)):
            samples = validation.audio(numbers(validation, [name])[0])
            assert start_s * RATE_HZ == audio.loudest_start(samples, SEGMENT, 3_200)
    assert len({item.start_s for item in items}) > 1


def test_the_loudest_two_seconds_are_found_and_of_a_short_clip_its_beginning(small):
    path, sounds = small
    benchmark = Folder(path)
    start_s = benchmarks.loudest_start_s(benchmark, "train/dog-0.wav")
    assert 0.8 < start_s <= 2.5  # it sounds from 2.5 to 2.8 s
    assert np.sum(benchmark.piece("train/dog-0.wav", start_s) ** 2) > 0.99 * np.sum(sounds["dog-0.wav"] ** 2)
    assert benchmarks.loudest_start_s(benchmark, "train/dog-1.wav") == 0.0


@pytest.mark.parametrize("make", [Folder, anchor_mixtures])
def test_a_mixture_is_the_source_and_its_partner_with_equal_energy(tones, make):
    benchmark = make(tones.dataset)
    for item in plan_of(benchmark).items:
        source, partner = (
            benchmark.piece(name, start_s)
            for name, start_s in ((item.source, item.start_s), (item.partner, item.partner_start_s))
        )
        assert item.partner_gain == mixing.energy_ratio(source, partner)
        assert 0.02 < item.partner_gain < 50
        sound = benchmark.read(item)
        np.testing.assert_array_equal(sound.source, source)
        np.testing.assert_allclose(sound.mixture - source, item.partner_gain * partner, atol=1e-6)
        assert np.mean((sound.mixture - source) ** 2) == pytest.approx(np.mean(source**2), rel=1e-4)
        assert sound.sample_rate_hz == RATE_HZ
        assert sound.mixture.shape == (SEGMENT,)
        assert sound.mixture.dtype == np.float32
        np.testing.assert_array_equal(benchmark.query_source(item), source)


@pytest.mark.parametrize("make", [Folder, anchor_mixtures])
@pytest.mark.parametrize("per_class", [1, 3, 10])
def test_every_class_comes_up_equally_often_and_is_numbered(tones, make, per_class):
    items = plan_of(make(tones.dataset), per_class=per_class).items
    counts = Counter(item.label for item in items)
    assert len(counts) == (4 if make is Folder else 5)
    assert set(counts.values()) == {per_class}
    for label in counts:
        assert [item.index for item in items if item.label == label] == list(range(per_class))


@pytest.mark.parametrize("make", [Folder, anchor_mixtures])
def test_items_have_the_label_of_their_source_and_partners_share_none(tones, validation, make):
    benchmark = make(tones.dataset)
    for item in plan_of(benchmark, per_class=10).items:
        clip, partner = numbers(validation, [item.source, item.partner])
        assert set(benchmark.classes(item)) <= set(validation.labels(clip).tolist())
        assert audioset.disjoint(validation.labels(clip), validation.labels(partner))


@pytest.mark.parametrize("make", [Folder, anchor_mixtures])
def test_items_are_a_function_of_the_seed(tones, make):
    benchmark = make(tones.dataset)
    assert plan_of(benchmark, seed=3) == plan_of(make(tones.dataset), seed=3)
    assert plan_of(benchmark, seed=3).items != plan_of(benchmark, seed=4).items


def test_classes_without_training_clips_and_clips_without_partners_are_left_out_by_name(tmp_path):
    rows = ["a.wav,Dog,0", "b.wav,Rain,0", "c.wav,Dog,1", "d.wav,Rain,1", 'e.wav,"Dog,Rain",1', "f.wav,Cat,1"]
    random = np.random.default_rng(0)
    sounds = {f"{name}.wav": random.normal(0, 0.1, 70_000).astype(np.float32) for name in "abcdef"}
    prepare(tmp_path, sounds, rows, held="fold=1")
    items, left_out = plan_of(Folder(tmp_path / "held"), per_class=20)
    assert Counter(item.label for item in items).keys() == {"Dog", "Rain"}
    assert left_out == {"Cat": "no training clip"}  # with the cat, every other clip can be mixed
    sounds.pop("f.wav")
    prepare(tmp_path / "less", sounds, rows[:-1], held="fold=1")
    items, left_out = plan_of(Folder(tmp_path / "less" / "held"), per_class=2)
    assert [(item.source, item.partner) for item in items] == [
        ("validation/c.wav", "validation/d.wav"),
        ("validation/d.wav", "validation/c.wav"),
    ]
    assert left_out == {"validation/e.wav": "no clip without a common label"}


def test_the_classes_of_a_category_are_found_by_its_name(tones):
    benchmark = Folder(tones.dataset)
    found = {item.label: benchmark.classes(item) for item in plan_of(benchmark, per_class=1).items}
    assert found["Dog / Bark"] == (DOG, BARK)
    assert found["Rain"] == (RAIN,)


def test_names_of_classes_can_stand_together_in_one():
    """No name holds what stands between them."""
    assert not [sound.name for sound in audioset.classes() if " / " in sound.name]


# Anchors


def test_mixtures_of_anchors_begin_where_the_anchors_do(tones, validation):
    benchmark = anchor_mixtures(tones.dataset)
    anchors = benchmark.anchors["validation"]
    at = {(int(c), int(label)): int(s) for c, label, s in zip(anchors.clip, anchors.label, anchors.start, strict=True)}
    for item in plan_of(benchmark, per_class=8).items:
        clip, partner = numbers(validation, [item.source, item.partner])
        (label,) = benchmark.classes(item)
        assert round(item.start_s * RATE_HZ) == at[clip, label]
        assert round(item.partner_start_s * RATE_HZ) in [at[partner, of] for of in validation.labels(partner).tolist()]


def test_a_dataset_without_validation_is_evaluated_on_the_clips_that_it_has(small, tones):
    path, _ = small
    benchmark = anchor_mixtures(path.parent / "whole")
    assert not benchmark.has_training()
    assert anchor_mixtures(tones.dataset).has_training()
    items = plan_of(benchmark, per_class=2).items
    assert {item.source.split("/")[0] for item in items} == {"train"}


def test_without_anchors_the_options_that_help_are_named(tones):
    with pytest.raises(ValueError, match=r"needs the anchors of its clips \(--anchors\), or a list .* \(--mixtures\)"):
        plan_of(AnchorMixtures(tones.dataset))


def test_anchors_of_one_class_alone_cannot_be_mixed(tones, validation):
    every = anchors_of(validation)
    dogs = np.isin(every.label, (DOG, BARK))
    only = Anchors(every.clip[dogs], every.label[dogs], every.start[dogs], every.confidence[dogs])
    benchmark = AnchorMixtures(tones.dataset, anchors={"validation": only})
    assert plan_of(benchmark) == ([], {"validation/dog-4.wav": "no clip without a common label"})
    says = r"no item could be made; the first: validation/dog-4\.wav: no clip without a common label"
    with Workers(0, benchmark) as workers, pytest.raises(ValueError, match=says):
        make_list(Request("audioset", tones.dataset, per_class=1), workers)


def test_an_anchor_without_a_partner_is_left_out_by_name_and_the_others_are_mixed(tmp_path):
    random = np.random.default_rng(0)
    sounds = {f"{name}.wav": random.normal(0, 0.1, 70_000).astype(np.float32) for name in "abc"}
    prepare(tmp_path, sounds, ["a.wav,Dog,0", "b.wav,Rain,0", 'c.wav,"Dog,Rain",0'], whole=None)
    items, left_out = plan_of(anchor_mixtures(tmp_path / "whole"), per_class=4)
    assert left_out == {"train/c.wav": "no clip without a common label"}
    pairs = Counter((item.label, item.source, item.partner) for item in items)
    assert pairs == {("Dog", "train/a.wav", "train/b.wav"): 2, ("Rain", "train/b.wav", "train/a.wav"): 2}


def test_files_are_named_after_the_class(tones):
    benchmark = anchor_mixtures(tones.dataset)
    names = {item.label: benchmark.export_name(item) for item in plan_of(benchmark, per_class=1).items}
    assert names["Dog"] == "class_id=74/class_id=74,index=000"
    items = plan_of(Folder(tones.dataset), per_class=1).items
    assert "label=Dog _ Bark/label=Dog _ Bark,index=000" in map(Folder(tones.dataset).export_name, items)


# Sounds that cannot be used


def prepare(folder, sounds, rows, **held_out):
    """Makes datasets of these clips, one for each name of `held_out`."""
    for name, samples in sounds.items():
        audio.write(folder / "audio" / name, samples, RATE_HZ)
    (folder / "labels.csv").write_text("\n".join(["filename,mids,fold", *rows, ""]))
    for name, expression in held_out.items():
        splits = weak_labels.collect([folder / "audio"], [folder / "labels.csv"], held_out=expression)
        storage.store(name, splits, folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_small(tmp_path_factory)


def make_small(tmp_path_factory):
    """A dataset with a silent clip, a short one, and one that sounds once; and its sounds. `whole` is one split."""
    folder = tmp_path_factory.mktemp("small")
    random = np.random.default_rng(0)
    rows, sounds = [], {}
    for kind, label in (("dog", "Dog"), ("rain", "Rain"), ("speech", "Speech")):
        for fold in range(3):
            name = f"{kind}-{fold}.wav"
            samples = random.normal(0, 0.1, 100_000).astype(np.float32)
            if name == "dog-0.wav":
                samples[:80_000] *= 1e-3
                samples[90_000:] *= 1e-3
            if name == "dog-1.wav":
                samples = samples[:20_000]
            if name == "rain-2.wav":
                samples = 5e-5 * samples  # all zeros would not be stored
            sounds[name] = samples
            rows.append(f"{name},{label},{fold}")
    prepare(folder, sounds, rows, held="fold=2", whole=None)
    return folder / "held", sounds


class Half:
    """A system that halves the mixture."""

    def separate(self, items, sounds):
        return [np.float32(0.5) * sound.mixture for sound in sounds]


def reasons_of(benchmark, items, path):
    """Why each item is left out in a run, or "" where it is scored."""
    journal = Journal(path, {})
    journal.begin(item_lists.digest(items), {})
    with Workers(0, benchmark) as workers:
        run.run(benchmark, items, Half(), journal, workers, run.Options())
    return [journal.rows[place].get("left_out", "") for place in item_lists.firsts(items)]


@pytest.mark.parametrize("make", [Folder, anchor_mixtures])
def test_silent_clips_stay_in_the_list_and_are_left_out_by_the_run_as_sources_and_as_partners(small, make, tmp_path):
    path, _ = small
    benchmark = make(path)
    items, left_out = plan_of(benchmark, per_class=8)
    assert not left_out
    assert Counter(item.label for item in items) == {"Dog": 8, "Rain": 8, "Speech": 8}
    reasons = reasons_of(benchmark, items, tmp_path / "r.jsonl")
    for item, why in zip(items, reasons, strict=True):
        if item.label == "Rain":
            assert why == "silent source"
        elif "rain" in item.partner:
            assert why == "validation/rain-2.wav: silent partner"
        else:
            assert why == ""
            assert item.partner_gain == pytest.approx(1, rel=0.2)
    assert set(reasons) == {"silent source", "validation/rain-2.wav: silent partner", ""}


@pytest.mark.parametrize("make", [Folder, anchor_mixtures])
def test_clips_that_cannot_be_read_stay_in_the_list_without_a_gain_and_are_left_out_by_the_run(tones, make, tmp_path):
    made = make(tones.dataset)

    class Damaged(type(made)):
        def piece(self, name, start_s):
            if "rain" in name:
                raise ValueError(f"{self.data}/{name}: damaged")
            return super().piece(name, start_s)

    benchmark = Damaged(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})
    items, left_out = plan_of(benchmark, per_class=8)
    assert not left_out
    sound = [dataclasses.replace(item, partner_gain=0.0) for item in plan_of(made, per_class=8).items]
    assert [dataclasses.replace(item, partner_gain=0.0) for item in items] == sound
    damaged = ["rain" in item.source + item.partner for item in items]
    assert [item.partner_gain == 0 for item in items] == damaged
    assert 8 < sum(damaged) < len(items)
    why = "validation/rain-4.wav: damaged"
    assert reasons_of(benchmark, items, tmp_path / "r.jsonl") == [why if of_item else "" for of_item in damaged]
