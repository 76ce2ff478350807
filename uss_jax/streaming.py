"""Separating a recording of any length, rate and number of channels, stretch by stretch, in constant memory.

Masks are made of what is heard, one channel at the model's rate, and applied to every channel at that rate; a stem is
then brought back to the recording's rate. What lies above the model's band, which is the recording less what comes back
from the model's rate, gets the gain that the mask has at the top of the band.
"""

from collections.abc import Iterator

import numpy as np

from uss_jax import audio, listening
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.block_masks import BlockMasks
from uss_jax.listening import Measured
from uss_jax.separated import Chunk, Event
from uss_jax.stretches import Source, Stretch, stretches
from uss_jax.targets import Target
from uss_jax.tracks import EventEnergies, Track

LONGEST_S = 16  # of a stretch
BYTES_HELD = 1 << 26  # of stems in a stretch, about; a stretch has at least two seconds
RINGING = SAMPLE_RATE_HZ // 10  # samples at either end of a resampled stretch that are not what the whole would be


class Stream:
    """A separation that comes in chunks; to be gone through from the start, as often as wanted.

    Attributes:
      targets: what there is a stem of, in order: what was asked for, and nodes that are active somewhere.
      timeline: when which sound is active; energy shares are known when the last chunk was taken.
      sample_rate_hz, channels, samples: of the recording, and of every stem.
    """

    def __init__(
        self,
        source: Source,
        measured: Measured,
        masks: BlockMasks,
        targets: list[Target],
        timeline: list[Event],
        seconds: int,
    ) -> None:
        """To be had from `Model.stream`; chunks have so many `seconds`."""
        self._source, self._measured, self._masks, self._seconds = source, measured, masks, seconds
        self.targets, self.timeline = targets, timeline
        self.sample_rate_hz, self.channels, self.samples = source.sample_rate_hz, source.channels, measured.samples
        finest = max((target.level or 0 for target in targets), default=0)
        self._finest = [target.name for target in targets if (target.level or 0) == finest]

    def __iter__(self) -> Iterator[Chunk]:
        """Yields the chunks in order.

        Raises:
          ValueError: as reading does; the recording is no longer what was listened to; the model does not know what
            is asked for (see `conditions`).
        """
        energies = EventEnergies(self.timeline, self.sample_rate_hz)
        done = 0
        for chunk in self._chunks():
            done += len(chunk.mixture)
            energies.add(chunk)
            yield chunk
        if done != self.samples:
            raise ValueError(f"the recording has changed: {done} samples now, {self.samples} before")
        self.timeline = energies.events()

    def _chunks(self) -> Iterator[Chunk]:
        grid, rate = self._masks.grid, self.sample_rate_hz
        tracks: dict[int, Track] = {}
        next_block = 0
        margin = listening.margin_s(self._masks.segment_samples)
        for stretch in stretches(self._source, self._seconds, margin):
            levelled = self._measured.levelled(stretch.samples)
            low = audio.resample(levelled, rate, SAMPLE_RATE_HZ)
            end = (stretch.start_s + stretch.seconds) * SAMPLE_RATE_HZ
            # Those that reach into the stretch, with their fade and half a window, or into what rings at its end.
            reach = end + RINGING + grid.fade // 2 * grid.hop + grid.window
            last_block = min(self._masks.count, reach // grid.core_start(1) + 1)
            begins = (stretch.start_s - margin) * SAMPLE_RATE_HZ
            heard = self._measured.heard(low)
            for piece in self._masks.pieces(range(next_block, last_block), low.T, heard, begins):
                tracks.setdefault(piece.target, Track(self.channels, grid.hop)).add(piece)
            next_block = max(next_block, last_block)
            yield self._chunk(stretch, levelled, low, tracks)
            tracks = {target: track for target, track in tracks.items() if track.forget(end)}

    def _chunk(self, stretch: Stretch, levelled: np.ndarray, low: np.ndarray, tracks: dict[int, Track]) -> Chunk:
        rate, margin = self.sample_rate_hz, stretch.margin_s
        inside = slice(margin * rate, (margin + stretch.seconds) * rate)
        mixture = stretch.samples[inside][: stretch.count]
        above = None
        if rate != SAMPLE_RATE_HZ and tracks:
            above = (levelled - audio.fit_length(audio.resample(low, SAMPLE_RATE_HZ, rate), len(levelled)))[inside]
        stems = {}
        for target in sorted(tracks):
            stem = tracks[target].stem(stretch, rate, above)[: stretch.count] / np.float32(self._measured.gain)
            stems[self.targets[target].name] = stem.astype(np.float32)
        total = sum((stems[name] for name in self._finest if name in stems), np.zeros(mixture.shape))  # in 64 bits
        return Chunk(stretch.start_s * rate, mixture, stems, (mixture - total).astype(np.float32))


def chunk_seconds(most_stems: int, channels: int, sample_rate_hz: int) -> int:
    """How long a chunk may be so that its stems take little memory: a few seconds at least."""
    return max(2, min(LONGEST_S, BYTES_HELD // (4 * sample_rate_hz * channels * max(1, most_stems))))
