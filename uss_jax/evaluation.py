"""The benchmarks `folder` and `tagging`, on the validation split of a dataset made by `uss-jax prepare`."""

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import audio, audioset, metrics, mixtures, model_dir, progress
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.dataset import Clips
from uss_jax.inference import Inference

LOUDEST_STEP_SECONDS = 0.1  # grid on which the loudest segment of a clip is looked for
QUERY_CLIPS = 100  # training clips behind an average query, at most (paper)
PARTNER_TRIES = 1000


@dataclasses.dataclass(frozen=True)
class Category:
    """Classes that label exactly the same clips, such as Dog and Bark in ESC-10: one sound, evaluated once."""

    name: str
    labels: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Item:
    """One mixture: the loudest segments of two validation clips without a common label, with equal energy."""

    category: Category
    clip: int
    partner: int


def categories(train: Clips, validation: Clips) -> list[Category]:
    """The classes with clips in both splits; classes that always stand together are one category."""
    clips_of: dict[int, tuple[frozenset[int], ...]] = {}
    for label in np.unique(validation.label_pairs()[1]):
        members = tuple(
            frozenset(map(int, pairs[labels == label]))
            for pairs, labels in (s.label_pairs() for s in (train, validation))
        )
        if all(members):
            clips_of[int(label)] = members
    groups: dict[tuple[frozenset[int], ...], list[int]] = {}
    for label, members in clips_of.items():
        groups.setdefault(members, []).append(label)
    return [Category(" / ".join(audioset.class_names(labels)), tuple(labels)) for labels in groups.values()]


def clips_with(clips: Clips, category: Category) -> np.ndarray:
    """Numbers of the clips of a category: (clips,)."""
    pairs, labels = clips.label_pairs()
    return pairs[labels == category.labels[0]]


