"""Draws a separation as spectrograms: the mixture, and each stem as it is beside what was separated.

uss-jax separate examples/yard.flac --classes Fire Speech Dog Trumpet
python examples/picture.py examples/yard.json separated/yard examples/yard.png
"""

import argparse
import json
from pathlib import Path

import librosa
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from matplotlib.axes import Axes

RANGE_DB = 70.0


def decibels(path: Path) -> tuple[np.ndarray, int]:
    """Mel spectrogram of a file in dB, (bands, frames), and its sample rate."""
    samples, rate = soundfile.read(path, dtype="float32")
    power = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1024, hop_length=256, n_mels=96)
    return librosa.power_to_db(power, ref=1.0, amin=1e-10), rate


def draw(axes: Axes, path: Path, title: str, loudest: float) -> None:
    """Draws one file."""
    spectrogram, rate = decibels(path)
    seconds = spectrogram.shape[1] * 256 / rate
    axes.imshow(
        spectrogram,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=loudest - RANGE_DB,
        vmax=loudest,
        extent=(0, seconds, 0, 1),
    )
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_yticks([])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="JSON file of the scene")
    parser.add_argument("separated", type=Path, help="folder written by `uss-jax separate --classes`")
    parser.add_argument("out", type=Path, help="PNG file")
    args = parser.parse_args()
    scene = json.loads(args.scene.read_text(encoding="utf-8"))
    estimates = {path.stem: path for path in args.separated.glob("*.wav")}
    rows = []
    for stem, file in scene["stems"].items():
        labels = [label for event in scene["events"] if event["stem"] == stem for label in event["labels"]]
        name = next((label for label in labels if label in estimates), None)
        if name:
            rows.append((stem, args.scene.parent / file, estimates[name], name))

    mixture = args.scene.parent / scene["mixture"]
    loudest = float(decibels(mixture)[0].max())
    figure, grid = plt.subplots(len(rows) + 1, 2, figsize=(10, 1.5 * (len(rows) + 1)), sharex=True)
    draw(grid[0, 0], mixture, "mixture", loudest)
    draw(grid[0, 1], args.separated / "residual.wav", "residual", loudest)
    for axes, (stem, truth, estimate, name) in zip(grid[1:], rows, strict=True):
        draw(axes[0], truth, f"{stem}: as it went into the mixture", loudest)
        draw(axes[1], estimate, f"separated: {name}", loudest)
    for axes in grid[-1]:
        axes.set_xlabel("seconds", fontsize=8)
    figure.tight_layout()
    figure.savefig(args.out, dpi=75)


if __name__ == "__main__":
    main()
