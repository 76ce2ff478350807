"""A recording as a stream of overlapping stretches: what the networks need of it at a time, and no more."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from uss_jax import audio


class Source(Protocol):
    """What can be read from its start, again and again: a `recording.Recording`, or `Samples`."""

    @property
    def sample_rate_hz(self) -> int:
        """Of all channels."""

    @property
    def channels(self) -> int:
        """How many there are."""

    def chunks(self, count: int) -> Iterator[np.ndarray]:
        """Yields float32, (at most `count`, channels), from the start on."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """An array, (time, channels), as a source."""

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def channels(self) -> int:
        """How many there are."""
        return self.samples.shape[1]

    def chunks(self, count: int) -> Iterator[np.ndarray]:
        """See `Source`."""
        for start in range(0, len(self.samples), count):
            yield self.samples[start : start + count]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Some seconds of a recording, with what lies around them.

    Attributes:
      start_s: where they begin, a whole second.
      seconds: how many there are, a whole number; the last ones reach beyond the end.
      margin_s: whole seconds before and after them.
      samples: (margin + seconds + margin, channels), at the recording's rate; zeros before its start and after its end.
      count: how many samples of the recording lie in them, and not beyond its end.
    """

    start_s: int
    seconds: int
    margin_s: int
    samples: np.ndarray
    count: int


def stretches(source: Source, seconds: int, margin_s: int) -> Iterator[Stretch]:
    """Cuts a source into stretches that follow one another.

    Whole seconds are whole numbers of samples at every rate, so that a stretch that is resampled by itself is what
    the resampled recording is there.
    """
    rate = source.sample_rate_hz
    step, margin = seconds * rate, margin_s * rate
    kept = [np.zeros((margin, source.channels), np.float32)]  # from a margin before the stretch that comes next
    length, start = margin, 0

    def cut() -> Stretch:
        nonlocal kept, length, start
        samples = np.concatenate(kept)
        whole = audio.fit_length(samples, step + 2 * margin)
        stretch = Stretch(start // rate, seconds, margin_s, whole, min(step, length - margin))
        kept, length, start = [samples[step:]], length - step, start + step
        return stretch

    for chunk in source.chunks(step):
        kept.append(chunk)
        length += len(chunk)
        while length >= step + 2 * margin:
            yield cut()
    while length > margin:
        yield cut()
