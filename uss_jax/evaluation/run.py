"""The run of a benchmark: read, separate, score and write down, all at once. It is free of JAX, as its workers are."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from uss_jax import progress
from uss_jax.evaluation import bounds, pairs
from uss_jax.evaluation.benchmark import Benchmark, Sound, reason
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.journal import Journal
from uss_jax.evaluation.workers import Workers

NOT_FINITE = "the estimate is not finite"


class System(Protocol):
    """What separates."""

    def separate(self, items: Sequence[Item], sounds: Sequence[Sound]) -> list[np.ndarray]:
        """The estimates of the items of one mixture, or of a batch of segments, in the shape of their mixtures."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    Attributes:
      batch_size: segments that are separated at once.
      oracle_masks: whether the ideal ratio mask is scored, too.
      estimates_to: folder to which estimates are exported.
      estimates_from: folder of another system's estimates, which are scored in place of a model's.
    """

    batch_size: int = 8
    oracle_masks: bool = False
    estimates_to: Path | None = None
    estimates_from: Path | None = None


class Loaded(NamedTuple):
    """An item that was read, with the other system's estimate where that is what is scored."""

    sound: Sound
    estimate: np.ndarray | None


def run(
    benchmark: Benchmark,
    items: Sequence[Item],
    system: System | None,
    journal: Journal,
    workers: Workers,
    options: Options,
    ruled_out: Mapping[int, str] | None = None,
) -> int:
    """Does what the journal lacks, and writes it there. Equal mixtures are separated once.

    Args:
      benchmark: whose items they are.
      items: the list; the journal has the place in it of the first of equal items.
      system: None where the estimates are another system's.
      journal: of this run.
      workers: with the benchmark as their context.
      options: see there.
      ruled_out: places of items that the system cannot be asked for, and why.

    Returns:
      How many items were done.
    """
    ruled_out = ruled_out or {}
    copies = copies_of(items)
    todo = [
        unit
        for unit in units(benchmark, items, list(copies), options.batch_size)
        if not set(unit) <= journal.rows.keys()
    ]
    scoring: collections.deque[Callable[[], list[dict[str, Any]]]] = collections.deque()
    with progress.bar() as display:
        task = display.add_task(benchmark.name, total=sum(map(len, todo)))

        def write_first() -> None:
            rows = scoring.popleft()()
            journal.write(rows)
            display.advance(task, len(rows))

        asked = [[place for place in unit if place not in ruled_out] for unit in todo]
        arguments = (([items[place] for place in unit], options.estimates_from) for unit in asked)
        ahead = 1 if benchmark.whole else None  # a song takes half a gigabyte
        for unit, places, loaded in zip(todo, asked, workers.stream(load, arguments, ahead), strict=True):
            read = {place: x for place, x in zip(places, loaded, strict=True) if isinstance(x, Loaded)}
            failed = {place: x for place, x in zip(places, loaded, strict=True) if isinstance(x, str)}
            failed |= {place: ruled_out[place] for place in unit if place in ruled_out}
            estimates: list[Any] = [x.estimate for x in read.values()]
            if system is not None and read:
                estimates = system.separate([items[place] for place in read], [x.sound for x in read.values()])
            several = {place: [items[copy] for copy in copies[place]] for place in read}
            sounds = [x.sound for x in read.values()]
            scoring.append(workers.submit(finish, several, sounds, estimates, failed, options))
            if len(scoring) > workers.count:
                write_first()
        while scoring:
            write_first()
    return sum(map(len, todo))


def copies_of(items: Sequence[Item]) -> dict[int, list[int]]:
    """The places of equal items, by the place of the first of them."""
    places: dict[Item, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.content, []).append(place)
    return {several[0]: several for several in places.values()}


def units(benchmark: Benchmark, items: Sequence[Item], places: list[int], batch_size: int) -> list[list[int]]:
    """What is done at once: the items of one mixture, or a batch of segments.

    It depends on the list alone: what stands beside an item in its batch may change the last bits of a result, and a
    run that was interrupted must end with the same.
    """
    if benchmark.whole:
        of_mixture: dict[str, list[int]] = {}
        for place in places:
            of_mixture.setdefault(items[place].mixture, []).append(place)
        return list(of_mixture.values())
    return [places[start : start + batch_size] for start in range(0, len(places), batch_size)]


def load(benchmark: Benchmark, items: Sequence[Item], estimates_from: Path | None) -> list[Loaded | str]:
    """Reads items; a string says why one cannot be."""
    loaded: list[Loaded | str] = []
    for item in items:
        try:
            sound = benchmark.read(item)
            estimate = pairs.read_estimate(benchmark, item, sound, estimates_from) if estimates_from else None
            loaded.append(Loaded(sound, estimate))
        except ValueError as error:
            loaded.append(reason(error, benchmark.data, *([estimates_from] if estimates_from else [])))
    return loaded


def finish(
    benchmark: Benchmark,
    copies: dict[int, list[Item]],
    sounds: Sequence[Sound],
    estimates: Sequence[np.ndarray],
    failed: dict[int, str],
    options: Options,
) -> list[dict[str, Any]]:
    """Scores and exports the estimates of one unit.

    Args:
      benchmark: of the items.
      copies: the items that were separated, by place, each with its equals.
      sounds, estimates: of each place.
      failed: why other places could not be read.
      options: see there.

    Returns:
      The journal's rows: for each place `left_out`, or the scores of `estimate`, of the `mixture` as it is, and of
      the ideal ratio mask where wanted.
    """
    finite = [row for row, estimate in enumerate(estimates) if np.isfinite(estimate).all()]
    failed = failed | {place: NOT_FINITE for row, place in enumerate(copies) if row not in finite}
    rows: list[dict[str, Any]] = [{"item": place, "left_out": why} for place, why in failed.items()]
    sounds = [sounds[row] for row in finite]
    estimates = [estimates[row] for row in finite]
    signals = {"estimate": estimates, "mixture": [sound.mixture for sound in sounds]}
    if options.oracle_masks:
        signals["ideal_ratio_mask"] = [bounds.ideal_ratio_mask(sound.mixture, sound.source) for sound in sounds]
    scores = {name: benchmark.score(sounds, several) for name, several in signals.items()}
    kept = [place for place in copies if place not in failed]
    for place, sound, estimate, *found in zip(kept, sounds, estimates, *scores.values(), strict=True):
        if options.estimates_to is not None:
            for item in copies[place]:
                pairs.export_estimate(benchmark, item, estimate, sound.sample_rate_hz, options.estimates_to)
        of_signal = dict(zip(scores, found, strict=True))
        content: dict[str, Any] = {name: score for name, score in of_signal.items() if not isinstance(score, str)}
        if isinstance(of_signal["estimate"], str):
            content = {"left_out": of_signal["estimate"]}
        rows.append({"item": place} | content | ({} if estimate.any() else {"silent_estimate": True}))
    return rows
