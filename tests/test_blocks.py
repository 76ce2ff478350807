"""Blocks cover a recording; on the grid, what they weigh adds up to one."""

import itertools

import numpy as np
import pytest

from uss_jax import blocks
from uss_jax.blocks import Grid

SAMPLES = [1, 2, 63, 64, 65, 128, 1000]
GRID = Grid(hop=4, window=8, core=8, context=4, fade=2, level_frames=3)


@pytest.mark.parametrize("count", SAMPLES)
def test_hard_cuts_are_the_recording_then_zeros(count):
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    cut = blocks.split(samples, 64)
    assert cut.shape == (-(-count // 64), 64)
    np.testing.assert_array_equal(cut.reshape(-1)[:count], samples)
    assert not cut.reshape(-1)[count:].any()


def test_spans_by_hand():
    active = np.array([True, False, True, True, False, True])
    assert blocks.spans(active, 100, 550) == [(0, 1, 0, 100), (2, 4, 200, 400), (5, 6, 500, 550)]
    assert blocks.spans(np.zeros(6, bool), 100, 550) == []
    assert blocks.spans(np.ones(6, bool), 80, 450) == [(0, 6, 0, 450)]


@pytest.mark.parametrize("count", SAMPLES)
def test_active_and_inactive_spans_tile_the_recording(count):
    active = np.random.default_rng(count).random(blocks.hearing_count(count, 64)) < 0.5
    both = sorted(span[2:] for which in (active, ~active) for span in blocks.spans(which, 64, count))
    assert both[0][0] == 0
    assert both[-1][1] == count
    assert all(onset < offset for onset, offset in both)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(both))


@pytest.mark.parametrize(
    ("samples", "starts"), [(1000, [0, 100, 700, 800]), (250, [0, 50, 50, 50]), (90, [0, 0, 0, 0])]
)
def test_hearings_lie_inside_of_the_recording(samples, starts):
    assert [blocks.hearing_start(hearing, 100, 200, samples) for hearing in (0, 1, 7, 9)] == starts


def test_weights_of_blocks_add_up_to_one():
    total = np.zeros(8 * 3 + 2 * 4)
    for block in range(3):
        total[block * 8 : block * 8 + GRID.frames] += GRID.block_weights(block, 3)
    np.testing.assert_allclose(total[4:-4], 1.0)


def test_a_block_takes_its_context_and_what_its_level_is_taken_from():
    assert GRID.frames == 16
    assert GRID.samples == (16 + 6 - 1) * 4 + 8
    assert GRID.first_sample(2) == 2 * 8 * 4 - (4 + 3) * 4 - 4


def test_gates_open_and_close_in_a_straight_line_inside_of_what_is_active():
    active = np.array([False, True, True, False])  # hearings of four frames
    np.testing.assert_allclose(GRID.gate(active, 0), [0] * 8 + [0, 0.5, 1, 1, 1, 1, 1, 0.5])
    np.testing.assert_allclose(GRID.gate(active, 1), [0, 0.5, 1, 1, 1, 1, 1, 0.5] + [0] * 8)


def test_gates_do_not_close_at_the_ends_of_the_recording():
    np.testing.assert_array_equal(GRID.gate(np.array([True]), 0), np.ones(16))
