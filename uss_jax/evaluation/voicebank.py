"""The benchmark on Voicebank-DEMAND: speech in noise, whole files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from uss_jax import audio, metrics, speech_metrics
from uss_jax.evaluation import labels
from uss_jax.evaluation.benchmark import Plan, Sound, WholeFiles, is_silent
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.workers import Workers

SCORE_RATE_HZ = 16_000  # of PESQ wide band and of all the published figures

# Of a silent estimate. To leave it out would reward it: measures that fail on silence get the least of their scale, and
# ratios are 0 dB, as they are by definition.
OF_SILENCE = {"pesq": 1.0, "csig": 1.0, "cbak": 1.0, "covl": 1.0, "ssnr": 0.0, "stoi": 0.0, "si_sdr": 0.0}
TRAINING_FOLDERS = ("clean_trainset_wav", "clean_trainset_28spk_wav", "clean_trainset_56spk_wav")


class Voicebank(WholeFiles):
    """Every file of the test set. Files are read at 32 kHz and scored at 16 kHz, as in the reference."""

    name = "voicebank"
    headline = "pesq"
    whole = True

    def plan(self, split: str, per_class: int, seed: int, workers: Workers) -> Plan:
        """See `Benchmark.plan`; all files are taken, for there is one class."""
        clean = self.data / "clean_testset_wav" if split == "test" else self._training_folder()
        noisy = clean.name.replace("clean", "noisy")
        names = sorted(path.name for path in clean.glob("*.wav"))
        if not names:
            raise ValueError(f"{clean}: no WAV files of Voicebank-DEMAND here")
        return Plan(
            [Item("speech", i, f"{clean.name}/{name}", mixture=f"{noisy}/{name}") for i, name in enumerate(names)], {}
        )

    def classes(self, item: Item) -> tuple[int, ...]:
        """All classes of speech."""
        return labels.classes_of(self.name, item.label)

    def training_files(self) -> Iterable[Path]:
        """See `Benchmark.training_files`."""
        return self._training_folder().glob("*.wav")

    def _training_folder(self) -> Path:
        """The first that is there of the folders that the data set comes in: all speakers, 28 or 56."""
        found = (self.data / name for name in TRAINING_FOLDERS if (self.data / name).is_dir())
        return next(found, self.data / TRAINING_FOLDERS[0])

    def score(self, sounds: Sequence[Sound], estimates: Sequence[np.ndarray]) -> list[dict[str, float] | str]:
        """Measures of enhancement at 16 kHz."""
        return [_scores(sound, estimate) for sound, estimate in zip(sounds, estimates, strict=True)]


def _scores(sound: Sound, estimate: np.ndarray) -> dict[str, float] | str:
    reference, estimate = (
        audio.resample(samples, sound.sample_rate_hz, SCORE_RATE_HZ) for samples in (sound.source, estimate)
    )
    if is_silent(reference):
        return "silent source"
    if is_silent(estimate):
        return dict(OF_SILENCE)
    try:
        scores = speech_metrics.speech_scores(reference, estimate, SCORE_RATE_HZ)
    except ValueError as error:
        return str(error)
    return scores | {"si_sdr": float(metrics.si_sdr(reference, estimate))}
