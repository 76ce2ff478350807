"""What `against_reference.py` gives to both sides: checkpoint files, the same converted, and generated sounds."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uss_reference

from uss_jax import audio, audioset, blocks, files
from uss_jax.audio import SAMPLE_RATE_HZ

LEVELS = (1, 2, 3)  # of the ontology
YARD = Path(__file__).resolve().parents[1] / "examples" / "yard.flac"
SEGMENT, CLIP = 2 * SAMPLE_RATE_HZ, 10 * SAMPLE_RATE_HZ  # samples
LARGEST_BATCH = 8
MIXTURE_CLASSES = 20
CONFIG = {
    "data": {"sample_rate": SAMPLE_RATE_HZ, "segment_seconds": 2.0},
    "query_net": {
        "model_type": "Cnn14_Wrapper",
        "base_checkpoint_type": "Cnn14",
        "bottleneck_type": "at_soft",
        "freeze_base": True,
        "outputs_num": audioset.CLASS_COUNT,
    },
    "ss_model": {"model_type": "ResUNet30", "input_channels": 1, "output_channels": 1},
}


@dataclasses.dataclass(frozen=True)
class Materials:
    """A folder of materials, and how much of each there is; its properties are paths in it.

    Attributes:
      folder: to be made or used again.
      scene_seconds: length of the scene.
      mixtures: two-second mixtures to evaluate.
      clips: ten-second clips to find anchors in.
    """

    folder: Path
    scene_seconds: float = 60.0
    mixtures: int = 200
    clips: int = 32

    @property
    def home(self) -> Path:
        """Home folder of the reference."""
        return self.folder / "home"

    @property
    def scene(self) -> Path:
        """The recording that is separated."""
        return self.folder / f"scene-{self.scene_seconds:g}s.wav"

    @property
    def tagger(self) -> Path:
        """Cnn14, in the form of PANNs' files; it hears the classes in this scene."""
        return self.folder / f"tagger-{self.scene_seconds:g}s.pth"

    @property
    def config(self) -> Path:
        """The reference's configuration of the separator; JSON is YAML."""
        return self.folder / "separator.yaml"

    @property
    def separator(self) -> Path:
        """ResUNet30 with that tagger as its query net, in the form of Lightning's checkpoints."""
        return self.folder / f"separator-{self.scene_seconds:g}s.ckpt"

    @property
    def model(self) -> Path:
        """Tagger and separator, converted: a model directory."""
        return self.folder / f"model-{self.scene_seconds:g}s"

    @property
    def detector(self) -> Path:
        """Cnn14_DecisionLevelMax, in the form of PANNs' files."""
        return self.folder / "detector.pth"

    @property
    def detector_model(self) -> Path:
        """The same, converted: a model directory."""
        return self.folder / "detector"

    @property
    def pairs(self) -> Path:
        """Folder of mixtures and sources in the layout of the reference's evaluation on AudioSet."""
        return self.folder / f"mixtures-{self.mixtures}"

    @property
    def cache(self) -> Path:
        """Cache folder of this project."""
        return self.folder / "cache"

    def segments(self) -> np.ndarray:
        """The first blocks of the scene, again and again where it is short: (LARGEST_BATCH, SEGMENT)."""
        return np.resize(self.blocks(), (LARGEST_BATCH, SEGMENT))

    def blocks(self) -> np.ndarray:
        """The scene, cut: (blocks, SEGMENT)."""
        return blocks.split(audio.read_mono(self.scene, SAMPLE_RATE_HZ), SEGMENT)

    def conditions(self) -> np.ndarray:
        """Queries for these segments, numbers in 0…1: (LARGEST_BATCH, classes)."""
        return np.random.default_rng(1).random((LARGEST_BATCH, audioset.CLASS_COUNT), np.float32)

    def clip_sounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Clips in which the sound of a class is heard somewhere: (clips, CLIP), and the classes: (clips,)."""
        random = np.random.default_rng(2)
        labels = random.choice(audioset.CLASS_COUNT, self.clips, replace=False)
        sounds = random.normal(0.0, 1e-3, (self.clips, CLIP)).astype(np.float32)
        for sound, label in zip(sounds, labels, strict=True):
            played = _class_sound(int(label))
            start = int(random.integers(CLIP - len(played)))
            sound[start : start + len(played)] += played
        return sounds, labels


def maker(materials: Materials, detector: bool) -> Callable[[], dict[str, int]]:
    """A function that makes what is missing in the folder, and tells how much is heard in the scene.

    Args:
      materials: what to make.
      detector: whether the detector of anchors is needed.
    """

    import reference_weights

    def make() -> dict[str, int]:
        if not materials.home.exists():
            with files.new_folder(materials.home) as home:
                uss_reference.make_home(home)
        uss_reference.use(materials.home, None)
        if not materials.scene.exists():
            audio.write(materials.scene, _scene(materials.scene_seconds), SAMPLE_RATE_HZ, "PCM_16")
        if not materials.pairs.exists():
            with files.new_folder(materials.pairs) as folder:
                _write_pairs(folder, materials.mixtures)
        if not materials.tagger.exists():
            reference_weights.save_tagger(materials)
        if not materials.separator.exists():
            files.write_json(materials.config, CONFIG)
            reference_weights.save_separator(materials)
        if not materials.model.exists():
            _convert("--separator", materials.separator, "--tagger", materials.tagger, "--out", materials.model)
        if detector and not materials.detector.exists():
            reference_weights.save_detector(materials)
        if detector and not materials.detector_model.exists():
            _convert("--sed", materials.detector, "--out", materials.detector_model)
        return reference_weights.heard(materials)

    return make


def _scene(seconds: float) -> np.ndarray:
    """The yard of the examples over and over, each time slower and at another level: (time,)."""
    yard, length = audio.read_mono(YARD, SAMPLE_RATE_HZ), round(seconds * SAMPLE_RATE_HZ)
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < length:
        slower = audio.resample(yard, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ + 1_000 * len(pieces))
        pieces.append(slower * np.float32((1.0, 0.6, 0.8)[len(pieces) % 3]))
    return np.concatenate(pieces)[:length]


def _class_sound(index: int) -> np.ndarray:
    """Four seconds of a class's generated sound: (time,)."""
    from synthetic_audioset import class_sound

    return class_sound(index, SAMPLE_RATE_HZ).astype(np.float32) / 32768


def _write_pairs(folder: Path, count: int) -> None:
    """Mixtures of two classes' sounds and their sources, of each class about as many."""
    random = np.random.default_rng(3)
    classes = min(MIXTURE_CLASSES, count)
    for number in range(count):
        index = number % classes
        other = index + 1 + int(random.integers(audioset.CLASS_COUNT - MIXTURE_CLASSES))
        source, partner = (
            _class_sound(x)[start : start + SEGMENT] + random.normal(0.0, 1e-3, SEGMENT).astype(np.float32)
            for x, start in zip((index, other), random.integers(SEGMENT, size=2), strict=True)
        )
        name = f"class_id={index}/class_id={index},index={number // classes:03d}"
        (folder / name).parent.mkdir(exist_ok=True)
        audio.write(folder / f"{name},source.wav", source, SAMPLE_RATE_HZ)
        audio.write(folder / f"{name},mixture.wav", source + partner, SAMPLE_RATE_HZ)


def _convert(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "uss_jax.cli", "convert", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
