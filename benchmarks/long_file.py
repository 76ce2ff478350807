"""Time and peak memory of `uss-jax separate` on recordings that differ in nothing but their length.

    python benchmarks/long_file.py examples/yard.flac --minutes 3 180 --classes Speech Dog

Each recording is the given one over and over. Memory is that of a process of its own, at its peak, as the system
counts it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile


def loop(source: Path, out: Path, minutes: float) -> None:
    """Writes the recording over and over, so many minutes of it, as FLAC."""
    samples, rate = soundfile.read(source, dtype="int16", always_2d=True)
    left = round(minutes * 60 * rate)
    with soundfile.SoundFile(out, "w", rate, samples.shape[1], "PCM_16", format="FLAC") as sound:
        while left > 0:
            sound.write(samples[:left])
            left -= len(samples)


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a command. Raises RuntimeError with what it said where it failed."""
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        said.seek(0)
        if status:
            raise RuntimeError(said.read())
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Prints a line per length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--minutes", nargs="+", type=float, default=[3.0, 180.0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--classes", nargs="+", default=[], help="default: the active nodes of levels 1 to 3")
    parser.add_argument("--format", default="flac", help="of the stems")
    args = parser.parse_args()
    wish = ["--classes", *args.classes] if args.classes else []
    print(f"{'minutes':>8} {'seconds':>8} {'x real time':>11} {'peak MiB':>9}")
    for minutes in args.minutes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.flac"
            loop(args.source, path, minutes)
            output = ["--model", args.model, "--format", args.format, "--out", folder]
            command = [sys.executable, "-m", "uss_jax.cli", "separate", str(path), *output, *wish]
            seconds, peak = measure(command)
            print(f"{minutes:8g} {seconds:8.1f} {minutes * 60 / seconds:11.1f} {peak:9.0f}", flush=True)


if __name__ == "__main__":
    main()
