"""The reference's inference, number for number: mono, at the model's rate, cut hard into segments, all in memory."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from uss_jax import audioset, blocks, listening, targets
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.conditions import conditions
from uss_jax.inference import Inference
from uss_jax.separated import Chunk, Separation, Stem
from uss_jax.targets import Target

SILENCE = 1e-6  # a node whose greatest sample is no higher has no stem


def separate(inference: Inference, samples: np.ndarray, wanted: list[Target]) -> Separation:
    """Separates by what the tagger hears in each segment, all elements but those of the target's classes set to 0.

    Args:
      inference: of the model.
      samples: (time,), at the model's rate.
      wanted: the targets; all are active from the reference's threshold on.

    Returns:
      Stems and residual in that shape.

    Raises:
      ValueError: a target cannot be asked for in this way.
    """
    wanted = [dataclasses.replace(target, least=targets.THRESHOLD) for target in wanted]
    length = inference.networks.segment_samples
    segments = blocks.split(samples, length)
    hears = any(target.class_indices for target in wanted)  # queries by example do not ask what is active
    silence = np.zeros((len(segments), audioset.CLASS_COUNT), np.float32)
    probabilities = inference.probabilities(segments) if hears else silence

    # Every active (target, segment) pair, in one list: full batches of one shape, whatever is asked for.
    wanted, active = listening.active_targets(wanted, probabilities)
    wanted = targets.named_apart(wanted)
    pairs = [(i, segment) for i in range(len(wanted)) for segment in np.flatnonzero(active[i])]
    separated = np.zeros((len(wanted), *segments.shape), np.float32)
    if pairs:
        of_targets = conditions(inference, wanted, segments, probabilities, paper=True)
        rows = np.stack([of_targets[i][segment] for i, segment in pairs])
        results = inference.separate(segments[[segment for _, segment in pairs]], rows)
        for (i, segment), result in zip(pairs, results, strict=True):
            separated[i, segment] = result

    stems = {}
    for target, of_target in zip(wanted, separated, strict=True):
        joined = of_target.reshape(-1)[: len(samples)]
        if target.always or joined.max() > SILENCE:
            stems[target.name] = Stem(target.name, joined, target.class_indices, target.level, target.mid)
    kept = [target for target in wanted if target.name in stems]
    finest = max((target.level or 0 for target in kept), default=0)
    total = sum((stem.audio for stem in stems.values() if (stem.level or 0) == finest), np.zeros_like(samples))
    events = listening.timeline(kept, probabilities, length, len(samples) / SAMPLE_RATE_HZ)
    return Separation(stems, samples - total, events, SAMPLE_RATE_HZ)


class Whole:
    """Such a separation as `results` writes it: as one chunk.

    Attributes:
      targets, timeline, sample_rate_hz, channels, samples: as those of `streaming.Stream`.
    """

    def __init__(self, separation: Separation) -> None:
        """Of a separation of one channel."""
        self._separation = separation
        self.targets = [Target(x.name, x.class_indices, x.level, x.mid) for x in separation.stems.values()]
        self.timeline, self.sample_rate_hz = separation.timeline, separation.sample_rate_hz
        self.channels, self.samples = 1, len(separation.residual)

    def __iter__(self) -> Iterator[Chunk]:
        """Yields it."""
        stems = {name: stem.audio[:, None] for name, stem in self._separation.stems.items()}
        finest = max((target.level or 0 for target in self.targets), default=0)
        of_finest = [stems[target.name] for target in self.targets if (target.level or 0) == finest]
        residual = self._separation.residual[:, None]
        yield Chunk(0, sum(of_finest, residual), stems, residual)
