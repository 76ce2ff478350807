"""Cuts the stems of a folder laid out as Slakh2100 into weakly labelled clips.

    python examples/stems_as_clips.py DATA/slakh2100_mini --out DATA/stems

Only the tracks of the split `train` are read; every clip has fold 1. Clips last 5 s, and the stem sounds in each.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile
import yaml
from render_instruments import write_table
from rendering.general_midi import mids

from uss_jax import audio, files, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.evaluation.slakh2100 import ACTIVE_PEAK, list_stems

SECONDS = 5
CLIPS_OF_STEM = 8


def write_clips(data: Path, folder: Path) -> None:
    """Writes the clips and their tables; the folder takes its name when it is whole.

    Raises:
      ValueError: there are no tracks, a stem cannot be read, or there is such a folder already.
    """
    stems, left_out = list_stems(data, "train")
    for name, why in left_out.items():
        sys.stderr.write(f"left out: {name}: {why}\n")
    labels, meta = [("filename", "mids")], [("filename", "fold", "category", "note")]
    with files.new_folder(folder) as temporary:
        (temporary / "audio").mkdir()
        for stem in progress.track(stems, "cutting", len(stems)):
            split, track, _, file = stem.source.split("/")
            about = yaml.safe_load((data / split / track / "metadata.yaml").read_text(encoding="utf-8"))
            program = about["stems"][Path(file).stem].get("program_num")
            if program not in range(129):
                raise ValueError(f"{stem.source}: its program_num is {program!r}, and not 0 to 128")
            found = mids(program)
            if not found:
                continue
            x = audio.read_mono(data / stem.source, SAMPLE_RATE_HZ)
            length = SECONDS * SAMPLE_RATE_HZ
            cuts = x[: len(x) // length * length].reshape(-1, length)
            active = np.flatnonzero(np.abs(cuts).max(axis=1, initial=0.0) > ACTIVE_PEAK)
            spread = np.unique(np.linspace(0, len(active) - 1, min(CLIPS_OF_STEM, len(active))).astype(int))
            for i in active[spread]:
                name = f"{track}-{Path(file).stem}-{i}.flac"
                soundfile.write(temporary / "audio" / name, cuts[i], SAMPLE_RATE_HZ, subtype="PCM_16")
                labels.append((name, found))
                meta.append((name, "1", stem.inst_class, f"{stem.plugin_name} from {i * SECONDS} s"))
        write_table(temporary / "weak_labels.csv", labels)
        write_table(temporary / "meta.csv", meta)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the tracks in train/")
    parser.add_argument("--out", type=Path, required=True, help="write the set into this new folder")
    args = parser.parse_args()
    try:
        write_clips(args.data, args.out)
    except (ValueError, OSError) as error:
        sys.exit(f"stems_as_clips.py: {error}")


if __name__ == "__main__":
    main()
