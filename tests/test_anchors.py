"""Where a class sounds surest."""

import numpy as np
import pytest

from uss_jax.anchors import Anchors, find, moving_average


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


def test_anchors_come_back_to_the_bit(tmp_path):
    some_anchors().save(tmp_path / "a.npz")
    for name, array in vars(Anchors.load(tmp_path / "a.npz")).items():
        np.testing.assert_array_equal(array, getattr(some_anchors(), name))
        assert array.dtype == getattr(some_anchors(), name).dtype


def test_an_incomplete_file_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", clip=np.arange(3), label=np.arange(3), start=np.arange(3))
    with pytest.raises(ValueError, match=r"a\.npz.*confidence"):
        Anchors.load(tmp_path / "a.npz")
