"""Blocks cover a recording, and joined again they are the recording."""

import itertools

import numpy as np
import pytest

from uss_jax import blocks

LENGTH = 64
SAMPLES = [1, 2, 31, 32, 63, 64, 65, 95, 96, 97, 128, 160, 192, 1000]
OVERLAPS = [0, 1, 16, 31, 32]


def noise(count):
    return np.random.default_rng(count).standard_normal(count).astype(np.float32)


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("count", SAMPLES)
def test_joining_undoes_splitting(count, overlap):
    cut = blocks.split(noise(count), LENGTH, overlap)
    joined = blocks.join(cut, overlap, count)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, noise(count), rtol=0, atol=1e-6 if overlap else 0)


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("count", SAMPLES)
def test_there_is_no_block_too_many(count, overlap):
    cut = blocks.split(noise(count), LENGTH, overlap)
    assert cut.shape == (blocks.block_count(count, LENGTH, overlap), LENGTH)
    hop = LENGTH - overlap
    reached = (len(cut) - 1) * hop + LENGTH
    assert reached >= count
    assert len(cut) == 1 or reached - hop < count


def test_blocks_are_the_recording_hop_by_hop_then_zeros():
    cut = blocks.split(noise(150), LENGTH, 16)
    for i, block in enumerate(cut):
        piece = noise(150)[48 * i : 48 * i + 64]
        np.testing.assert_array_equal(block[: len(piece)], piece)
        assert not block[len(piece) :].any()


def test_neighbours_are_cross_faded_in_a_straight_line():
    joined = blocks.join(np.repeat(np.float32([[0], [1], [1]]), LENGTH, axis=1), 16, 160)
    assert not joined[:48].any()
    np.testing.assert_allclose(joined[48:64], (np.arange(16) + 0.5) / 16)
    np.testing.assert_allclose(joined[64:], 1.0)


def test_without_overlap_blocks_are_cut_hard():
    joined = blocks.join(np.repeat(np.float32([[0], [1]]), LENGTH, axis=1), 0, 128)
    np.testing.assert_array_equal(joined, np.repeat([0, 1], LENGTH))


def test_spans_by_hand():
    active = np.array([True, False, True, True, False, True])
    assert blocks.spans(active, 100, 0, 550) == [(0, 1, 0, 100), (2, 4, 200, 400), (5, 6, 500, 550)]
    assert blocks.spans(active, 100, 20, 450) == [(0, 1, 0, 90), (2, 4, 170, 330), (5, 6, 410, 450)]
    assert blocks.spans(np.zeros(6, bool), 100, 0, 550) == []
    assert blocks.spans(np.ones(6, bool), 100, 20, 450) == [(0, 6, 0, 450)]


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("count", SAMPLES)
def test_active_and_inactive_spans_tile_the_recording(count, overlap):
    active = np.random.default_rng(overlap).random(blocks.block_count(count, LENGTH, overlap)) < 0.5
    both = sorted(span[2:] for which in (active, ~active) for span in blocks.spans(which, LENGTH, overlap, count))
    assert both[0][0] == 0
    assert both[-1][1] == count
    assert all(onset < offset for onset, offset in both)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(both))
