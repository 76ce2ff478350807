"""What each side does from sound to result in `against_reference.py`: see `sides.py`."""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from materials import LEVELS, MIXTURE_CLASSES, SEGMENT, Materials
from sides import Outputs, Side, Turn, set_up_torch, their_model, timed, warm

from uss_jax import audio
from uss_jax.audio import SAMPLE_RATE_HZ

ANCHOR_BATCH = 16  # the reference's, in training


def our_levels(materials: Materials, threads: int) -> Side:
    """The separation of the scene by ontology levels, as in the paper, with the model loaded."""
    del threads
    import uss_jax

    model, scene = uss_jax.load(str(materials.model)), audio.read_mono(materials.scene, SAMPLE_RATE_HZ)
    return warm(
        lambda: model.separate(scene, SAMPLE_RATE_HZ, levels=LEVELS, paper=True),
        lambda found: {f"level={stem.level}/{stem.name}": stem.audio for stem in found.stems.values()},
    )


def their_levels(materials: Materials, threads: int) -> Side:
    """The reference's `separate_by_hierarchy`; stems are kept and not written, as on our side."""
    stems: Outputs = {}
    folder = materials.cache / "stems"  # where the reference makes folders for them

    def keep(file: str, data: np.ndarray, samplerate: int) -> None:
        stems[str(Path(file).relative_to(folder)).removesuffix(".wav")] = data.astype(np.float32)

    set_up_torch(materials, threads)
    model = their_model(materials, keep)
    import uss.inference
    from uss.utils import load_pretrained_panns

    scene = audio.read_mono(materials.scene, SAMPLE_RATE_HZ)
    tagger = load_pretrained_panns("Cnn14", checkpoint_path=str(materials.tagger), freeze=True)
    ontology = uss.inference.csv_paths_dict["ontology.csv"]["path"]

    def separate(samples: np.ndarray, levels: tuple[int, ...]) -> Outputs:
        stems.clear()
        with contextlib.redirect_stdout(io.StringIO()):
            uss.inference.separate_by_hierarchy(
                audio=samples,
                sample_rate=SAMPLE_RATE_HZ,
                segment_samples=SEGMENT,
                at_model=tagger,
                pl_model=model,
                device="cpu",
                levels=list(levels),
                ontology_path=ontology,
                non_sil_threshold=1e-6,
                output_dir=str(folder),
            )
        return dict(stems)

    separate(scene[:SEGMENT], LEVELS[:1])  # nothing is compiled here: a block is enough
    return timed(lambda: separate(scene, LEVELS), lambda found: found)


def our_command(materials: Materials, threads: int) -> Side:
    """`uss-jax separate` on the scene, from its start to its end; programs were compiled by an earlier run."""
    del threads
    arguments = ["-m", "uss_jax.cli", "separate", str(materials.scene), "--model", str(materials.model), "--paper"]
    side = _command(materials, [*arguments, "--levels", *map(str, LEVELS)], materials.scene.stem)
    side()
    return side


def their_command(materials: Materials, threads: int) -> Side:
    """The reference's `separate` on the files, from the start of its process to its end."""
    script = Path(__file__).resolve().parent / "uss_reference.py"
    options = {
        "--home": materials.home,
        "--tagger": materials.tagger,
        "--config": materials.config,
        "--checkpoint": materials.separator,
        "--threads": threads,
    }
    given = [str(x) for option in options.items() for x in option]
    for file in (materials.tagger, materials.separator):
        file.read_bytes()  # so that the disk is no slower for it than for ours, which runs once before
    return _command(materials, [str(script), str(materials.scene), *given, "--levels", *map(str, LEVELS)], "")


def _command(materials: Materials, arguments: list[str], stems: str) -> Side:
    """A Python process that writes stems into a folder in the one that it is given as `--out`."""
    from long_file import measure

    os.chdir(materials.folder)  # the reference leaves things in the working folder

    def side() -> Turn:
        with tempfile.TemporaryDirectory(dir=materials.folder) as out:
            seconds, peak_mib = measure([sys.executable, *arguments, "--out", out])
            folder = Path(out, stems)
            paths = {str(path.relative_to(folder)): path for path in folder.rglob("*.wav")}
            paths.pop("residual.wav", None)  # which the reference does not write
            return Turn(seconds, {name: audio.read(path)[0] for name, path in paths.items()}, peak_mib)

    return side


