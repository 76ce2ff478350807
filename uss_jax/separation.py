"""A model in use: tags recordings, and separates their sounds."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from uss_jax import (
    audio,
    audioset,
    blocks,
    compilation_cache,
    listening,
    model_dir,
    paper,
    parallel,
    queries,
    stablehlo,
    streaming,
    targets,
)
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.block_masks import BlockMasks, Wanted
from uss_jax.blocks import Grid
from uss_jax.conditions import check_known
from uss_jax.inference import Inference
from uss_jax.listening import Measured
from uss_jax.recording import MAX_CHANNELS, RATES_HZ, Recording
from uss_jax.separated import Event, Progress, Separation, Stem, Watcher
from uss_jax.streaming import Stream
from uss_jax.stretches import Samples, Source
from uss_jax.targets import Target, Wish

CHANNELS = ("shared", "each")
CONTEXT_S = 0.25  # on either side of a block, at least


class Model:
    """A trained model, ready to use.

    Attributes:
      networks: the model.
      inference: its compiled passes.
    """

    def __init__(self, networks: model_dir.Networks, batch_size: int | None = None) -> None:
        """Puts a model to use; `batch_size` is of every pass of its networks, by default what suits the device."""
        self.inference = Inference(networks, batch_size or parallel.inference_batch())
        self.networks = self.inference.networks

    @classmethod
    def load(cls, name_or_dir: str | Path) -> "Model":
        """See `uss_jax.load`."""
        compilation_cache.enable()
        return cls(model_dir.load(name_or_dir))

    def function(self) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The separator as a pure function, for `jax.jit`, `jax.vmap` and `jax.grad`: see `stablehlo.function`."""
        return stablehlo.function(self.networks)

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
        return self.tag_source(_source(samples, sample_rate_hz), levels)

    def tag_source(
        self, source: Source, levels: Sequence[int] = (1, 2, 3), watch: Watcher = lambda progress: None
    ) -> list[Event]:
        """As `tag`, of a recording that is read as a stream; `watch` is told how far it is."""
        wanted = targets.of_levels(levels) if levels else []
        listed = {target.mid for target in wanted}
        wanted += [
            Target(sound.name, (sound.index,), mid=sound.mid) for sound in audioset.classes() if sound.mid not in listed
        ]
        measured = listening.measure(source)
        step = self._step()
        told = functools.partial(Progress, "listening")
        probabilities = listening.listen(source, measured, self.inference, step, lambda share: watch(told(share)))
        return listening.timeline(wanted, probabilities, step, measured.samples / source.sample_rate_hz)

    def embed(self, recordings: Sequence[np.ndarray], sample_rate_hz: int) -> np.ndarray:
        """The query of example recordings, each (time,) or (time, channels): (condition,).

        Raises:
          ValueError: the model does not separate, or all recordings are silent.
        """
        self._need_separator()
        checked = [_checked(recording, sample_rate_hz) for recording in recordings]
        heard = [listening.measure(Samples(x, sample_rate_hz)).heard(x) for x in checked]
        examples = [audio.resample(x, sample_rate_hz, SAMPLE_RATE_HZ) for x in heard]
        return queries.example_condition(self.inference, examples)

    def separate(
        self,
        samples: np.ndarray,
        sample_rate_hz: int,
        *,
        levels: Sequence[int] | int = (),
        classes: Sequence[str | int] | Mapping[str | int, float] | str | int = (),
        together: bool = False,
        query: Sequence[np.ndarray] | Mapping[str, Sequence[np.ndarray]] = (),
        embedding: np.ndarray | Mapping[str, np.ndarray] | None = None,
        spans: Sequence[tuple[float, float]] = (),
        exclude: Sequence[str | int] | str | int = (),
        channels: str = "shared",
        consistent: bool = False,
        paper: bool = False,
    ) -> Separation:
        """Separates by ontology level (1, 2 and 3 unless something is asked for), by class, or by example.

        What is asked for in one call shares all work that can be shared.

        Args:
          samples: (time,) or (time, channels).
          sample_rate_hz: its rate.
          levels: a stem for every active node of these ontology levels.
          classes: a stem for each of these class names, indices or machine ids; silence where it is not active, as it
            is from a lower probability on than a node of a level (`targets.EXPECTED`), or from half of its greatest
            one on, if that is lower still (`targets.at_best`).
          together: one stem of all the classes; `classes` may then give each a weight.
          query: example recordings of what is wanted, each (time,) or (time, channels), at the same rate; several
            queries by name.
          embedding: (condition,), a query from `embed`; several by name.
          spans: (onset, offset) in seconds: a stem of what sounds there, wherever it sounds.
          exclude: classes that are kept out of the stems where they are active, from `targets.EXPECTED` on: who
            excludes a sound does not say that it is there.
          channels: `shared`, the masks are made of the mean of the channels (of the loudest, where they cancel out) and
            applied to each; or `each`, of each channel by itself.
          consistent: the stems of a level share what they leave of the input, wherever one of them is active.
          paper: the reference's inference: mono, at the model's rate, hard cuts, what the tagger hears in the block as
            the query, its elements other than the target's classes set to 0 (which means little for a latent query).

        Returns:
          Stems and residual in the input's shape and rate (paper: mono at the model's rate).

        Raises:
          ValueError: the model does not separate, or the audio or what is asked for is wrong.
        """
        self._need_separator()
        classes = [classes] if isinstance(classes, str | int) else classes
        levels = [levels] if isinstance(levels, int) else levels
        if not isinstance(query, Mapping):
            query = {"query": query} if len(query) else {}
        if not isinstance(embedding, Mapping):
            embedding = {} if embedding is None else {"query": embedding}
        embeddings = {name: self.embed(recordings, sample_rate_hz) for name, recordings in query.items()}
        wish = Wish(
            levels=tuple(levels),
            classes=tuple(classes),
            together=together,
            weights=tuple(classes.values()) if isinstance(classes, Mapping) else (),
            embeddings=embeddings | {name: checked_condition(x, self.networks) for name, x in embedding.items()},
            spans=tuple(spans),
            excluded=(exclude,) if isinstance(exclude, str | int) else tuple(exclude),
        )
        if paper:
            return self.separate_as_paper(samples, sample_rate_hz, wish)
        stream = self.stream(_source(samples, sample_rate_hz), wish, channels=channels, consistent=consistent)
        return _collect(stream, np.shape(samples))

    def separate_targets(
        self, samples: np.ndarray, sample_rate_hz: int, wanted: list[Target], paper: bool = False
    ) -> Separation:
        """What `separate` does once it is known what to separate; raises and returns as it does."""
        if paper:
            return self._as_paper(samples, sample_rate_hz, wanted)
        source = _source(samples, sample_rate_hz)
        return _collect(self._stream(source, listening.measure(source), wanted), np.shape(samples))

    def separate_as_paper(self, samples: np.ndarray, sample_rate_hz: int, wish: Wish) -> Separation:
        """The reference's inference of what is wished for; raises and returns as `separate` does."""
        if wish.spans or wish.excluded or wish.weights:
            raise ValueError("the reference's inference knows no spans, no excluded classes and no weights")
        return self._as_paper(samples, sample_rate_hz, wish.targets())

    def _as_paper(self, samples: np.ndarray, sample_rate_hz: int, wanted: list[Target]) -> Separation:
        self._need_separator()
        mono = _checked(samples, sample_rate_hz).mean(axis=1)
        return paper.separate(self.inference, audio.resample(mono, sample_rate_hz, SAMPLE_RATE_HZ), wanted)

    def stream(
        self,
        source: str | Path | Source,
        wish: Wish,
        *,
        channels: str = "shared",
        consistent: bool = False,
        watch: Watcher = lambda progress: None,
    ) -> Stream:
        """Listens to a recording of any length, and gives its separation chunk by chunk, in constant memory.

        Args:
          source: a sound file, or what can be read as one.
          wish: what is asked for.
          channels, consistent: as in `separate`.
          watch: is told how far the listening is.

        Raises:
          ValueError: the model does not separate; the recording or what is asked for is wrong.
        """
        self._need_separator()
        source = Recording(source) if isinstance(source, str | Path) else source
        _check_choice("channels", channels, CHANNELS)
        wanted, excluded = wish.targets(), wish.excluded_targets()
        measured = listening.measure(source)
        if wish.spans:
            examples = [listening.span_samples(source, measured, onset, offset) for onset, offset in wish.spans]
            if any(example.any() for example in examples):
                condition = queries.example_condition(self.inference, examples)
            else:  # as a class that is never active, the sound of silence has a silent stem
                condition = np.zeros(self.networks.condition_size, np.float32)
            wanted.append(Target("span", condition=condition))
        return self._stream(source, measured, wanted, excluded, channels == "each", consistent, watch)

    def _stream(
        self,
        source: Source,
        measured: Measured,
        wanted: list[Target],
        excluded: Sequence[Target] = (),
        each: bool = False,
        consistent: bool = False,
        watch: Watcher = lambda progress: None,
    ) -> Stream:
        rate, step = source.sample_rate_hz, self._step()
        samples = measured.model_samples(rate)
        heard = [target for target in (*wanted, *excluded) if target.class_indices]  # queries by example are not
        probabilities = np.zeros((blocks.hearing_count(samples, step), audioset.CLASS_COUNT), np.float32)
        if heard:
            told = functools.partial(Progress, "listening")
            probabilities = listening.listen(source, measured, self.inference, step, lambda share: watch(told(share)))
        wanted = [targets.at_best(target, probabilities) for target in wanted]
        wanted, active = self._askable(*listening.active_targets(wanted, probabilities))
        if excluded:
            for target in excluded:
                check_known(self.inference, target)
            active = np.concatenate([active, listening.activities(excluded, probabilities)])
        active &= measured.gain > 0.0
        layout = Wanted(wanted, list(excluded), active, probabilities, samples, rate, each, consistent)
        masks = BlockMasks(self.inference, self._grid(), layout)
        events = listening.timeline(wanted, probabilities, step, measured.samples / rate)
        most = int(active.sum(axis=0).max(initial=0))
        return Stream(source, measured, masks, wanted, events, streaming.chunk_seconds(most, source.channels, rate))

    def _askable(self, wanted: list[Target], active: np.ndarray) -> tuple[list[Target], np.ndarray]:
        """Without the nodes of levels that a latent query cannot ask for; named apart.

        Raises:
          ValueError: a class that was asked for by name is such a one.
        """
        kept = []
        for number, target in enumerate(wanted):
            try:
                check_known(self.inference, target)
                kept.append(number)
            except ValueError:
                if target.always:
                    raise
        return targets.named_apart([wanted[number] for number in kept]), active[kept]

    def _step(self) -> int:
        """Samples between hearings, at the model's rate: half a block."""
        if self.networks.separator is None:
            return self.networks.segment_samples // 2
        cut = self._grid()
        return cut.core * cut.hop // 2

    def _grid(self) -> Grid:
        """Blocks about as long as a training segment."""
        separator, segment = self.networks.separator, self.networks.segment_samples
        unit = math.lcm(separator.time_multiple, 4)  # so that half a core, and half a fade, are whole
        core = unit * max(1, round(segment / (unit * separator.hop)))
        context = unit * math.ceil(CONTEXT_S * SAMPLE_RATE_HZ / (unit * separator.hop))
        # A network on waveforms takes the level of a block from its own samples.
        levelled = separator.normalise_level and not separator.on_waveforms
        level_frames = segment // separator.hop // 2 if levelled else 0
        return Grid(separator.hop, separator.window, core, context, context // 2, level_frames)

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


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(choices)}")


