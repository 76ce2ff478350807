"""How a recording is cut for the networks: hard for the reference's inference, on a grid of frames otherwise.

The separator's masks are made block by block: a block's core, with context on either side that is thrown away. Cores
begin at multiples of what the network pools over, so that a block sees its frames as a network that is given the whole
recording sees them, and the masks of a block and of the whole differ by no more than what lies beyond the context
does to them. Neighbours are cross-faded, since their conditions may differ.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where blocks and hearings lie, at the model's rate.

    Attributes:
      hop, window: of the separator's spectrogram, in samples.
      core: frames of a block that count; even.
      context: frames before and after them that the network sees, too.
      fade: frames over which neighbours, and on and off, are cross-faded; even, at most the context.
      level_frames: frames on either side over which the level of a frame is taken, or 0.
    """

    hop: int
    window: int
    core: int
    context: int
    fade: int
    level_frames: int

    @property
    def frames(self) -> int:
        """Frames that the network sees at once."""
        return self.core + 2 * self.context

    @property
    def samples(self) -> int:
        """Samples that the spectrogram of a block takes, with what its level is taken from."""
        return (self.frames + 2 * self.level_frames - 1) * self.hop + self.window

    def core_start(self, block: int) -> int:
        """First sample of a block's core."""
        return block * self.core * self.hop

    def first_sample(self, block: int) -> int:
        """First of the `samples` of a block; the middle of its first frame lies half a window later."""
        return self.core_start(block) - (self.context + self.level_frames) * self.hop - self.window // 2

    def block_weights(self, block: int, count: int) -> np.ndarray:
        """How much of a block's mask counts in each of its frames: (frames,); with its neighbours it adds up to 1."""
        place = np.arange(self.frames) - self.context
        rise = np.ones(self.frames) if block == 0 else _ramp(place, self.fade)
        fall = np.ones(self.frames) if block == count - 1 else 1.0 - _ramp(place - self.core, self.fade)
        return (rise * fall).astype(np.float32)

    def gate(self, active: np.ndarray, block: int) -> np.ndarray:
        """How open a stem is in each frame of a block: (frames,), 0 to 1.

        Args:
          active: (hearings,), bool; a hearing is half a core.
          block: its number.
        """
        place = block * self.core - self.context + np.arange(self.frames)
        half = self.core // 2
        # The lesser of the step function's means over the `fade` frames before and after: on and off become straight
        # lines, inside of what is active.
        steps = np.concatenate([active[:1], active, active[-1:]]).astype(np.float64)
        edges = np.array([-self.frames, *(np.arange(len(active) + 1) * half), len(active) * half + self.frames])
        area = np.concatenate([[0.0], np.cumsum(steps * np.diff(edges))])
        before, here, after = (np.interp(place + side * self.fade, edges, area) for side in (-1, 0, 1))
        return (np.minimum(here - before, after - here) / self.fade).astype(np.float32)


def _ramp(place: np.ndarray, length: int) -> np.ndarray:
    """From 0 to 1 in a straight line of this length about place 0."""
    return np.clip((place + length / 2) / length, 0.0, 1.0)


def hearing_count(samples: int, step: int) -> int:
    """How many hearings, or blocks, of so many samples cover a recording."""
    return max(1, -(-samples // step))


def hearing_start(hearing: int, step: int, length: int, samples: int) -> int:
    """First sample of what the tagger hears: `length` samples from the hearing on, or to the recording's end."""
    return max(0, min(hearing * step, samples - length))


def split(samples: np.ndarray, length: int) -> np.ndarray:
    """Cuts hard, the last block padded with zeros: (time,) → (blocks, length)."""
    count = max(1, -(-len(samples) // length))
    return np.pad(samples, (0, count * length - len(samples))).reshape(count, length)


def spans(active: np.ndarray, length: int, samples: int) -> list[tuple[int, int, int, int]]:
    """Runs of active blocks.

    Args:
      active: (blocks,), bool.
      length: of a block.
      samples: of the recording.

    Returns:
      For each run: first block, one past the last, first sample, one past the last.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    runs = edges.reshape(-1, 2).tolist()
    return [(first, last, first * length, min(last * length, samples)) for first, last in runs]
