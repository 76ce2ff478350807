"""Where a class sounds surest."""

import numpy as np
import pytest

from uss_jax import files
from uss_jax.anchors import Anchors, anywhere, check_length, find, load_anchors, moving_average, note_path
from uss_jax.dataset import Clips


def bump(frames, first, last):
    """Probability 0.9 in a stretch, 0.1 elsewhere: (frames,)."""
    probability = np.full(frames, 0.1)
    probability[first:last] = 0.9
    return probability


def some_anchors():
    return Anchors(
        clip=np.array([0, 0, 1, 2, 3], np.int32),
        label=np.array([5, 7, 5, 7, 9], np.int16),
        start=np.array([0, 3200, 640, 0, 320], np.int32),
        confidence=np.array([0.9, 0.1, 0.6, 0.2, 0.05], np.float16),
    )


@pytest.mark.parametrize("width", [1, 3, 21])
@pytest.mark.parametrize("shape", [(40,), (40, 3), (5, 2)])
def test_the_moving_average_is_the_mean_of_each_window_with_ends_replicated(shape, width):
    values = np.random.default_rng(0).random(shape)
    places = np.arange(shape[0])[:, None] + np.arange(width) - width // 2
    expected = values[places.clip(0, shape[0] - 1)].mean(axis=1)
    np.testing.assert_allclose(moving_average(values, width), expected, atol=1e-12)


def test_a_bump_is_in_the_middle_of_its_anchor():
    start, confidence = find(bump(1001, 400, 601)[:, None], segment_frames=200)
    assert start.tolist() == [400]
    np.testing.assert_allclose(confidence, 0.9)


def test_confidence_is_the_mean_around_the_centre():
    start, confidence = find(np.stack([bump(1001, 400, 601), 0.5 * bump(1001, 700, 901)], axis=1), 200)
    assert start.tolist() == [400, 700]
    np.testing.assert_allclose(confidence, [0.9, 0.45])


@pytest.mark.parametrize(("first", "last", "start"), [(0, 60, 0), (960, 1001, 800), (0, 1, 0), (1000, 1001, 800)])
def test_an_anchor_at_either_end_still_fits_into_the_clip(first, last, start):
    assert find(bump(1001, first, last)[:, None], segment_frames=200)[0].tolist() == [start]


@pytest.mark.parametrize("frames", [1, 2, 150, 200, 201])
def test_a_clip_no_longer_than_a_segment_is_its_own_anchor(frames):
    start, confidence = find(np.random.default_rng(0).random((frames, 4)), segment_frames=200)
    assert start.tolist() == [0, 0, 0, 0]
    assert ((confidence > 0) & (confidence < 1)).all()


def test_at_least_keeps_the_sure_ones_and_the_surest_of_every_class():
    kept = some_anchors().at_least(0.5)
    assert kept.clip.tolist() == [0, 1, 2, 3]
    assert kept.label.tolist() == [5, 5, 7, 9]
    assert kept.start.tolist() == [0, 640, 0, 320]
    assert some_anchors().at_least(0.0).clip.tolist() == [0, 0, 1, 2, 3]
    assert some_anchors().at_least(1.0).clip.tolist() == [0, 2, 3]


def test_at_least_takes_the_first_of_those_that_are_as_sure():
    kept = Anchors(np.arange(5), np.array([3, 3, 3, 8, 8]), np.arange(5), np.array([0.1, 0.2, 0.2, 0, 0], np.float16))
    assert kept.at_least(0.5).clip.tolist() == [1, 3]


@pytest.mark.parametrize("confidence", [0.3, 0.98, 1.1])
def test_at_least_is_what_a_look_at_each_class_says(confidence):
    random = np.random.default_rng(0)
    count = 100_000
    label = (527 * random.random(count) ** 3).astype(np.int16)
    sure = (random.random(count) * 0.002 * (label + 1)).clip(0, 1).astype(np.float16)
    many = Anchors(np.arange(count, dtype=np.int32), label, np.zeros(count, np.int32), sure)
    kept = many.at_least(confidence)
    expected = sure >= confidence
    for of in range(527):
        of_class = np.flatnonzero(label == of)
        expected[of_class[np.argmax(sure[of_class])]] = True
        np.testing.assert_array_equal(kept.clip[kept.label == of], of_class[expected[of_class]])
    assert [array.dtype for array in vars(kept).values()] == [np.int32, np.int16, np.int32, np.float16]


def anchors_of(clips):
    """An anchor of every label of these clips."""
    count = len(clips.label_pairs()[1])
    return Anchors.of_pairs(clips, np.arange(count) * 320, np.linspace(0, 1, count))


