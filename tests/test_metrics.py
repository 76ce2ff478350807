"""Scores against values worked out by hand, and against the packages that others measure with."""

import importlib
from types import ModuleType

import numpy as np
import pytest

from uss_jax import metrics

ONES = np.ones(100, np.float32)
FRAME = 1500  # samples


def imported(name: str) -> ModuleType:
    """A package, or a skip; museval and musdb raise RuntimeError where ffmpeg or ffprobe is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        return pytest.skip(f"{name} cannot be imported ({error})")


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
    ("reference", "estimate", "decibels"),
    [
        (ONES, ONES, 100.0),  # a mean distortion of 1e-10
        (ONES, -10.0 * ONES, 100.0),  # whatever the scale; the sign does not matter
        (ONES, 0.0 * ONES, 0.0),
        (0.0 * ONES, 0.1 * ONES, 0.0),  # a silent reference has no energy to which the estimate could be scaled
        (np.float32([1, 1, 1, 1]), np.float32([2, 0, 2, 0]), 0.0),  # a mean of 1 is kept, and so is the ±1 about it
        (np.float32([1, -1, 1, -1]), np.float32([2, -1, 2, -1]), 10 * np.log10(1.5**2 / 0.5**2)),
    ],
)
def test_scale_invariant_sdr_by_hand(reference, estimate, decibels):
    assert metrics.si_sdr(reference, estimate) == pytest.approx(decibels, abs=1e-4)


def test_scale_invariant_sdr_does_not_depend_on_the_estimates_scale():
    source, noise = np.random.default_rng(0).standard_normal((2, 3, 1000))
    estimate = source + np.array([[0.01], [1.0], [10.0]]) * noise
    scores = metrics.si_sdr(source, estimate)
    assert np.ptp(scores) > 20
    for scale in (-1.0, 0.01, 30.0, 1e-8):  # very quiet noise scores as noise
        np.testing.assert_allclose(metrics.si_sdr(source, scale * estimate), scores, atol=1e-9)


def test_scale_invariant_sdr_is_that_of_fast_bss_eval():
    package = imported("fast_bss_eval.numpy")
    random = np.random.default_rng(1)
    references = random.standard_normal((20, 1000)) + random.uniform(-1, 1, (20, 1))
    noise = random.standard_normal((20, 1000)) * 10 ** random.uniform(-3, 1, (20, 1))
    estimates = random.uniform(-2, 2, (20, 1)) * references + noise + 0.1
    theirs = [
        package.si_sdr(reference[None], estimate[None], zero_mean=False).item()
        for reference, estimate in zip(references, estimates, strict=True)
    ]
    assert np.ptp(theirs) > 30
    np.testing.assert_allclose(metrics.si_sdr(references, estimates), theirs, atol=1e-6)


def test_shapes_that_differ_are_refused_by_the_other_measures_too():
    for measure in (metrics.si_sdr, lambda *arrays: metrics.bss_eval_sdr(*arrays, 10)):
        with pytest.raises(ValueError, match=r"\(2, 100, 1\).*\(1, 100, 1\)"):
            measure(np.ones((2, 100, 1)), np.ones((1, 100, 1)))


def recordings(sources, channels, frames):
    """References of unlike levels and estimates that leak: (sources, time, channels) twice."""
    random = np.random.default_rng(2)
    references = random.standard_normal((sources, int(frames * FRAME), channels))
    references *= np.array([0.1, 0.5, 1.0, 0.3])[:sources, None, None]
    return references, references + 0.3 * references.sum(axis=0) + 0.1 * random.standard_normal(references.shape)


@pytest.mark.parametrize(
    ("sources", "channels", "frames", "silent", "count"),
    [
        pytest.param(4, 2, 3.4, True, 3, marks=pytest.mark.slow),  # museval solves for 512 taps of each pair
        pytest.param(4, 2, 0.8, False, 1, marks=pytest.mark.slow),
        (2, 1, 3.0, True, 3),
        (1, 1, 3.4, False, 3),
        (1, 1, 0.3, False, 1),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_framewise_sdr_is_that_of_museval(sources, channels, frames, silent, count):
    museval = imported("museval")
    references, estimates = recordings(sources, channels, frames)
    if silent:
        references[1, FRAME : 2 * FRAME] = 0
    ours = metrics.bss_eval_sdr(references, estimates, FRAME)
    assert np.isnan(ours).tolist() == [[silent and frame == 1 for frame in range(count)]] * sources
    np.testing.assert_allclose(
        ours, museval.evaluate(references, estimates, win=FRAME, hop=FRAME)[0], rtol=0, atol=1e-9
    )


def test_framewise_sdr_by_hand():
    references = np.ones((2, 30, 2))
    references[1, 10:20] = 0  # both sources are NaN where one is silent
    estimates = references * np.array([0.9, 0.5])[:, None, None]
    estimates[0, 20:] = 0
    expected = [[20.0, np.nan, 0.0], [-20 * np.log10(0.5), np.nan, -20 * np.log10(0.5)]]
    np.testing.assert_allclose(metrics.bss_eval_sdr(references, estimates, 10), expected)
    np.testing.assert_allclose(
        metrics.bss_eval_sdr(references[:, :29], estimates[:, :29], 10), np.array(expected)[:, :2]
    )
    np.testing.assert_allclose(metrics.bss_eval_sdr(references, references, 10)[:, 0], 100.0)


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
