"""What to separate: ontology nodes, classes or queries, and the condition of each in every block."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from uss_jax import audioset

THRESHOLD = 0.2  # a sound is active where its probability reaches this (reference)
EXPECTED = 0.03  # so does one that was asked for by name: who asks for it expects it, and taggers do not
FAINT = 0.01  # or half of its greatest probability in a recording, if that is less, down to this; see `at_best`


@dataclasses.dataclass(frozen=True)
class Target:
    """One stem that is asked for.

    Attributes:
      name: of the stem.
      class_indices: the classes that it covers; empty for a query by example.
      level: ontology level, or None where it was not asked for by level.
      mid: machine id of the node or class, or None.
      weights: of the classes in the query, or empty where they count alike.
      condition: (condition,), a fixed query that is the same in every block; None to ask the tagger block by block.
      always: it was asked for by name or example: the stem is wanted where the sound is never active, too.
      least: probability from which on the sound is active.
    """

    name: str
    class_indices: tuple[int, ...] = ()
    level: int | None = None
    mid: str | None = None
    weights: tuple[float, ...] = ()
    condition: np.ndarray | None = None
    always: bool = True
    least: float = THRESHOLD


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is asked for, all of it in one go. Nothing at all means levels 1, 2 and 3.

    Attributes:
      levels: a stem for every active node of these ontology levels.
      classes: a stem for each of these class names, indices or machine ids.
      together: one stem of all the classes.
      weights: of the classes in that stem's query; alike where empty.
      embeddings: a stem for each query, (condition,), by name.
      spans: (onset, offset) in seconds: a stem of what sounds there, wherever it sounds.
      excluded: classes whose sound is kept out of the stems.
    """

    levels: tuple[int, ...] = ()
    classes: tuple[str | int, ...] = ()
    together: bool = False
    weights: tuple[float, ...] = ()
    embeddings: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    spans: tuple[tuple[float, float], ...] = ()
    excluded: tuple[str | int, ...] = ()

    def targets(self) -> list[Target]:
        """What there will be stems of, but for that of the spans; several may have one name.

        Raises:
          ValueError: a level or class is unknown, or a weight does not go with the rest.
        """
        alone = not (self.levels or self.classes or self.embeddings or self.spans)
        wanted = of_levels(self.levels or (1, 2, 3)) if self.levels or alone else []
        if self.classes:
            wanted += of_classes(self.classes, self.together, self.weights)
        return wanted + [Target(name, condition=condition) for name, condition in self.embeddings.items()]

    def excluded_targets(self) -> list[Target]:
        """What is kept out of them. Raises ValueError where a class is unknown, or asked for, too."""
        excluded = of_classes(self.excluded) if self.excluded else []
        asked = {audioset.find_class(query).index for query in self.classes}
        for target in excluded:
            if asked & set(target.class_indices):
                raise ValueError(f"{target.name}: asked for and excluded at once")
        return excluded


def named_apart(wanted: list[Target]) -> list[Target]:
    """The targets, numbered where several have one name, or that of the residual.

    What was asked for by name keeps it, before nodes of levels.
    """
    taken = {"residual"}
    names = {}
    for number in sorted(range(len(wanted)), key=lambda number: not wanted[number].always):
        name = base = wanted[number].name
        count = 1
        while name.casefold() in taken:
            count += 1
            name = f"{base} ({count})"
        taken.add(name.casefold())
        names[number] = name
    return [dataclasses.replace(target, name=names[number]) for number, target in enumerate(wanted)]


def of_levels(levels: Sequence[int]) -> list[Target]:
    """Every node of the levels, coarse to fine, wanted where active.

    Raises:
      ValueError: there is no such level.
    """
    deepest = audioset.deepest_level()
    wrong = [level for level in levels if level not in range(1, deepest + 1)]
    if wrong or not levels:
        raise ValueError(f"level {wrong[0] if wrong else None}: ontology levels run from 1 to {deepest}")
    return [
        Target(node.name, node.class_indices, level, node.mid, always=False)
        for level in sorted(set(levels))
        for node in audioset.nodes_at(level)
    ]