def _checked(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The audio as float32, (time, channels); raises ValueError where it is empty, not finite, of another shape, …"""
    if np.asarray(samples).dtype.kind != "f":
        raise ValueError(f"audio of type {np.asarray(samples).dtype}: expected floats from −1 to 1")
    samples = np.asarray(samples, np.float32)
    if samples.ndim not in (1, 2) or samples.size == 0 or samples.shape[1:] > (MAX_CHANNELS,):
        raise ValueError(f"audio of shape {samples.shape}: expected (time,) or (time, channels), not empty")
    if not np.isfinite(samples).all():
        raise ValueError("the audio holds samples that are NaN or infinite")
    if isinstance(sample_rate_hz, float) or sample_rate_hz not in RATES_HZ:
        raise ValueError(f"a sample rate of {sample_rate_hz} Hz: expected a whole number from 1 000 to 768 000")
    return samples.reshape(len(samples), -1)


def _source(samples: np.ndarray, sample_rate_hz: int) -> Samples:
    return Samples(_checked(samples, sample_rate_hz), sample_rate_hz)


def _collect(stream: Stream, shape: tuple[int, ...]) -> Separation:
    """All chunks in one, in the shape of the input."""
    whole = {target.name: np.zeros((stream.samples, stream.channels), np.float32) for target in stream.targets}
    residual = np.zeros((stream.samples, stream.channels), np.float32)
    for chunk in stream:
        place = slice(chunk.start, chunk.start + len(chunk.mixture))
        residual[place] = chunk.residual
        for name, stem in chunk.stems.items():
            whole[name][place] = stem
    stems = {
        target.name: Stem(
            target.name, whole[target.name].reshape(shape), target.class_indices, target.level, target.mid
        )
        for target in stream.targets
    }
    return Separation(stems, residual.reshape(shape), stream.timeline, stream.sample_rate_hz)
