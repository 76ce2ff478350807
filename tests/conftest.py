"""What several tests share: a tiny dataset of generated sounds, and the folder of real recordings."""

import csv
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from uss_jax import audio, storage, weak_labels

ROOT = Path(__file__).parents[1]
LABELS = {"dog": "Dog, Bark", "rain": "Rain", "speech": "Speech", "helicopter": "Helicopter"}


@dataclasses.dataclass(frozen=True)
class Tones:
    """A dataset of four kinds of sound, four clips of each; the clips of fold 4 are the split `validation`.

    Attributes:
      audio: folder of the WAV files.
      labels: table with the columns `filename`, `mids` and `fold`.
      dataset: folder made by `uss_jax.storage.store`.
    """

    audio: Path
    labels: Path
    dataset: Path


def band_noise(random: np.random.Generator, count: int, rate_hz: int, low_hz: float, high_hz: float) -> np.ndarray:
    """White noise between two frequencies, peak 1: (count,)."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate_hz)
    noise = np.fft.irfft(spectrum * ((frequency >= low_hz) & (frequency < high_hz)), n=count)
    return noise / np.abs(noise).max()


def synthesise(kind: str, seconds: float, rate_hz: int, seed: int) -> np.ndarray:
    """A sound unlike those of the other kinds: (time,), peak at most 0.5."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    pitch = random.uniform(0.9, 1.1)
    if kind == "dog":  # falling chirps, two a second
        beat = time * 2 % 1
        sound = np.sin(2 * np.pi * pitch * (1200 * beat - 400 * beat**2)) * np.exp(-6 * beat)
    elif kind == "rain":
        sound = band_noise(random, len(time), rate_hz, 3000, 9000)
    elif kind == "speech":  # a low voice, four syllables a second
        sound = sum(np.sin(2 * np.pi * 140 * pitch * k * time) / k for k in range(1, 8)) / 3
        sound = sound * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * time))
    else:  # a rotor
        sound = band_noise(random, len(time), rate_hz, 60, 400) * (time * 13 * pitch % 1 < 0.4)
    return (0.5 * sound).astype(np.float32)


# Of those in one piece.
LONGEST = ("test_paper.py", "test_hosts.py", "test_resume.py", "test_grid.py", "test_cli.py", "test_parity.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests by files, the files that take longest come first."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Tones:
    """Clips of 2.5 to 4 s at two sample rates, mono and stereo."""
    folder = tmp_path_factory.mktemp("tones")
    (folder / "audio").mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "mids", "fold"])
        for number, (kind, labels) in enumerate(LABELS.items()):
            for fold in (1, 2, 3, 4):
                rate_hz = (22_050, 44_100)[(number + fold) % 2]
                samples = synthesise(kind, 2.0 + 0.5 * fold, rate_hz, seed=10 * number + fold)
                if fold % 2:
                    samples = np.stack([samples, 0.5 * samples], axis=1)
                audio.write(folder / "audio" / f"{kind}-{fold}.wav", samples, rate_hz)
                table.writerow([f"{kind}-{fold}.wav", labels, fold])
    splits = weak_labels.collect([folder / "audio"], [folder / "labels.csv"], held_out="fold=4")
    prepared = storage.store("tones", splits, folder / "datasets")
    return Tones(folder / "audio", folder / "labels.csv", prepared)


@pytest.fixture
def on_cpu() -> Iterator[None]:
    """Work is done on the CPU: accelerators round matrix products more coarsely."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real recordings; tests that need them are skipped where it is absent."""
    folder = Path(os.environ.get("USS_JAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set USS_JAX_DATA to their folder")
    return folder