def of_classes(classes: Sequence[str | int], together: bool = False, weights: Sequence[float] = ()) -> list[Target]:
    """A target for each class, or one for all of them together, which may be weighted.

    Raises:
      ValueError: a class is unknown, or none is given; weights are not one above 0 for each class of one target.
    """
    sounds = [audioset.find_class(query) for query in classes]
    if not sounds:
        raise ValueError("no classes are asked for")
    if weights and (not together or len(weights) != len(sounds) or not all(0.0 < x < math.inf for x in weights)):
        raise ValueError("weights: expected one above 0 for each class, and one stem of them all (together)")
    if weights and len(set(sounds)) < len(sounds):
        raise ValueError("a class has several weights")
    found = dict(zip(sounds, weights or [1.0] * len(sounds), strict=True))
    if together:
        name = " + ".join(sound.name for sound in found)
        of_each = tuple(map(float, found.values())) if weights else ()
        return [Target(name, tuple(sound.index for sound in found), weights=of_each, least=EXPECTED)]
    return [Target(sound.name, (sound.index,), mid=sound.mid, least=EXPECTED) for sound in found]


def activity(target: Target, probabilities: np.ndarray) -> np.ndarray:
    """The largest probability among the target's classes: (blocks, classes) → (blocks,); 1 for a fixed query."""
    if not target.class_indices:
        return np.ones(len(probabilities), np.float32)
    return probabilities[:, list(target.class_indices)].max(axis=1)


def at_best(target: Target, probabilities: np.ndarray) -> Target:
    """The target as it is active in a recording: one asked for by name, where it is likeliest.

    Who names a sound says that it is there. So it is active from half of its greatest probability on, where that is
    less than it would usually take, but for less than `FAINT`.

    Args:
      target: of any kind; one that is not always wanted, or covers no classes, stays as it is.
      probabilities: (blocks, classes), of the whole recording.
    """
    if not target.always or not target.class_indices:
        return target
    greatest = float(activity(target, probabilities).max())
    return dataclasses.replace(target, least=min(target.least, max(FAINT, greatest / 2)))


def masked(target: Target, bottlenecks: np.ndarray) -> np.ndarray:
    """The reference's query by class: what the tagger hears, all elements but the target's classes set to 0.

    An element of a latent query stands for no class; the reference masks it all the same.

    Args:
      target: with `class_indices`.
      bottlenecks: (blocks, classes or embedding).

    Returns:
      The same shape.

    Raises:
      ValueError: an embedding has fewer elements than there are classes.
    """
    if bottlenecks.shape[1] < audioset.CLASS_COUNT:
        raise ValueError(f"{target.name}: a query of {bottlenecks.shape[1]} elements cannot be masked by class")
    kept = np.zeros_like(bottlenecks)
    columns = list(target.class_indices)
    kept[:, columns] = bottlenecks[:, columns] * np.array(target.weights or 1.0, np.float32)
    return kept


def class_mixture(
    target: Target, probabilities: np.ndarray, classes: Sequence[int], conditions: np.ndarray
) -> np.ndarray:
    """The mean conditions of the target's active classes, weighted by how active each is.

    What the tagger hears in a mixture is blurred by the other sounds; what it heard in the training anchors of the
    class is not. Where none of the known classes is active, the most probable known one stands for the target.

    Args:
      target: with `class_indices` of which at least one is in `classes`.
      probabilities: (blocks, all classes).
      classes: (known classes,), indices.
      conditions: (known classes, condition), the mean condition of each.

    Returns:
      (blocks, condition).
    """
    rows = [row for row, index in enumerate(classes) if index in target.class_indices]
    known = probabilities[:, [classes[row] for row in rows]]
    weight = np.where(known >= target.least, known, 0.0)
    weight = np.where(known == known.max(axis=1, keepdims=True), np.maximum(weight, 1e-6), weight)
    if target.weights:
        asked = dict(zip(target.class_indices, target.weights, strict=True))
        weight = weight * np.array([asked[classes[row]] for row in rows])
    weight = weight / weight.sum(axis=1, keepdims=True)
    return (weight @ conditions[rows]).astype(np.float32)
