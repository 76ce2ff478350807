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
from uss_jax.evaluation.items import Item, firsts
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


class Separated(NamedTuple):
    """An item that was separated.

    Attributes:
      place: in the list.
      copies: the items that equal it, itself included.
      sound: its audio.
      estimate: of its source, in the shape of its mixture.
    """

    place: int
    copies: list[Item]
    sound: Sound
    estimate: np.ndarray


Row = dict[str, Any]


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
    copies: dict[int, list[Item]] = {}
    for item, place in zip(items, firsts(items), strict=True):
        copies.setdefault(place, []).append(item)
    todo = [x for x in units(benchmark, items, list(copies), options.batch_size) if not _done(x, journal, ruled_out)]
    asked = [[place for place in unit if place not in ruled_out] for unit in todo]
    reading = workers.stream(
        load,
        (([items[place] for place in places], options.estimates_from) for places in asked),
        ahead=1 if benchmark.whole else None,  # a song takes half a gigabyte
    )
    scoring: collections.deque[Callable[[], list[Row]]] = collections.deque()
    most_scoring = 1 if benchmark.whole else workers.count
    with progress.bar() as display:
        task = display.add_task(benchmark.name, total=sum(map(len, todo)))

        def write_first() -> None:
            rows = scoring.popleft()()
            # What is tried again comes last, so that a batch that is written in part does not pass for done.
            journal.write(sorted(rows, key=lambda row: "left_out" in journal.rows.get(row["item"], {})))
            display.advance(task, len(rows))

        for unit, places, loaded in zip(todo, asked, reading, strict=True):
            rows = [left_out(place, ruled_out[place]) for place in unit if place in ruled_out]
            rows += [left_out(place, x) for place, x in zip(places, loaded, strict=True) if isinstance(x, str)]
            read = [(place, x) for place, x in zip(places, loaded, strict=True) if isinstance(x, Loaded)]
            estimates: list[Any] = [x.estimate for _, x in read]
            if system is not None and read:
                estimates = system.separate([items[place] for place, _ in read], [x.sound for _, x in read])
            separated = [
                Separated(place, copies[place], x.sound, estimate)
                for (place, x), estimate in zip(read, estimates, strict=True)
            ]
            scoring.append(workers.submit(finish, separated, rows, options))
            if len(scoring) > most_scoring:
                write_first()
        while scoring:
            write_first()
    return sum(map(len, todo))


def _done(unit: list[int], journal: Journal, ruled_out: Mapping[int, str]) -> bool:
    """Whether nothing of a unit is to be done; what was left out is tried again, for it may have been repaired."""
    rows = [journal.rows.get(place) for place in unit]
    return all(
        row is not None and ("left_out" not in row or place in ruled_out) for place, row in zip(unit, rows, strict=True)
    )


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


def finish(benchmark: Benchmark, separated: list[Separated], others: list[Row], options: Options) -> list[Row]:
    """Scores and exports the estimates of one unit.

    Returns:
      The journal's rows: for each item `left_out`, or the scores of `estimate`, of the `mixture` as it is, and of the
      ideal ratio mask where wanted. `others` are such rows, of items that were not separated.
    """
    finite = [x for x in separated if np.isfinite(x.estimate).all()]
    rows = others + [left_out(x.place, NOT_FINITE) for x in separated if not np.isfinite(x.estimate).all()]
    sounds = [x.sound for x in finite]
    signals = {"estimate": [x.estimate for x in finite], "mixture": [sound.mixture for sound in sounds]}
    if options.oracle_masks:
        signals["ideal_ratio_mask"] = [bounds.ideal_ratio_mask(sound.mixture, sound.source) for sound in sounds]
    scores = {name: benchmark.score(sounds, several) for name, several in signals.items()}
    for number, x in enumerate(finite):
        if options.estimates_to is not None:
            for item in x.copies:
                pairs.export_estimate(benchmark, item, x.estimate, x.sound.sample_rate_hz, options.estimates_to)
        found = {name: of_signal[number] for name, of_signal in scores.items()}
        own = found["estimate"]
        if isinstance(own, str):
            row = left_out(x.place, own)
        else:
            row = {"item": x.place} | {name: score for name, score in found.items() if not isinstance(score, str)}
        rows.append(row if x.estimate.any() else row | {"silent_estimate": True})
    return rows


def left_out(place: int, why: str) -> Row:
    """The journal's row of an item without scores."""
    return {"item": place, "left_out": why}
