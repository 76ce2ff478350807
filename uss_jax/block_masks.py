"""The masks of all targets in a run of blocks, and what they let through of each channel."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from uss_jax import audio, blocks, masking
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.blocks import Grid
from uss_jax.conditions import conditions
from uss_jax.inference import Inference
from uss_jax.targets import Target

ROWS_HELD = 64  # masks of so many rows are held at once; of one block, however many it has
LEAST_SHARE = 1e-8  # of a bin: where all masks of a level let through less, none of them gets what is left


@dataclasses.dataclass(frozen=True)
class Piece:
    """What a block gives to a stem; pieces of neighbouring blocks overlap, and add up.

    Attributes:
      target: number of the target.
      channel: of the recording.
      start: first sample, at the model's rate.
      samples: (time,).
      first_frame: of the gains.
      gains: (frames,), of what lies above the model's band.
    """

    target: int
    channel: int
    start: int
    samples: np.ndarray
    first_frame: int
    gains: np.ndarray


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be separated of a recording.

    Attributes:
      targets: a stem each.
      excluded: targets that take their part away from the stems.
      active: (targets and excluded, hearings), bool.
      probabilities: (hearings, classes).
      samples: length of the recording at the model's rate.
      sample_rate_hz: its own rate.
      each: masks are made for each channel by itself, rather than for what is heard of all.
      consistent: the masks of a level share what they leave.
    """

    targets: list[Target]
    excluded: list[Target]
    active: np.ndarray
    probabilities: np.ndarray
    samples: int
    sample_rate_hz: int
    each: bool
    consistent: bool


