"""What a separation gives: stems, events, and the pieces that they come in."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Event:
    """A stretch in which a sound is active; times in seconds.

    Attributes:
      name, mid, level: of the class or ontology node; level None where it was not asked for by level.
      onset_s, offset_s: where it begins and ends.
      mean_probability, peak_probability: of what the tagger heard in it.
      energy_share: energy of the stem over that of the mixture in this stretch; None where nothing was separated.
    """

    name: str
    mid: str | None
    level: int | None
    onset_s: float
    offset_s: float
    mean_probability: float
    peak_probability: float
    energy_share: float | None = None


@dataclasses.dataclass(frozen=True)
class Stem:
    """One separated sound.

    Attributes:
      name: of the class, node or query.
      audio: float32, shape and rate of the input.
      class_indices: the classes that it covers; empty for a query.
      level: ontology level, or None where it was not asked for by level.
      mid: machine id, or None for a query.
    """

    name: str
    audio: np.ndarray
    class_indices: tuple[int, ...]
    level: int | None
    mid: str | None


@dataclasses.dataclass(frozen=True)
class Separation:
    """The sounds of a recording.

    Attributes:
      stems: by name, in the order asked for, coarse levels first.
      residual: the input minus the stems of the finest level.
      timeline: when which sound is active, in the order of the stems.
      sample_rate_hz: of all audio.
    """

    stems: dict[str, Stem]
    residual: np.ndarray
    timeline: list[Event]
    sample_rate_hz: int


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A piece of a separation, as it streams; the pieces follow one another without gaps.

    Attributes:
      start: its first sample in the recording.
      mixture: (time, channels), float32, at the recording's rate.
      stems: by name, each (time, channels); those that are silent throughout are left out.
      residual: (time, channels).
    """

    start: int
    mixture: np.ndarray
    stems: dict[str, np.ndarray]
    residual: np.ndarray

    def stem(self, name: str) -> np.ndarray:
        """A stem of this name, (time, channels); zeros where it is silent."""
        found = self.stems.get(name)
        return np.zeros_like(self.mixture) if found is None else found


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the separation of a recording is.

    Attributes:
      stage: "listening" (the tagger hears the recording), then "separating".
      share: of the stage that is done, 0 to 1.
      timeline: what is active when; empty while it listens.
    """

    stage: str
    share: float
    timeline: tuple[Event, ...] = ()


Watcher = Callable[[Progress], None]
