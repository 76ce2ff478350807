"""A model in use: tags recordings, and separates their sounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import audio, audioset, blocks, compilation_cache, model_dir, queries, targets
from uss_jax.inference import Inference
from uss_jax.separated import Event, Separation, Stem
from uss_jax.targets import Target

THRESHOLD = 0.2  # a sound is active in a block where its probability reaches this (reference)
MOST_CHANNELS = 64  # more are taken for (channels, time), which is the wrong way round
PAPER_SILENCE = 1e-6  # a node whose greatest sample is no higher has no stem (reference)
OVERLAP_SHARE = 0.25  # of a block, shared with its neighbour


class Model:
    """A trained model, ready to use.

    Attributes:
      networks: the model.
      inference: its compiled passes.
    """

    def __init__(self, networks: model_dir.Networks, batch_size: int = 8) -> None:
        self.networks = networks
        self.inference = Inference(networks, batch_size)
        self._overlap = int(OVERLAP_SHARE * networks.segment_samples)

    @classmethod
    def load(cls, name_or_dir: str | Path) -> "Model":
        """See `uss_jax.load`."""
        compilation_cache.enable()
        return cls(model_dir.load(name_or_dir))

    def tag(self, samples: np.ndarray, sample_rate_hz: int, levels: Sequence[int] = (1, 2, 3)) -> list[Event]:
        """Active classes and ontology nodes over time, without separation.

        Args:
          samples: (time,) or (time, channels).
          sample_rate_hz: its rate.
          levels: of the nodes; classes that are no nodes of these levels are listed with level None.

        Returns:
          Nodes, coarse to fine, then classes.

        Raises:
          ValueError: the audio or a level is wrong.
        """
        mono = self._to_model(_checked(samples, sample_rate_hz), sample_rate_hz)
        probabilities = self.inference.probabilities(self._split(mono, self._overlap))
        wanted = targets.of_levels(levels) if levels else []
        listed = {target.mid for target in wanted}
        wanted += [
            Target(sound.name, (sound.index,), mid=sound.mid) for sound in audioset.classes() if sound.mid not in listed
        ]
        return self._timeline(wanted, probabilities, len(mono), self._overlap)

    def embed(self, recordings: Sequence[np.ndarray], sample_rate_hz: int) -> np.ndarray:
        """The query of example recordings, each (time,) or (time, channels): (condition,).

        Raises:
          ValueError: the model does not separate, or all recordings are silent.
        """
        self._need_separator()
        examples = [self._to_model(_checked(recording, sample_rate_hz), sample_rate_hz) for recording in recordings]
        return queries.example_condition(self.inference, examples)

    def separate(
        self,
        samples: np.ndarray,
        sample_rate_hz: int,
        *,
        levels: Sequence[int] = (),
        classes: Sequence[str | int] | str | int = (),
        together: bool = False,
        query: Sequence[np.ndarray] = (),
        embedding: np.ndarray | None = None,
        paper: bool = False,
    ) -> Separation:
        """Separates by ontology level (1, 2 and 3 unless something is asked for), by class, or by example.

        Args:
          samples: (time,) or (time, channels).
          sample_rate_hz: its rate.
          levels: a stem for every active node of these ontology levels.
          classes: a stem for each of these class names, indices or machine ids; silence where it is never active.
          together: one stem of all the classes.
          query: example recordings of what is wanted, each (time,) or (time, channels), at the same rate.
          embedding: (condition,), a query from `embed`.
          paper: the reference's inference: mono, at the model's rate, hard cuts, what the tagger hears in the block as
            the query, its elements other than the target's classes set to 0 (which means little for a latent query).

        Returns:
          Stems and residual in the input's shape and rate (paper: mono at the model's rate).

        Raises:
          ValueError: the model does not separate, or the audio or what is asked for is wrong.
        """
        self._need_separator()
        classes = [classes] if isinstance(classes, str | int) else classes
        if sum(map(bool, (len(levels), len(classes), len(query), embedding is not None))) > 1:
            raise ValueError("ask for one of: levels, classes, query, embedding")
        if len(query):
            embedding = self.embed(query, sample_rate_hz)
        if embedding is not None:
            wanted = [Target("query", condition=checked_condition(embedding, self.networks))]
        elif len(classes):
            wanted = targets.of_classes(classes, together)
        else:
            wanted = targets.of_levels(levels or (1, 2, 3))
        return self.separate_targets(samples, sample_rate_hz, wanted, paper)

    def separate_targets(
        self, samples: np.ndarray, sample_rate_hz: int, wanted: list[Target], paper: bool = False
    ) -> Separation:
        """What `separate` does once it is known what to separate; raises and returns as it does."""
        samples = _checked(samples, sample_rate_hz)
        if paper:
            samples = self._to_model(samples, sample_rate_hz)
            sample_rate_hz = audio.SAMPLE_RATE_HZ
        overlap = 0 if paper else self._overlap
        channels = [audio.resample(x, sample_rate_hz, audio.SAMPLE_RATE_HZ) for x in np.atleast_2d(samples.T)]
        mono = np.mean(channels, axis=0)
        mono_blocks = self._split(mono, overlap)
        hears = any(target.class_indices for target in wanted)  # queries by example do not ask what is active
        silence = np.zeros((len(mono_blocks), audioset.CLASS_COUNT), np.float32)
        probabilities = self.inference.probabilities(mono_blocks) if hears else silence

        # Every active (target, block) pair, in one list: full batches of one shape, whatever is asked for.
        active = [targets.activity(target, probabilities) >= THRESHOLD for target in wanted]
        wanted, active = _drop_inactive(wanted, active)
        pairs = [(i, block) for i in range(len(wanted)) for block in np.flatnonzero(active[i])]
        separated = np.zeros((len(wanted), len(channels), *mono_blocks.shape), np.float32)
        if pairs:
            conditions = self.conditions(wanted, mono_blocks, probabilities, paper)
            rows = np.stack([conditions[i][block] for i, block in pairs])
            for channel, channel_samples in enumerate(channels):
                channel_blocks = self._split(channel_samples, overlap)
                results = self.inference.separate(channel_blocks[[block for _, block in pairs]], rows)
                for (i, block), result in zip(pairs, results, strict=True):
                    separated[i, channel, block] = result

        stems = {}
        for target, of_target in zip(wanted, separated, strict=True):
            joined = np.stack([blocks.join(x, overlap, len(mono)) for x in of_target], axis=-1)
            joined = audio.fit_length(audio.resample(joined, audio.SAMPLE_RATE_HZ, sample_rate_hz), len(samples))
            if paper and not target.always and joined.max() <= PAPER_SILENCE:
                continue
            joined = joined.reshape(samples.shape)
            stems[target.name] = Stem(target.name, joined, target.class_indices, target.level, target.mid)
        wanted = [target for target in wanted if target.name in stems]
        finest = max((target.level or 0 for target in wanted), default=0)
        total = sum((stem.audio for stem in stems.values() if (stem.level or 0) == finest), np.zeros_like(samples))
        timeline = self._timeline(wanted, probabilities, len(mono), overlap)
        return Separation(stems, samples - total, timeline, sample_rate_hz)

    def conditions(
        self, wanted: list[Target], mono_blocks: np.ndarray, probabilities: np.ndarray, paper: bool = False
    ) -> list[np.ndarray]:
        """The condition of each target in each block.

        Args:
          wanted: the targets.
          mono_blocks: (blocks, time), of the mixture, at the model's rate.
          probabilities: (blocks, classes), what the tagger hears in them.
          paper: as in `separate`.

        Returns:
          For each target (blocks, condition).

        Raises:
          ValueError: the query is latent, and the model does not know a target's.
        """
        known = self.networks.config["classes"]
        means = self.networks.class_conditions
        soft = self.networks.config["query"]["kind"] == "soft"
        bottlenecks = probabilities if soft and self.networks.query_tagger is self.networks.tagger else None
        found = []
        for target in wanted:
            if target.condition is not None:
                found.append(np.broadcast_to(target.condition, (len(probabilities), len(target.condition))))
            elif means is not None and not paper and set(known) & set(target.class_indices):
                found.append(targets.class_mixture(target, probabilities, known, means, THRESHOLD))
            elif soft or paper:
                if bottlenecks is None:
                    bottlenecks = self.inference.bottlenecks(mono_blocks)
                masked = targets.masked(target, bottlenecks)
                found.append(self.inference.conditions_of_bottlenecks(masked))
            else:
                raise ValueError(
                    f"{target.name}: the query of this model is latent, and it was not told this sound's; give examples"
                    " of it (--query), or ask for the reference's inference (--paper)"
                )
        return found

    def _timeline(self, wanted: list[Target], probabilities: np.ndarray, samples: int, overlap: int) -> list[Event]:
        rate = audio.SAMPLE_RATE_HZ
        events = []
        for target in wanted:
            if not target.class_indices:  # the tagger does not hear a query by example
                continue
            level = targets.activity(target, probabilities)
            for first, last, onset, offset in blocks.spans(
                level >= THRESHOLD, self.networks.segment_samples, overlap, samples
            ):
                run = level[first:last]
                events.append(
                    Event(
                        name=target.name,
                        mid=target.mid,
                        level=target.level,
                        onset_s=onset / rate,
                        offset_s=offset / rate,
                        mean_probability=float(run.mean()),
                        peak_probability=float(run.max()),
                    )
                )
        return events

    def _split(self, samples: np.ndarray, overlap: int) -> np.ndarray:
        return blocks.split(samples, self.networks.segment_samples, overlap)

    def _to_model(self, samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        return audio.resample(audio.to_mono(samples), sample_rate_hz, audio.SAMPLE_RATE_HZ)

    def _need_separator(self) -> None:
        if self.networks.separator is None:
            raise ValueError(f"the model {self.networks.config['name']!r} tags and does not separate")


def checked_condition(embedding: Any, networks: model_dir.Networks) -> np.ndarray:
    """A query as float32, (condition,); raises ValueError where it is not finite or does not fit the model."""
    if not isinstance(embedding, np.ndarray) or embedding.dtype.kind not in "fiu":
        raise ValueError("an embedding is an array of real numbers")
    if embedding.shape != (networks.condition_size,) or not np.isfinite(embedding).all():
        raise ValueError(f"an embedding of shape {embedding.shape}: expected ({networks.condition_size},), all finite")
    return embedding.astype(np.float32)


def _checked(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The audio as float32; raises ValueError where it is empty, not finite, of another shape, or no floats."""
    if np.asarray(samples).dtype.kind != "f":
        raise ValueError(f"audio of type {np.asarray(samples).dtype}: expected floats from −1 to 1")
    samples = np.asarray(samples, np.float32)
    if samples.ndim not in (1, 2) or samples.size == 0 or samples.shape[1:] > (MOST_CHANNELS,):
        raise ValueError(f"audio of shape {samples.shape}: expected (time,) or (time, channels), not empty")
    if not np.isfinite(samples).all():
        raise ValueError("the audio holds samples that are NaN or infinite")
    if sample_rate_hz <= 0:
        raise ValueError(f"a sample rate of {sample_rate_hz} Hz")
    return samples


def _drop_inactive(wanted: list[Target], active: list[np.ndarray]) -> tuple[list[Target], list[np.ndarray]]:
    """Leaves out the targets that are wanted only where active, and never are."""
    kept = [i for i, target in enumerate(wanted) if target.always or active[i].any()]
    return [wanted[i] for i in kept], [active[i] for i in kept]
