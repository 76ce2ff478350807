"""Stems as they grow: overlapping pieces are added up, at the model's rate, and read at the recording's."""

import dataclasses

import numpy as np

from uss_jax import audio
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.block_masks import Piece
from uss_jax.separated import Chunk, Event
from uss_jax.stretches import Stretch


class OverlapAdd:
    """A long array of which a window is held, to which pieces are added: (channels, places).

    Places before the first and after the last piece are 0.
    """

    def __init__(self, channels: int) -> None:
        """Nothing is there yet."""
        self._start, self._held = 0, np.zeros((channels, 0), np.float32)

    def add(self, channel: int, start: int, values: np.ndarray) -> None:
        """Adds (places,) from place `start` on, which is not before what was forgotten."""
        if not self._held.shape[1]:
            self._start = start
        before, after = self._start - start, start + len(values) - self._start - self._held.shape[1]
        if before > 0 or after > 0:
            self._held = np.pad(self._held, ((0, 0), (max(0, before), max(0, after))))
            self._start -= max(0, before)
        first = start - self._start
        self._held[channel, first : first + len(values)] += values

    def read(self, start: int, end: int) -> np.ndarray:
        """(channels, end − start)."""
        first, last = (min(max(0, place - self._start), self._held.shape[1]) for place in (start, end))
        before = min(max(0, self._start - start), end - start)
        after = end - start - before - (last - first)
        return np.pad(self._held[:, first:last], ((0, 0), (before, after)))

    def forget(self, before: int) -> bool:
        """Lets go of places before this one; whether anything is left."""
        passed = min(max(0, before - self._start), self._held.shape[1])
        self._held, self._start = self._held[:, passed:].copy(), self._start + passed
        return bool(self._held.shape[1])


class Track:
    """A stem as it grows: samples at the model's rate, and the gains of what lies above its band, frame by frame."""

    def __init__(self, channels: int, hop: int) -> None:
        """Silent so far; `hop` samples are a frame."""
        self._samples, self._gains, self._hop = OverlapAdd(channels), OverlapAdd(channels), hop

    def add(self, piece: Piece) -> None:
        """Adds what a block gives."""
        self._samples.add(piece.channel, piece.start, piece.samples)
        self._gains.add(piece.channel, piece.first_frame, piece.gains)

    def stem(self, stretch: Stretch, rate: int, above: np.ndarray | None) -> np.ndarray:
        """The seconds of a stretch at the recording's rate, once all of its blocks are there: (time, channels).

        Args:
          stretch: the seconds.
          rate: of the recording.
          above: (time, channels), what lies above the model's band; None where there is nothing.
        """
        start, length = stretch.start_s * SAMPLE_RATE_HZ, stretch.seconds * SAMPLE_RATE_HZ
        low = self._samples.read(start - SAMPLE_RATE_HZ, start + length + SAMPLE_RATE_HZ)  # a second on either side
        stem = audio.resample(low.T, SAMPLE_RATE_HZ, rate)[rate : rate + stretch.seconds * rate]
        if above is None:
            return stem
        first, last = start // self._hop - 1, (start + length) // self._hop + 2
        gains = self._gains.read(first, last)
        place = (start + np.arange(len(stem)) * (SAMPLE_RATE_HZ / rate)) / self._hop
        frames = np.arange(first, last)
        return stem + above * np.stack([np.interp(place, frames, of_channel) for of_channel in gains], axis=1)

    def forget(self, before: int) -> bool:
        """Lets go of samples that no later stem needs; whether anything is left."""
        left = self._samples.forget(before - SAMPLE_RATE_HZ)
        self._gains.forget((before - SAMPLE_RATE_HZ) // self._hop)
        return left


class EventEnergies:
    """Sums up how much of the mixture's energy each event's stem has."""

    def __init__(self, events: list[Event], sample_rate_hz: int) -> None:
        """Of events of one recording."""
        self._events = events
        self._bounds = np.array([[event.onset_s, event.offset_s] for event in events]).reshape(-1, 2) * sample_rate_hz
        self._bounds = np.rint(self._bounds).astype(np.int64)
        self._energies = np.zeros((len(events), 2))  # of stem and mixture

    def add(self, chunk: Chunk) -> None:
        """Takes the part of the events that lies in a chunk."""
        start, end = chunk.start, chunk.start + len(chunk.mixture)
        for number in np.flatnonzero((self._bounds[:, 0] < end) & (self._bounds[:, 1] > start)):
            first, last = np.clip(self._bounds[number] - start, 0, end - start)
            for column, samples in enumerate((chunk.stem(self._events[number].name), chunk.mixture)):
                self._energies[number, column] += np.sum(np.square(samples[first:last], dtype=np.float64))

    def events(self) -> list[Event]:
        """The events with their shares; a share is None where the mixture is silent."""
        shares = [float(stem / mixture) if mixture > 0 else None for stem, mixture in self._energies]
        return [
            dataclasses.replace(event, energy_share=share) for event, share in zip(self._events, shares, strict=True)
        ]
