"""Scores of speech against pysepm, against values worked out by hand, and against the packages that they call."""

import sys

import numpy as np
import pytest

from uss_jax import audio, speech_metrics

MEASURES = (
    speech_metrics.segmental_snr,
    speech_metrics.log_likelihood_ratio,
    speech_metrics.weighted_spectral_slope,
)


def voice(rate_hz: int = 16_000, seconds: float = 2.0) -> np.ndarray:
    """Harmonics of a gliding pitch under three moving formants, in syllables with pauses of faint noise: (time,)."""
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    pitch_hz = 120 + 15 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    glide = np.sin(2 * np.pi * 1.3 * time)
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        height = [
            np.exp(-0.5 * ((harmonic * pitch_hz - formant_hz) / width_hz) ** 2)
            for formant_hz, width_hz in ((550 + 150 * glide, 90), (1500 - 300 * glide, 120), (2600 + 100 * glide, 160))
        ]
        sound += np.sin(harmonic * phase) * (height[0] + 0.5 * height[1] + 0.25 * height[2] + 0.01)
    syllables = np.clip(1.5 * np.sin(2 * np.pi * 1.9 * time), 0, 1)
    faint = 1e-3 * np.random.default_rng(1).standard_normal(len(time))
    return 0.1 * sound * syllables + faint


def noisy(clean: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(2).standard_normal(len(clean))
    return clean + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (snr_db / 10))


def muffled(clean: np.ndarray) -> np.ndarray:
    """What a poor enhancer leaves: a moving average over 5 samples, with quieter stretches and a little noise."""
    dull = np.convolve(clean, np.ones(5) / 5, mode="same")
    return noisy(np.where(np.arange(len(clean)) % 2000 < 160, 0.1 * dull, dull), 25)


# SNRseg, llr(used_for_composite=True), wss, and composite with its PESQ replaced by 2.5: computed with pysepm, commit
# 7ef88aff2c56201a2d0470aaeb58e77e47a914d2.
@pytest.mark.parametrize(
    ("rate_hz", "enhance", "expected"),
    [
        (16_000, lambda clean: noisy(clean, 20), (6.52554, 0.64084, 23.20253, 3.73225, 3.07769, 3.11597)),
        (16_000, lambda clean: noisy(clean, 10), (1.16263, 1.21849, 32.86558, 3.05089, 2.67219, 2.75257)),
        (16_000, lambda clean: noisy(clean, 0), (-3.97507, 1.81425, 47.27855, 2.30813, 2.24762, 2.34665)),
        (16_000, muffled, (0.93403, 0.88604, 24.09733, 3.47189, 2.71916, 2.98416)),
        (8_000, lambda clean: noisy(clean, 10), (1.1416, 0.45487, 32.8554, 3.83674, 2.67093, 3.14362)),
        (8_000, muffled, (-1.12924, 0.69496, 29.65268, 3.61851, 2.55029, 3.04311)),
    ],
)
def test_synthetic_speech_scores_as_in_pysepm(rate_hz, enhance, expected):
    clean = voice(rate_hz)
    signals = clean, enhance(clean), rate_hz
    scores = [*(measure(*signals) for measure in MEASURES), *speech_metrics.composite(*signals, pesq_mos=2.5)]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