class BlockMasks:
    """Makes the pieces of the stems.

    Whatever is the same is done once: the spectrogram of a block for all targets, and the mask of a condition for all
    targets that have it. Networks always run on full batches, so that a result does not depend on what is in them.
    """

    def __init__(self, inference: Inference, grid: Grid, wanted: Wanted) -> None:
        """Says what is wanted, on which grid."""
        self.grid = grid
        self._inference, self._wanted = inference, wanted
        self._all_targets = [*wanted.targets, *wanted.excluded]
        self.segment_samples = inference.networks.segment_samples
        self.count = blocks.hearing_count(wanted.samples, grid.core * grid.hop)

    def pieces(self, numbers: range, channels: np.ndarray, heard: np.ndarray, begins: int) -> Iterator[Piece]:
        """The pieces that some blocks give.

        Args:
          numbers: of the blocks.
          channels: (channels, time), levelled, at the model's rate.
          heard: (time,), what is heard of them.
          begins: place in the recording of the first of these samples.

        Raises:
          ValueError: the model does not know a target, see `conditions`.
        """
        group: list[int] = []
        rows = 0
        for block in numbers:
            of_block = int(self._in_block(block).sum())
            if of_block and group and rows + of_block > ROWS_HELD:
                yield from self._group(group, channels, heard, begins)
                group, rows = [], 0
            if of_block:
                group, rows = [*group, block], rows + of_block
        if group:
            yield from self._group(group, channels, heard, begins)

    def _group(self, group: list[int], channels: np.ndarray, heard: np.ndarray, begins: int) -> Iterator[Piece]:
        inference, grid = self._inference, self.grid
        cut = [self._cut(x, block, begins) for block in group for x in channels]
        spectra = inference.full_batches(lambda x: masking.spectra(x, grid), cut)
        views = channels if self._wanted.each else heard[None]
        seen: Any = [self._cut(x, block, begins) for block in group for x in views]
        if not inference.networks.separator.on_waveforms:
            exists = [self._exists(block) for block in group for _ in views]
            seen = inference.full_batches(lambda x, there: masking.seen(x, there, grid), seen, exists)
        of_targets = self._conditions(group, heard, begins)

        row_of: dict[tuple[int, bytes], int] = {}  # distinct (place in `seen`, condition)
        condition_of_row: list[np.ndarray] = []
        rows: list[dict[int, int]] = []  # for each place in `seen`, the row of each active target
        for place in range(len(seen)):
            of_place = {}
            for target in np.flatnonzero(self._in_block(group[place // len(views)])).tolist():
                condition = of_targets[target][place // len(views)]
                key = (place, condition.tobytes())
                if key not in row_of:
                    row_of[key] = len(row_of)
                    condition_of_row.append(condition)
                of_place[target] = row_of[key]
            rows.append(of_place)
        masks = inference.masks([seen[place] for place, _ in row_of], condition_of_row)

        made = []  # (place in `cut`, target, mask, weights)
        for place, of_place in enumerate(rows):
            block = place // len(views)
            shared = self._share(group[block], {target: masks[row] for target, row in of_place.items()})
            first = place if self._wanted.each else block * len(channels)
            for where in range(first, first + len(channels) // len(views)):
                made += [(where, *one) for one in shared]
        results = inference.full_batches(
            lambda spectrum, mask, weights: masking.resynthesise(spectrum, mask, weights, grid),
            [spectra[where] for where, *_ in made],
            [mask for *_, mask, _ in made],
            [weights for *_, weights in made],
        )
        for (where, target, mask, weights), samples in zip(made, results, strict=True):
            block = group[where // len(channels)]
            first_frame = block * grid.core - grid.context
            gains = masking.top_gain(mask, weights, self._wanted.sample_rate_hz, SAMPLE_RATE_HZ)
            start = first_frame * grid.hop - grid.window // 2
            yield Piece(target, where % len(channels), start, samples, first_frame, gains)

    def _in_block(self, block: int) -> np.ndarray:
        """Which targets are active in a block: (targets,)."""
        return np.any(self._wanted.active[:, 2 * block : 2 * block + 2], axis=1)

    def _cut(self, samples: np.ndarray, block: int, begins: int) -> np.ndarray:
        start = self.grid.first_sample(block) - begins
        return audio.fit_length(samples[start : start + self.grid.samples], self.grid.samples)

    def _exists(self, block: int) -> np.ndarray:
        grid = self.grid
        first = block * grid.core - grid.context - grid.level_frames
        frames = first + np.arange(grid.frames + 2 * grid.level_frames)
        return ((frames >= 0) & (frames * grid.hop <= self._wanted.samples)).astype(np.float32)

    def _conditions(self, group: list[int], heard: np.ndarray, begins: int) -> list[np.ndarray]:
        """For each target (blocks of the group, condition)."""
        length, core = self._inference.networks.segment_samples, self.grid.core * self.grid.hop
        starts = [blocks.hearing_start(block, core, length, self._wanted.samples) - begins for block in group]
        segments = np.stack([audio.fit_length(heard[start : start + length], length) for start in starts])
        probabilities = np.stack([self._wanted.probabilities[2 * block : 2 * block + 2].max(axis=0) for block in group])
        return conditions(self._inference, self._all_targets, segments, probabilities)

    def _share(self, block: int, masks: dict[int, np.ndarray]) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(target, mask, weights) of the wanted ones, once excluded targets and consistency have had their say."""
        wanted, count = self._wanted, len(self._wanted.targets)
        gates = {target: self.grid.gate(wanted.active[target], block)[:, None] for target in masks}
        weights = self.grid.block_weights(block, self.count)
        taken = sum(gates[target] * np.abs(mask) for target, mask in masks.items() if target >= count)
        kept = {target: mask for target, mask in masks.items() if target < count}
        # Where the nodes of a level, or a stem and what is excluded, claim more of a bin than there is, each keeps its
        # share. Classes and queries are asked for by themselves: one does not depend on what else is.
        claimed: dict[int | None, np.ndarray] = {}
        for target, mask in kept.items():
            level = wanted.targets[target].level
            claimed[level] = claimed.get(level, 0.0) + gates[target] * np.abs(mask)
        for target, mask in kept.items():
            level = wanted.targets[target].level
            own = np.abs(mask) if level is None else claimed[level]
            if level is not None or wanted.excluded:
                kept[target] = mask / np.maximum(1.0, own + taken)
        if not wanted.consistent:
            return [(target, mask, weights * gates[target][:, 0]) for target, mask in kept.items()]
        open_masks = {target: mask * gates[target] for target, mask in kept.items()}
        made = []
        for level in {wanted.targets[target].level for target in kept}:
            of_level = {target: mask for target, mask in open_masks.items() if wanted.targets[target].level == level}
            sizes = {target: np.abs(mask) for target, mask in of_level.items()}
            total = sum(sizes.values())
            left = np.where(total > LEAST_SHARE, 1.0 - sum(of_level.values()), 0.0) / np.maximum(total, LEAST_SHARE)
            made += [(target, mask + left * sizes[target], weights) for target, mask in of_level.items()]
        return made