def test_anchors_come_back_to_the_bit_and_take_six_bytes_in_their_file(tones, tmp_path):
    clips = Clips(tones.dataset, "train")
    anchors = anchors_of(clips)
    anchors.save(tmp_path / "anchors-train.npz", clips)
    for name, array in vars(load_anchors(tmp_path, clips)).items():
        np.testing.assert_array_equal(array, getattr(anchors, name))
        assert array.dtype == {"clip": np.int32, "label": np.int16, "confidence": np.float16}.get(name, np.int32)
    with np.load(tmp_path / "anchors-train.npz") as file:
        assert sum(file[name].nbytes for name in ("start", "confidence")) == 6 * len(anchors.clip)
        assert sorted(file) == ["confidence", "dataset", "start"]


def test_the_labels_of_anchors_are_the_array_of_the_dataset(tones):
    clips = Clips(tones.dataset, "train")
    assert np.shares_memory(anchors_of(clips).label, clips.label_pairs()[1])


def test_anchors_of_a_sum_of_splits_are_those_of_each(tones, tmp_path):
    for split in ("train", "validation"):
        clips = Clips(tones.dataset, split)
        anchors_of(clips).save(tmp_path / f"anchors-{split}.npz", clips)
    both = load_anchors(tmp_path, Clips(tones.dataset, "train+validation"))
    train, validation = (load_anchors(tmp_path, Clips(tones.dataset, split)) for split in ("train", "validation"))
    np.testing.assert_array_equal(both.start, np.concatenate([train.start, validation.start]))
    np.testing.assert_array_equal(both.clip, np.concatenate([train.clip, validation.clip + 12]))
    np.testing.assert_array_equal(both.label, np.concatenate([train.label, validation.label]))


def test_only_the_anchors_of_every_label_are_saved(tones, tmp_path):
    clips = Clips(tones.dataset, "train")
    with pytest.raises(ValueError, match="not every label of every clip"):
        anchors_of(clips).at_least(0.9).save(tmp_path / "anchors-train.npz", clips)
    assert not list(tmp_path.iterdir())


def test_anchors_of_another_split_are_refused(tones, tmp_path):
    train = Clips(tones.dataset, "train")
    anchors_of(train).save(tmp_path / "anchors-validation.npz", train)
    with pytest.raises(ValueError, match=r"anchors-validation\.npz.*another dataset"):
        load_anchors(tmp_path, Clips(tones.dataset, "validation"))


def test_an_incomplete_file_is_named(tones, tmp_path):
    np.savez(tmp_path / "anchors-train.npz", start=np.arange(3))
    with pytest.raises(ValueError, match=r"anchors-train\.npz.*confidence"):
        load_anchors(tmp_path, Clips(tones.dataset, "train"))


def test_anchors_of_few_clips_are_always_the_same_ones():
    """Classes that label the same clips keep the same of them."""
    clip = np.repeat(np.arange(40), 2)
    label = np.tile([3, 8], 40)
    label[-10:] = 5
    found = Anchors(clip, label, np.arange(80), np.ones(80)).of_few_clips(7)
    assert {kept: int((found.label == kept).sum()) for kept in (3, 5, 8)} == {3: 7, 5: 7, 8: 7}
    assert found.clip[found.label == 3].tolist() == found.clip[found.label == 8].tolist()
    assert np.array_equal(found.label, label[found.start])
    assert np.array_equal(found.clip, clip[found.start])
    again = Anchors(clip, label, np.arange(80), np.ones(80)).of_few_clips(7)
    assert np.array_equal(found.start, again.start)
    assert len(Anchors(clip, label, np.arange(80), np.ones(80)).of_few_clips(100).clip) == 80


def test_anchors_anywhere_lie_within_their_clips(tones):
    clips = Clips(tones.dataset, "train")
    found = anywhere(clips, 64_000, seed=1)
    assert np.array_equal(found.clip, clips.label_pairs()[0])
    assert np.all(found.start >= 0)
    assert np.all(found.start <= np.maximum(0, clips.samples[found.clip] - 64_000))
    assert len(set(found.start.tolist())) > len(found.start) // 2
    assert np.array_equal(found.start, anywhere(clips, 64_000, seed=1).start)


def test_anchors_of_another_length_are_refused(tones, tmp_path):
    clips = Clips(tones.dataset, "train")
    check_length(tmp_path, clips, 16_000)  # nothing is known of them
    files.write_json(note_path(tmp_path, "train"), {"segment_seconds": 0.5})
    check_length(tmp_path, clips, 16_000)
    with pytest.raises(ValueError, match=r"are 0\.5 s long, and data\.anchor_seconds is 2; .* --seconds 2"):
        check_length(tmp_path, clips, 64_000)