# PESQ, composite and SNRseg computed with pysepm (the same commit), STOI with pystoi 0.4.1.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p232_001", (1.07443, 2.45539, 1.42267, 1.69334, -5.95704, 0.69425)),
        ("p232_003", (1.38775, 2.91612, 2.03558, 2.086, 1.16518, 0.89425)),
        ("p257_003", (1.3316, 3.60208, 2.42954, 2.46024, 5.14463, 0.83498)),
    ],
)
def test_noisy_recordings_score_as_in_pysepm(data_dir, name, expected):
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    folder = data_dir / "voicebank_demand_mini"
    clean, estimate = (
        audio.read_mono(folder / f"{kind}_testset_wav" / f"{name}.wav", 16_000) for kind in ("clean", "noisy")
    )
    scores = speech_metrics.speech_scores(clean, estimate, 16_000)
    assert list(scores) == ["pesq", "csig", "cbak", "covl", "ssnr", "stoi"]
    assert all(type(score) is float for score in scores.values())
    np.testing.assert_allclose(list(scores.values()), expected, rtol=0, atol=1e-3)
    assert scores["pesq"] == pytest.approx(pesq.pesq(16_000, clean, estimate, "wb"), abs=1e-4)
    assert scores["stoi"] == pytest.approx(pystoi.stoi(clean, estimate, 16_000), abs=1e-6)


def test_identical_signals_score_best():
    clean = voice()
    assert [measure(clean, clean, 16_000) for measure in MEASURES] == pytest.approx([35, 0, 0], abs=1e-9)
    assert speech_metrics.composite(clean, clean, 16_000, pesq_mos=4.64) == (5, 5, 5)


def test_all_of_the_benchmark_for_identical_signals():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    scores = speech_metrics.speech_scores(voice(), voice(), 16_000)
    best = {"pesq": 4.6439, "csig": 5, "cbak": 5, "covl": 5, "ssnr": 35, "stoi": 1}  # P.862.2 gives no more than that
    assert scores == pytest.approx(best, abs=1e-4)


def test_more_noise_scores_worse():
    clean = voice()
    by_snr = [(clean, noisy(clean, snr_db), 16_000) for snr_db in (30, 20, 10, 0, -10)]
    ssnr, llr, wss = ([measure(*signals) for signals in by_snr] for measure in MEASURES)
    assert np.all(np.diff(ssnr) < -1)
    assert np.all(np.diff(llr) > 0.1)
    assert np.all(np.diff(wss) > 1)
    opinions = np.array([speech_metrics.composite(*signals, pesq_mos=2.5) for signals in by_snr])
    assert np.all(np.diff(opinions, axis=0) < -0.1)


@pytest.mark.parametrize(
    ("gain", "decibels"),
    [(0.9, 20), (0.99, 35), (1.5, 6.0206), (-1, -6.0206), (11, -10)],  # 0.99 is 40 dB, 11 is −20 dB: both clipped
)
def test_gain_counts_in_segmental_snr_only(gain, decibels):
    clean = voice()
    scores = [measure(clean, gain * clean, 16_000) for measure in MEASURES]
    assert scores == pytest.approx([decibels, 0, 0], abs=1e-4)


def test_segmental_snr_is_of_frames_not_of_the_whole():
    clean = np.random.default_rng(0).standard_normal(480 + 120 * 200)  # the last of the 201 frames is not counted
    estimate = np.concatenate([0.9 * clean[:12_000], clean[12_000:]])
    decibels = speech_metrics.segmental_snr(clean, estimate, 16_000)
    assert (100 * 20 + 100 * 35) / 200 < decibels < (97 * 20 + 103 * 35) / 200  # three frames lie across the seam


def test_worst_frames_are_left_out_except_in_segmental_snr():
    clean = voice()
    estimate = clean.copy()
    estimate[10_000:10_480] = 0.3 * np.random.default_rng(3).standard_normal(480)  # in 7 of the 262 frames
    ssnr, llr, wss = (measure(clean, estimate, 16_000) for measure in MEASURES)
    assert (llr, wss) == pytest.approx((0, 0), abs=1e-9)
    assert ssnr < 34
    estimate[20_000:21_200] = 0.3 * np.random.default_rng(4).standard_normal(1200)  # and in 13 more
    assert speech_metrics.log_likelihood_ratio(clean, estimate, 16_000) > 0.01
    assert speech_metrics.weighted_spectral_slope(clean, estimate, 16_000) > 0.1


