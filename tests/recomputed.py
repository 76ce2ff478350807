"""Every figure of an evaluation, worked out from the files that it exports, and by other packages where they can."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from test_metrics import imported

from uss_jax import audioset, speech_metrics


def sdr(source, estimate):
    return 10 * np.log10(np.sum(source**2) / np.sum((estimate - source) ** 2))


def si_sdr(source, estimate):
    return imported("fast_bss_eval.numpy").si_sdr(source[None], estimate[None], zero_mean=False).item()


def segment_scores(source, estimate, mixture):
    of_mixture = sdr(source, mixture), si_sdr(source, mixture)
    scores = sdr(source, estimate), si_sdr(source, estimate)
    return {
        "sdr": scores[0],
        "sdri": scores[0] - of_mixture[0],
        "si_sdr": scores[1],
        "si_sdri": scores[1] - of_mixture[1],
    }


def speech_scores(source, estimate, mixture):
    clean, enhanced = (librosa.resample(x, orig_sr=32_000, target_sr=16_000) for x in (source, estimate))
    starts = np.arange((len(clean) - 480) // 120) * 120
    frames = [np.stack([x[i : i + 480] for i in starts]) * np.hanning(482)[1:-1] for x in (clean, enhanced)]
    ratio = np.sum(frames[0] ** 2, axis=1) / np.maximum(np.sum((frames[0] - frames[1]) ** 2, axis=1), 1e-16)
    mos = imported("pesq").pesq(16_000, clean, enhanced, "wb")
    opinions = speech_metrics.composite(clean, enhanced, 16_000, mos)  # see test_speech_metrics.py
    return dict(zip(("csig", "cbak", "covl"), opinions, strict=True)) | {
        "pesq": mos,
        "stoi": imported("pystoi").stoi(clean, enhanced, 16_000),
        "ssnr": np.clip(10 * np.log10(np.maximum(ratio, 1e-16)), -10, 35).mean(),
        "si_sdr": si_sdr(clean, enhanced),
    }


def song_scores(stems):
    """Scores of the stems of a track; each is source, estimate and mixture, (time, channels)."""
    museval = imported("museval")

    def median(sources, estimates, rate_hz):
        with pytest.MonkeyPatch.context() as patch:  # museval looks for LinAlgError where NumPy 2 has it no more
            patch.setattr(np.linalg, "linalg", np.linalg, raising=False)
            of_frames = museval.metrics.bss_eval(sources, estimates, rate_hz, rate_hz, filters_len=1)[0]
        return np.median(of_frames[:, ~np.isnan(of_frames).any(axis=0)], axis=1)

    sources, estimates, mixtures = (np.stack(signals) for signals in zip(*stems, strict=True))
    joint = [median(sources, signals, 44_100) for signals in (estimates, mixtures)]
    rows = []
    for i, signals in enumerate(stems):
        mono = [librosa.resample(x.mean(axis=1), orig_sr=44_100, target_sr=32_000)[None, :, None] for x in signals]
        alone = [median(mono[0], x, 32_000)[0] for x in mono[1:]]
        utterance = [sdr(signals[0], x) for x in signals[1:]]
        row = {"sdr": joint[0][i], "utterance_sdr": utterance[0], "sdr_mono_32k": alone[0]}
        row |= {"sdri": joint[0][i] - joint[1][i], "utterance_sdri": utterance[0] - utterance[1]}
        rows.append(row | {"sdri_mono_32k": alone[0] - alone[1]})
    return rows


def exported(folder: Path) -> dict[tuple[str, str], list[np.ndarray]]:
    """Source, estimate and mixture of every item, by label and index."""
    found = {}
    for path in sorted((folder / "pairs").glob("*/*,source.wav")):
        label = path.parent.name.split("=", 1)[1]
        if path.parent.name.startswith("class_id="):
            label = audioset.find_class(int(label)).name
        names = [path, folder / "estimates" / path.relative_to(folder / "pairs"), path]
        parts = zip(names, ("source", "estimate", "mixture"), strict=True)
        index = path.stem.split("index=")[1].split(",")[0]
        found[label, index] = [soundfile.read(str(p).replace("source.wav", f"{part}.wav"))[0] for p, part in parts]
    return found


def recomputed(name: str, folder: Path) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The median and the mean of every metric over the items of a class, and their number."""
    found = exported(folder)
    if name == "musdb18":
        rows = {}
        for index in {index for _, index in found}:
            labels = [label for label, i in found if i == index]
            rows |= dict(zip([(x, index) for x in labels], song_scores([found[x, index] for x in labels]), strict=True))
    else:
        measure = speech_scores if name == "voicebank" else segment_scores
        rows = {key: measure(*signals) for key, signals in found.items()}
    of_label: dict[str, list[dict[str, float]]] = {}
    for (label, _), row in rows.items():
        of_label.setdefault(label, []).append(row)
    medians, means = (
        {
            label: {metric: average([row[metric] for row in several]) for metric in several[0]} | {"n": len(several)}
            for label, several in of_label.items()
        }
        for average in (np.median, np.mean)
    )
    return medians, means
