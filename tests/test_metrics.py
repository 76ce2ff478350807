"""Scores against values worked out by hand."""

import numpy as np
import pytest

from uss_jax import metrics

ONES = np.ones(100, np.float32)


@pytest.mark.parametrize(
    ("reference", "estimate", "decibels"),
    [
        (ONES, 0.9 * ONES, 20.0),
        (ONES, 0.0 * ONES, 0.0),
        (ONES, 2.0 * ONES, 0.0),
        (ONES, -ONES, -6.0206),
        (0.5 * ONES, 0.45 * ONES, 20.0),  # the scale of both does not matter
        (ONES, ONES, 100.0),  # a mean distortion of 1e-10
        (0.0 * ONES, 0.1 * ONES, -80.0),
        (0.0 * ONES, 0.0 * ONES, 0.0),
    ],
)
def test_sdr_by_hand(reference, estimate, decibels):
    assert metrics.sdr(reference, estimate) == pytest.approx(decibels, abs=1e-3)


def test_sdr_is_taken_over_time_for_each_row():
    reference = np.ones((2, 3, 100), np.float32)
    scale = np.float32([[0.9, 0.99, 0.0], [1.1, 0.5, 2.0]])
    expected = -20 * np.log10(np.abs(1 - scale.astype(np.float64)))
    np.testing.assert_allclose(metrics.sdr(reference, reference * scale[..., None]), expected, atol=1e-3)


def test_sdr_of_long_quiet_recordings_does_not_lose_digits():
    reference = 1e-4 * np.sin(np.arange(2_000_000)).astype(np.float32)
    assert metrics.sdr(reference, 0.9 * reference) == pytest.approx(16.99, abs=0.02)  # 5e-9 over 1e-10, the least noise
    assert metrics.sdr(1e3 * reference, 900 * reference) == pytest.approx(20.0, abs=1e-3)


def test_shapes_that_differ_are_refused_not_broadcast():
    with pytest.raises(ValueError, match=r"\(2, 100\).*\(100,\)"):
        metrics.sdr(np.ones((2, 100)), np.ones(100))


def test_improvement_is_over_the_mixture():
    random = np.random.default_rng(0)
    source, noise = random.standard_normal((2, 4, 1000))
    gain = metrics.sdr_improvement(source, source + 0.1 * noise, source + noise)
    np.testing.assert_allclose(gain, 20.0, atol=1e-6)
    np.testing.assert_allclose(metrics.sdr_improvement(source, source + noise, source + noise), 0.0)


@pytest.mark.parametrize(
    ("truth", "score", "precision"),
    [
        ([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], (1 + 2 / 3) / 2),
        ([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1], 1.0),
        ([0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1], 1 / 4),
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], (1 + 2 / 3) / 2),
        ([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], 1 / 4),  # ties rank against the truth, wherever they stand
        ([0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5], 1 / 4),
        ([1], [0.0], 1.0),
    ],
)
def test_average_precision_by_hand(truth, score, precision):
    assert metrics.average_precision(np.array(truth, bool), np.array(score)) == pytest.approx(precision)
