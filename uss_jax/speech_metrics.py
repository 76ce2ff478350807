"""How good enhanced speech is, as the Voicebank-DEMAND benchmark measures it: pure functions on arrays.

The measures are Loizou's (Hu & Loizou, "Evaluation of objective quality measures for speech enhancement", 2008, and
composite.m of his book "Speech Enhancement"), as they are in the package pysepm, whose values these equal.
"""

import warnings

import numpy as np

EPS = np.finfo(np.float64).eps  # of energy, and added to samples: a frame of digital silence has a spectrum, too
BANDWIDTH_HZ = np.array([  # of the critical bands
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154,
    183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])  # fmt: skip
CENTRE_HZ = 50.0 + np.cumsum([0.0, *BANDWIDTH_HZ[:-1]])  # the rounded ones of composite.m lie within 0.006 Hz


def segmental_snr(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float:
    """SSNR in dB: the mean of the frames' signal-to-noise ratios, each clipped to −10…35; of (time,) twice.

    A frame in which the reference is silent counts as −10 dB, even if the estimate is silent there, too.

    Raises:
      ValueError: the signals differ in shape, are not (time,), not finite, silent, or too short for a frame, or their
        rate is below 8000 Hz.
    """
    clean, enhanced = _frames(reference, estimate, sample_rate_hz)
    signal = np.sum(clean**2, axis=1)
    noise = np.sum((clean - enhanced) ** 2, axis=1)
    return float(np.clip(10 * np.log10(signal / (noise + EPS) + EPS), -10, 35).mean())


def log_likelihood_ratio(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float:
    """LLR: log of how much more of the reference the estimate's linear predictor misses than its own; of (time,) twice.

    Mean of the best 95 % of the frames, 0 at best. This is the measure inside the composite ones; on its own (llr.m of
    the book) each frame would be limited to 2. Raises as `segmental_snr` does.
    """
    order = 10 if sample_rate_hz < 10_000 else 16
    clean, enhanced = (_autocorrelation(each, order) for each in _frames(reference, estimate, sample_rate_hz))
    own, other = (_prediction_error(_predictor(lags), clean) for lags in (clean, enhanced))
    ratio = np.divide(other, own, out=np.zeros_like(own), where=own != 0)
    ratio[ratio <= 0] = 1000.0  # rounding in frames that are perfectly predictable
    return _mean_of_best(np.log(ratio))


def weighted_spectral_slope(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> float:
    """WSS (Klatt 1982): squared difference of the slopes between 25 critical bands, in dB²; of (time,) twice.

    Slopes near the peaks of a spectrum weigh more. Mean of the best 95 % of the frames, 0 at best. Raises as
    `segmental_snr` does.
    """
    clean, enhanced = (_band_levels(each, sample_rate_hz) for each in _frames(reference, estimate, sample_rate_hz))
    weight = _slope_weights(clean) + _slope_weights(enhanced)
    difference = np.diff(clean) - np.diff(enhanced)
    return _mean_of_best(np.sum(weight * difference**2, axis=1) / np.sum(weight, axis=1))


def composite(
    reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int, pesq_mos: float
) -> tuple[float, float, float]:
    """CSIG, CBAK and COVL: predicted opinions, 1…5, of the speech, the background and the whole; of (time,) twice.

    `pesq_mos` is, at 16 kHz, the wide-band MOS-LQO (ITU-T P.862.2), as in pysepm; at 8 kHz the raw PESQ (P.862).

    Raises:
      ValueError: as `segmental_snr` does, or `pesq_mos` is not finite.
    """
    if not np.isfinite(pesq_mos):
        raise ValueError(f"PESQ is {pesq_mos}, where a finite score was expected")
    ssnr = segmental_snr(reference, estimate, sample_rate_hz)
    llr = log_likelihood_ratio(reference, estimate, sample_rate_hz)
    wss = weighted_spectral_slope(reference, estimate, sample_rate_hz)
    speech = 3.093 - 1.029 * llr + 0.603 * pesq_mos - 0.009 * wss
    background = 1.634 + 0.478 * pesq_mos - 0.007 * wss + 0.063 * ssnr
    overall = 1.594 + 0.805 * pesq_mos - 0.512 * llr - 0.007 * wss
    csig, cbak, covl = np.clip([speech, background, overall], 1, 5).tolist()
    return csig, cbak, covl


def speech_scores(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> dict[str, float]:
    """The benchmark's scores: `pesq` (wide band), `csig`, `cbak`, `covl`, `ssnr` in dB and `stoi`; of (time,) twice.

    Raises:
      ValueError: as `segmental_snr` does; the rate is not 16 kHz; or there is too little speech for PESQ or STOI.
      ImportError: the packages `pesq` and `pystoi` are not installed.
    """
    if sample_rate_hz != 16_000:
        raise ValueError(f"speech at {sample_rate_hz} Hz, where 16000 Hz was expected")
    try:
        import pesq
        import pystoi
    except ImportError as error:
        raise ImportError("scores of speech need PESQ and STOI: pip install 'uss-jax[eval]'") from error
    ssnr = segmental_snr(reference, estimate, sample_rate_hz)  # first: it refuses what the others would fail on
    signals = reference.astype(np.float64), estimate.astype(np.float64)
    length = f"{len(reference) / sample_rate_hz:.2f} s of audio"
    try:
        pesq_mos = float(pesq.pesq(sample_rate_hz, *signals, "wb"))
    except (pesq.PesqError, ValueError) as error:
        raise ValueError(f"PESQ needs 0.25 s and an utterance: {type(error).__name__} in {length}") from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            stoi = float(pystoi.stoi(*signals, sample_rate_hz))
    except RuntimeWarning as error:
        raise ValueError(f"STOI needs 30 frames of speech (0.4 s), not found in {length}") from error
    csig, cbak, covl = composite(*signals, sample_rate_hz, pesq_mos)
    return {"pesq": pesq_mos, "csig": csig, "cbak": cbak, "covl": covl, "ssnr": ssnr, "stoi": stoi}


def _frames(reference: np.ndarray, estimate: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Checks two signals and cuts them into Hann-windowed frames of 30 ms, 75 % overlap: (frames, window) twice."""
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise ValueError(f"reference {reference.shape} and estimate {estimate.shape}, where (time,) twice was expected")
    if sample_rate_hz < 8000:
        raise ValueError(f"speech at {sample_rate_hz} Hz, where at least 8000 Hz was expected")
    window, hop = round(0.03 * sample_rate_hz), 3 * sample_rate_hz // 400
    count = (len(reference) - window) // hop  # without the last whole frame, as in composite.m
    if count < 1:
        raise ValueError(f"speech of {len(reference)} samples, where at least {window + hop} were expected")
    for name, samples in (("reference", reference), ("estimate", estimate)):
        if not np.isfinite(samples).all():
            raise ValueError(f"{name} holds samples that are NaN or infinite")
        if not samples.any():
            raise ValueError(f"{name} is silent, where speech was expected")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, window + 1) / (window + 1))
    padded = (samples.astype(np.float64) + EPS for samples in (reference, estimate))
    clean, enhanced = (np.lib.stride_tricks.sliding_window_view(each, window)[::hop][:count] * hann for each in padded)
    return clean, enhanced


def _mean_of_best(distortion: np.ndarray) -> float:
    """Mean of the lowest 95 % of (frames,)."""
    return float(np.sort(distortion)[: round(0.95 * len(distortion))].mean())


def _autocorrelation(frames: np.ndarray, order: int) -> np.ndarray:
    """(frames, window) → (order + 1, frames).

    Sums run over the first axis, one term after the other as in pysepm: in digital silence the prediction error is
    nothing but rounding, and terms in another order would move the score.
    """
    samples = np.ascontiguousarray(frames.T)
    return np.stack([np.sum(samples[: len(samples) - lag] * samples[lag:], axis=0) for lag in range(order + 1)])


def _predictor(lags: np.ndarray) -> np.ndarray:
    """Linear predictors by the Levinson-Durbin recursion: autocorrelation (order + 1, frames) → same shape, first 1."""
    predictor = np.zeros_like(lags)
    predictor[0] = 1.0
    error = lags[0].copy()
    for i in range(1, len(lags)):
        missed = lags[i] + np.sum(predictor[1:i] * lags[i - 1 : 0 : -1], axis=0)
        reflection = -np.divide(missed, error, out=np.zeros_like(error), where=error != 0)
        predictor[1 : i + 1] += reflection * predictor[i - 1 :: -1]
        error *= 1 - reflection**2
    return predictor


def _prediction_error(predictor: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Energy that predictors leave of frames with these autocorrelations: (order + 1, frames) twice → (frames,)."""
    order = np.arange(len(lags))
    toeplitz = np.take(lags.T, np.abs(order[:, None] - order), axis=1)
    rows = np.ascontiguousarray(predictor.T)[:, None]
    return (rows @ (toeplitz @ rows.mT))[:, 0, 0]


def _band_levels(frames: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Levels of the critical bands in dB, at least −100: (frames, window) → (frames, 25)."""
    bins = 1 << (frames.shape[1] - 1).bit_length()  # half of a transform at least twice as long as the window
    bins_per_hz = 2 * bins / sample_rate_hz
    offset = np.arange(bins) - np.floor(CENTRE_HZ * bins_per_hz)[:, None]
    width, gain = BANDWIDTH_HZ[:, None] * bins_per_hz, BANDWIDTH_HZ[0] / BANDWIDTH_HZ[:, None]
    filters = gain * np.exp(-11 * (offset / width) ** 2)
    filters[filters <= np.exp(-30 / (2 * 2.303))] = 0.0
    spectrum = np.fft.rfft(frames, 2 * bins)[:, :bins]
    return 10 * np.log10(np.maximum(np.abs(spectrum) ** 2 @ filters.T, 1e-10))


def _slope_weights(levels: np.ndarray) -> np.ndarray:
    """Klatt's weights of the slopes, high near the highest band and the nearest peak: (frames, 25) dB → (frames, 24).

    On a rising slope the band before the peak stands for it, as in composite.m.
    """
    rising = np.diff(levels) > 0
    band = np.arange(rising.shape[1])
    top = np.minimum.accumulate(np.where(rising, len(band), band)[:, ::-1], axis=1)[:, ::-1]  # where the rise ends
    start = np.maximum.accumulate(np.where(rising, band, -1), axis=1) + 1  # where the fall began
    peak = np.take_along_axis(levels, np.where(rising, top - 1, start), axis=1)
    below_highest = levels.max(axis=1, keepdims=True) - levels[:, :-1]
    return 20 / (20 + below_highest) / (1 + peak - levels[:, :-1])