def test_composite_by_hand():
    clean = voice()  # identical signals: LLR 0, WSS 0, SSNR 35 dB
    by_hand = 3.093 + 0.603, 1.634 + 0.478 + 35 * 0.063, 1.594 + 0.805
    assert speech_metrics.composite(clean, clean, 16_000, pesq_mos=1.0) == pytest.approx(by_hand, abs=1e-6)
    assert speech_metrics.composite(clean, noisy(clean, -40), 16_000, pesq_mos=-0.5) == (1, 1, 1)


def test_stretches_of_digital_silence_give_finite_scores():
    clean = voice()
    estimate = noisy(clean, 10)
    clean[:8000] = 0
    estimate[4000:20_000] = 0
    for reference, other in ((clean, estimate), (estimate, clean), (clean, clean)):
        assert np.isfinite([measure(reference, other, 16_000) for measure in MEASURES]).all()
    ssnr = speech_metrics.segmental_snr(clean, clean, 16_000)
    assert ssnr == pytest.approx((63 * -10 + 199 * 35) / 262, abs=1e-6)  # 63 of the 262 frames hold silence alone


@pytest.mark.parametrize("measure", [*MEASURES, speech_metrics.speech_scores])
@pytest.mark.parametrize(
    ("reference", "estimate", "message"),
    [
        (np.ones(16_000), np.ones(15_999), r"\(16000,\) and estimate \(15999,\)"),
        (np.ones((16_000, 2)), np.ones((16_000, 2)), r"\(16000, 2\).*\(time,\)"),
        (np.ones(599), np.ones(599), "599 samples.*at least 600"),
        (np.append(np.ones(15_999), np.nan), np.ones(16_000), "reference.*NaN or infinite"),
        (np.ones(16_000), np.append(np.ones(15_999), np.inf), "estimate.*NaN or infinite"),
        (np.zeros(16_000), np.ones(16_000), "reference is silent"),
        (np.ones(16_000), np.zeros(16_000), "estimate is silent"),
    ],
)
def test_what_cannot_be_scored_is_refused(measure, reference, estimate, message):
    if measure is speech_metrics.speech_scores:
        pytest.importorskip("pesq")
        pytest.importorskip("pystoi")
    with pytest.raises(ValueError, match=message):
        measure(reference, estimate, 16_000)


def test_a_rate_below_the_critical_bands_is_refused():
    with pytest.raises(ValueError, match=r"4000 Hz.*at least 8000 Hz"):
        speech_metrics.weighted_spectral_slope(voice(), voice(), 4000)


@pytest.mark.parametrize("pesq_mos", [np.nan, np.inf])
def test_composite_refuses_a_pesq_that_is_not_finite(pesq_mos):
    with pytest.raises(ValueError, match=f"PESQ is {pesq_mos}"):
        speech_metrics.composite(voice(), voice(), 16_000, pesq_mos)


def test_benchmark_is_at_16_khz():
    with pytest.raises(ValueError, match=r"48000 Hz.*16000 Hz"):
        speech_metrics.speech_scores(voice(), voice(), 48_000)


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_missing_packages_are_named_with_their_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'uss-jax\[eval\]'"):
        speech_metrics.speech_scores(voice(), voice(), 16_000)


def test_too_little_speech_is_refused():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    clean = voice()
    with pytest.raises(ValueError, match=r"PESQ needs 0.25 s.*BufferTooShort.*0\.20 s"):
        speech_metrics.speech_scores(clean[:3200], clean[:3200], 16_000)
    with pytest.raises(ValueError, match=r"PESQ needs.*an utterance.*2\.00 s"):
        speech_metrics.speech_scores(clean, np.full_like(clean, 1e-60), 16_000)  # silence in float32
    hushed = np.where(np.arange(len(clean)) < 4000, clean, 1e-4 * clean)
    with pytest.raises(ValueError, match=r"STOI needs 30 frames.*2\.00 s"):
        speech_metrics.speech_scores(hushed, noisy(hushed, 10), 16_000)
