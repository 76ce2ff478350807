"""A stored dataset, read back."""

import hashlib
import pickle
import tracemalloc

import numpy as np
import pytest

from uss_jax import audio, dataset, storage, weak_labels
from uss_jax.dataset import Clips
from uss_jax.weak_labels import ClipFile

RATE_HZ = 32_000
DOG, BARK, SPEECH = 74, 75, 0


def noise(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def sound(folder, name, count=4000, seed=0, subtype="FLOAT"):
    audio.write(folder / name, noise(count, seed), RATE_HZ, subtype)
    return ClipFile(name, folder, name, (DOG,))


# Audio and labels


def test_clips_come_back_within_half_a_16_bit_step(tmp_path):
    clips = [sound(tmp_path, f"{i}.wav", count=4000 + i, seed=i) for i in range(3)]
    clips = Clips(storage.store("three", {"train": clips}, tmp_path / "out"), "train")
    assert clips.samples.tolist() == [4000, 4001, 4002]
    for i in range(3):
        samples = clips.audio(i)
        assert samples.dtype == np.float32
        assert np.abs(samples - noise(4000 + i, seed=i).clip(-1, 32767 / 32768)).max() <= 0.5 / 32768


def test_16_bit_files_come_back_to_the_bit_and_loud_ones_are_clipped(tmp_path):
    quiet = sound(tmp_path, "a.wav", subtype="PCM_16")
    audio.write(tmp_path / "loud.wav", np.tile(np.float32([2.0, -2.0, 0.5]), 2000), RATE_HZ)
    loud = ClipFile("loud.wav", tmp_path, "loud.wav", (1,))
    clips = Clips(storage.store("two", {"train": [quiet, loud]}, tmp_path / "out"), "train")
    np.testing.assert_array_equal(clips.audio(0), audio.read(quiet.path)[0])
    assert clips.audio(1)[:3].tolist() == [32767 / 32768, -1.0, 0.5]


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


def test_a_part_of_a_clip_is_that_part(tones):
    clips = Clips(tones.dataset, "train")
    whole = clips.audio(1)
    np.testing.assert_array_equal(clips.audio(1, 5000, 64_000), whole[5000:69_000])
    np.testing.assert_array_equal(clips.audio(1, 90_000), whole[90_000:])
    np.testing.assert_array_equal(clips.audio(1, 90_000, 64_000), whole[90_000:])
    assert len(whole) == 96_000


def test_clips_pickle_as_where_they_are(tones):
    clips = Clips(tones.dataset, "train")
    expected = clips.audio(3)
    assert len(clips.clip_ids) == 12
    content = pickle.dumps(clips)
    assert len(content) < 500
    np.testing.assert_array_equal(pickle.loads(content).audio(3), expected)


def test_a_sum_of_splits_is_one_after_the_other(tones):
    parts = [Clips(tones.dataset, split) for split in ("validation", "train")]
    both = Clips(tones.dataset, "validation+train")
    assert len(both) == 4 + 12
    assert both.clip_ids.tolist() == parts[0].clip_ids.tolist() + parts[1].clip_ids.tolist()
    np.testing.assert_array_equal(both.samples, np.concatenate([part.samples for part in parts]))
    for clip in range(16):
        part, number = (parts[0], clip) if clip < 4 else (parts[1], clip - 4)
        np.testing.assert_array_equal(both.audio(clip), part.audio(number))
        assert both.labels(clip).tolist() == part.labels(number).tolist()
    pairs, labels = both.label_pairs()
    assert (pairs.dtype, labels.dtype) == (np.int32, np.int16)
    assert pairs[:7].tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert labels.tolist() == [*parts[0].label_pairs()[1], *parts[1].label_pairs()[1]]


def test_two_million_clips_take_less_than_50_mb_without_their_ids_and_are_read_in_little_more(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "dataset_info.json").touch()
    whole, pairs = 2_041_789, 0  # of AudioSet
    for split, count in (("train", 22_160), ("unbalanced", whole - 22_160)):
        counts = random.integers(1, 5, count)  # 2.5 on average; AudioSet has 2.7
        arrays = {"samples": np.full(count, 320_000, np.int32), "labels": np.zeros(counts.sum(), np.int16)}
        np.savez(tmp_path / f"index-{split}.npz", **arrays, label_offsets=np.concatenate([[0], np.cumsum(counts)]))
        pairs += counts.sum()
    tracemalloc.start()
    clips = Clips(tmp_path, "train+unbalanced")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(clips) == whole
    assert len(clips.label_pairs()[0]) == pairs
    arrays = [value for value in vars(clips).values() if isinstance(value, np.ndarray)]
    assert whole * 4 < sum(array.nbytes for array in arrays) < 30e6
    assert kept < 30e6
    assert peak - kept < 45e6


# What tells datasets apart


def test_a_fingerprint_is_of_names_lengths_and_labels(tmp_path):
    a, b, longer = (sound(tmp_path, f"{i}.wav", count) for i, count in enumerate((4000, 4000, 4001)))
    variants = {
        "one": [a, b],
        "other_names": [b, a],
        "other_length": [a, longer],
        "other_label": [a, ClipFile("b", tmp_path, b.name, (BARK,))],
        "labels_elsewhere": [ClipFile("a", tmp_path, a.name, (DOG, DOG)), ClipFile("b", tmp_path, b.name, ())],
    }
    prints = {
        name: Clips(storage.store(name, {"train": clips}, tmp_path / "out"), "train").fingerprint()
        for name, clips in variants.items()
    }
    assert len(set(prints.values())) == 5
    again = storage.store("again", {"train": [a, b]}, tmp_path / "elsewhere")
    assert Clips(again, "train").fingerprint() == prints["one"]
    assert all(len(digest) == 64 for digest in prints.values())


def test_a_fingerprint_is_of_the_arrays_however_their_file_is_compressed(tmp_path):
    clips = [sound(tmp_path, f"{i}.wav", 4000 + i) for i in range(3)]
    stored = Clips(storage.store("three", {"train": clips}, tmp_path), "train")
    text = b"3 3\n0.wav\n1.wav\n2.wav\n"
    numbers = np.array([4000, 4001, 4002], "<i4").tobytes() + np.arange(4, dtype="<i8").tobytes()
    expected = hashlib.sha256(text + numbers + np.full(3, DOG, "<i2").tobytes()).hexdigest()
    assert stored.fingerprint() == expected
    path = dataset.index_path(stored.folder, "train")
    with np.load(path) as file:
        np.savez(path, **file)  # uncompressed
    assert Clips(stored.folder, "train").fingerprint() == expected


def test_a_sum_of_splits_has_a_fingerprint_of_its_own(tones):
    sums = ("train", "validation", "train+validation", "validation+train")
    assert len({Clips(tones.dataset, split).fingerprint() for split in sums}) == 4


# Damage


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "another"])
def test_a_record_that_cannot_be_read_is_named_with_its_file_and_clip(tmp_path, damage):
    clips = [sound(tmp_path, f"{i}.wav", seed=i, count=9000 + i) for i in range(40)]  # 32 in the first file
    folder = storage.store("forty", {"train": clips}, tmp_path / "out")
    first, second = sorted(folder.glob("*array_record-*"))
    content = second.read_bytes()
    if damage == "missing":
        second.unlink()
    elif damage == "cut":
        second.write_bytes(content[:70_000])
    elif damage == "changed":
        second.write_bytes(content[:45_000] + b"damaged" + content[45_007:])  # of 18 kB each
    else:
        second.write_bytes(first.read_bytes())
    clips = Clips(folder, "train")
    assert len(clips.audio(31)) == 9031
    with pytest.raises(ValueError, match=r"forty-train\.array_record-00001-of-00002: .*clip '34\.wav'") as error:
        clips.audio(34)
    assert "record 2" in str(error.value)


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
    with pytest.raises(ValueError, match="no split 'test'"):
        Clips(tones.dataset, "train+test")
    with pytest.raises(ValueError, match="names a split twice"):
        Clips(tones.dataset, "train+train")


def test_two_datasets_in_a_folder_must_be_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "1.0.0").mkdir(parents=True)
        (tmp_path / name / "1.0.0" / "dataset_info.json").touch()
    with pytest.raises(ValueError, match="more than one dataset"):
        dataset.find_folder(tmp_path)
    assert dataset.find_folder(tmp_path / "two") == tmp_path / "two" / "1.0.0"


def test_a_dataset_of_real_recordings_keeps_their_labels(data_dir, tmp_path):
    folder = data_dir / "esc10"
    splits = weak_labels.collect([folder / "audio"], [folder / "weak_labels.csv"], [folder / "meta.csv"], "fold=4")
    few = {split: clips[:3] for split, clips in splits.items()}
    prepared = storage.store("few", few, tmp_path)
    for split, clips in few.items():
        stored = Clips(prepared, split)
        assert stored.clip_ids.tolist() == [clip.clip_id for clip in clips]
        assert [tuple(stored.labels(i)) for i in range(3)] == [clip.labels for clip in clips]
        assert (np.abs([stored.audio(i).max() for i in range(3)]) > 0).all()