def our_evaluation(materials: Materials, threads: int) -> Side:
    """The benchmark `audioset` by oracle queries, model loading and report included, with eval.py's defaults."""
    del threads
    from uss_jax import audioset
    from uss_jax.evaluation import items, journal
    from uss_jax.evaluation.evaluate import Request, evaluate

    def scores(limit: int | None = None) -> dict[tuple[int, int], float]:
        with tempfile.TemporaryDirectory(dir=materials.folder) as out:
            result = Path(out, "r.json")
            evaluate(Request("audioset", materials.pairs, result, str(materials.model), query="oracle", limit=limit))
            _, rows = journal.read(result.with_name("r.journal.jsonl"))
            listed = items.read_list(result.with_name("r.mixtures.csv"))
        return {
            (audioset.find_class(item.label).index, item.index): rows[place]["estimate"]["sdri"]
            for place, item in enumerate(listed)
        }

    scores(limit=1)  # batches are always full: one item compiles what all need
    return timed(scores, lambda found: {"sdri": np.array([found[key] for key in sorted(found)])})


def their_evaluation(materials: Materials, threads: int) -> Side:
    """The reference's AudioSetEvaluator, model loading included."""
    set_up_torch(materials, threads)
    from uss.evaluate import AudioSetEvaluator

    classes = min(MIXTURE_CLASSES, materials.mixtures)

    def scores(classes: int, most: int | None) -> Any:
        return AudioSetEvaluator(str(materials.pairs), classes, most)(their_model(materials))["sdris_dict"]

    scores(1, 1)
    return timed(
        lambda: scores(classes, None),
        lambda found: {"sdri": np.concatenate([found[index] for index in range(classes)])},
    )


def our_anchors(materials: Materials, threads: int) -> Side:
    """What `uss-jax anchors` does with the clips, a label each, by its defaults; they lie in memory."""
    del threads
    from uss_jax import mining, model_dir

    clips: Any = ClipsInMemory(*materials.clip_sounds())
    miner = mining.Miner(clips, model_dir.load(materials.detector_model), batch_size=8, workers=2)

    def starts() -> np.ndarray:
        ((start, _),) = miner.mine([np.arange(len(clips))], lambda count: None)
        return start

    return warm(starts, lambda found: {"starts": found})


class ClipsInMemory:
    """Stands for a `dataset.Clips`: arrays of clips, (clips, time), with a class each, (clips,)."""

    def __init__(self, sounds: np.ndarray, classes: np.ndarray) -> None:
        self._sounds, self._classes = sounds, classes.astype(np.int16)
        self.samples = np.full(len(sounds), sounds.shape[1], np.int32)

    def __len__(self) -> int:
        return len(self._sounds)

    def audio(self, clip: int) -> np.ndarray:
        """Samples of a clip: (time,)."""
        return self._sounds[clip]

    def labels(self, clip: int) -> np.ndarray:
        """Its class: (1,)."""
        return self._classes[clip : clip + 1]

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Every (clip, class) pair: (clips,) and (clips,)."""
        return np.arange(len(self), dtype=np.int32), self._classes


def their_anchors(materials: Materials, threads: int) -> Side:
    """The reference's AnchorSegmentDetector, in the batches of its training."""
    torch, _ = set_up_torch(materials, threads)
    from uss.data.anchor_segment_detectors import AnchorSegmentDetector
    from uss.utils import load_pretrained_panns

    tagger = load_pretrained_panns("Cnn14_DecisionLevelMax", checkpoint_path=str(materials.detector), freeze=True)
    detector = AnchorSegmentDetector(tagger, 10.0, 2.0, 100, SAMPLE_RATE_HZ, "max_area")
    sounds, classes = materials.clip_sounds()

    def starts(count: int) -> np.ndarray:
        places = [slice(first, first + ANCHOR_BATCH) for first in range(0, count, ANCHOR_BATCH)]
        found = [detector(torch.from_numpy(sounds[place]), classes[place].tolist()) for place in places]
        return np.concatenate([batch["bgn_sample"].numpy() for batch in found])

    starts(1)
    return timed(lambda: starts(len(sounds)), lambda found: {"starts": found})