def choose_items(found: list[Category], validation: Clips, per_class: int, seed: int) -> list[Item]:
    """The mixtures of the benchmark: a function of the dataset, the number per class and the seed alone.

    Each clip of a class comes up equally often.
    """
    items = []
    for category in found:
        random = np.random.default_rng((seed, category.labels[0]))
        members = clips_with(validation, category)
        rounds = [random.permutation(members) for _ in range(-(-per_class // len(members)))]
        for clip in np.concatenate(rounds)[:per_class]:
            for _ in range(PARTNER_TRIES):
                partner = int(random.integers(len(validation)))
                if audioset.disjoint(validation.labels(int(clip)), validation.labels(partner)):
                    items.append(Item(category, int(clip), partner))
                    break
    if not items:
        raise ValueError(f"{validation.folder}: no two validation clips without a common label to be mixed")
    return items


def loudest_segment(clips: Clips, clip: int, segment_samples: int) -> np.ndarray:
    """The loudest segment of a clip, padded with zeros where the clip is shorter: (segment_samples,)."""
    samples = clips.audio(clip)
    start = audio.loudest_start(samples, segment_samples, int(LOUDEST_STEP_SECONDS * SAMPLE_RATE_HZ))
    return audio.fit_length(samples[start:], segment_samples)


def average_queries(found: list[Category], train: Clips, inference: Inference) -> dict[Category, np.ndarray]:
    """The mean condition of each category's training sources, up to 100: (condition,) each (paper's protocol)."""
    queries = {}
    for category in progress.track(found, "average queries", len(found)):
        members = clips_with(train, category)[:QUERY_CLIPS]
        pieces = [loudest_segment(train, int(clip), inference.networks.segment_samples) for clip in members]
        queries[category] = inference.conditions(np.stack(pieces)).mean(axis=0)
    return queries


def evaluate_folder(networks: model_dir.Networks, data: Path, query: str, per_class: int, seed: int) -> dict[str, Any]:
    """SDR and SDRi of two-second mixtures of two classes at 0 dB.

    Args:
      networks: a model that separates.
      data: dataset with the splits `train` and `validation`.
      query: `oracle`, the condition of the very source, or `average`, the mean condition of the class's training
        sources.
      per_class: mixtures of each class.
      seed: of their choice.

    Raises:
      ValueError: the model does not separate, the data are wrong, or the query is neither.
    """
    if networks.separator is None:
        raise ValueError(f"the model {networks.config['name']!r} tags and does not separate")
    if query not in ("oracle", "average"):
        raise ValueError(f"query {query!r}: expected 'average' or 'oracle'")
    train, validation = Clips(data, "train"), Clips(data, "validation")
    inference = Inference(networks)
    found = categories(train, validation)
    items = choose_items(found, validation, per_class, seed)
    averages = average_queries(found, train, inference) if query == "average" else {}

    scores: dict[Category, list[tuple[float, float]]] = {category: [] for category in found}
    groups = [items[start : start + inference.batch_size] for start in range(0, len(items), inference.batch_size)]
    for group in progress.track(groups, "separating mixtures", len(groups)):
        sources = np.stack([loudest_segment(validation, item.clip, networks.segment_samples) for item in group])
        partners = [loudest_segment(validation, item.partner, networks.segment_samples) for item in group]
        mixed = np.stack([mixtures.mix([a, b]) for a, b in zip(sources, partners, strict=True)])
        if query == "oracle":
            conditions = inference.conditions(sources)
        else:
            conditions = np.stack([averages[item.category] for item in group])
        estimates = inference.separate(mixed, conditions)
        ratio = metrics.sdr(sources, estimates)
        gain = metrics.sdr_improvement(sources, estimates, mixed)
        for item, *values in zip(group, ratio, gain, strict=True):
            scores[item.category].append((float(values[0]), float(values[1])))
    return summary(networks, "folder", query, {category.name: scores[category] for category in found})


def summary(
    networks: model_dir.Networks, benchmark: str, query: str, scores: dict[str, list[tuple[float, float]]]
) -> dict[str, Any]:
    """The result file: median over the items of a class, then mean over the classes; scores are (SDR, SDRi)."""
    per_class: dict[str, dict[str, float]] = {}
    for name, values in scores.items():
        if values:
            ratio, gain = np.median(values, axis=0)
            per_class[name] = {"sdr": float(ratio), "sdri": float(gain), "n": len(values)}
    mean = {metric: float(np.mean([row[metric] for row in per_class.values()])) for metric in ("sdr", "sdri")}
    return {
        "benchmark": benchmark,
        "model": networks.config["name"],
        "query": query,
        "n": sum(map(len, scores.values())),
        "mean": mean,
        "per_class": per_class,
        "versions": versions(),
    }


def evaluate_tagging(networks: model_dir.Networks, data: Path) -> dict[str, Any]:
    """How well whole validation clips are tagged: average precision per class, and `top1`.

    A clip is tagged by its most probable segment, segments as in separation. `top1` is the share of clips whose most
    probable class, among the classes of the dataset, is one of their labels.
    """
    train, validation = Clips(data, "train"), Clips(data, "validation")
    inference = Inference(networks)
    found = categories(train, validation)
    numbers = range(len(validation))
    probability = np.stack(
        [
            inference.probabilities(audio.segments(validation.audio(clip), networks.segment_samples)).max(axis=0)
            for clip in progress.track(numbers, "tagging", len(validation))
        ]
    )
    truth = np.zeros(probability.shape, bool)
    for clip in numbers:
        truth[clip, validation.labels(clip)] = True
    per_class = {
        category.name: {
            "average_precision": metrics.average_precision(truth[:, index], probability[:, index]),
            "n": int(truth[:, index].sum()),
        }
        for category in found
        for index in category.labels[:1]
    }
    columns = sorted({label for category in found for label in category.labels})
    best = np.array(columns)[probability[:, columns].argmax(axis=1)]
    return {
        "benchmark": "tagging",
        "model": networks.config["name"],
        "query": "none",
        "n": len(validation),
        "mean": {
            "average_precision": float(np.mean([row["average_precision"] for row in per_class.values()])),
            "top1": float(truth[np.arange(len(best)), best].mean()),
        },
        "per_class": per_class,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: metadata.version(name) for name in ("uss-jax", "jax", "flax", "numpy")}
