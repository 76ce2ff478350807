"""The first look at a recording: how long and how loud it is, and what the tagger hears in it when."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from uss_jax import audio, audioset, blocks, targets
from uss_jax.audio import SAMPLE_RATE_HZ
from uss_jax.inference import Inference
from uss_jax.separated import Event
from uss_jax.stretches import Source, stretches
from uss_jax.targets import Target

LEVEL = 10 ** (-20 / 20)  # RMS of the loudest two seconds, as the networks hear every recording
SILENCE = 1e-10  # a recording whose loudest two seconds have a lower RMS is silent
CANCELLED = 0.01  # of the channels' energy: where their mean has less in a second, the loudest channel is heard instead
UNHEARD = 1e-4  # seconds with less than this share of the loudest one's energy do not decide it
INAUDIBLE = 1e-5  # a segment whose samples, at that level, are no greater holds no sound
STRETCH_S = 16


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of a recording after one pass.

    Attributes:
      samples: its length, at its rate.
      gain: that brings its loudest two seconds to `LEVEL`; 0 where it is silent.
      channel: the one that is heard, or None for the mean of all.
    """

    samples: int
    gain: float
    channel: int | None

    def levelled(self, samples: np.ndarray) -> np.ndarray:
        """As loud as the networks hear it, the same shape."""
        return samples * np.float32(self.gain)

    def heard(self, levelled: np.ndarray) -> np.ndarray:
        """The one channel that they hear: (time, channels) → (time,)."""
        return levelled.mean(axis=1) if self.channel is None else levelled[:, self.channel]

    def model_samples(self, sample_rate_hz: int) -> int:
        """Its length at the model's rate."""
        return math.ceil(self.samples * SAMPLE_RATE_HZ / sample_rate_hz)


def margin_s(segment_samples: int) -> int:
    """Seconds around a stretch that hold whatever the networks take of it when hearing or block begin in it."""
    return math.ceil(1.5 * segment_samples / SAMPLE_RATE_HZ + 1.5)


def measure(source: Source) -> Measured:
    """Reads a recording through once.

    The gain makes all that follows blind to how loud the recording is: a gain on the input is a gain on the output.

    Raises:
      ValueError: as reading does.
    """
    count, energies = 0, []
    for stretch in stretches(source, 1, 0):
        samples = stretch.samples.astype(np.float64)
        samples -= samples[: stretch.count].mean(axis=0)  # a constant is no sound
        samples[stretch.count :] = 0.0
        energies.append([np.sum(samples.mean(axis=1) ** 2), *np.sum(samples**2, axis=0)])  # of the mean, of each
        count += stretch.count
    energy = np.array(energies)
    of_channels = energy[:, 1:].mean(axis=1)
    counts = of_channels > UNHEARD * of_channels.max()
    cancels = (energy[:, 0] < CANCELLED * of_channels)[counts].any()
    channel = int(np.argmax(energy[:, 1:].sum(axis=0))) if cancels else None
    heard = energy[:, 0 if channel is None else 1 + channel]
    pairs = heard[:-1] + heard[1:] if len(heard) > 1 else heard
    loudest = math.sqrt(pairs.max() / min(count, 2 * source.sample_rate_hz))
    return Measured(count, LEVEL / loudest if loudest > SILENCE else 0.0, channel)


def listen(
    source: Source,
    measured: Measured,
    inference: Inference,
    step: int,
    progress: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """What the tagger hears, every `step` samples at the model's rate.

    A segment begins with each step and covers the next one, too; of a step's two segments the surer one counts, class
    by class, so that a sound on the border of one is whole in the other.

    Args:
      source: the recording.
      measured: of it.
      inference: of the model.
      step: samples between hearings, about half a segment.
      progress: is told the share of the recording that was listened to.

    Returns:
      Class probabilities, (hearings, classes); 0 where there is nothing but digital silence.

    Raises:
      ValueError: as reading does.
    """
    length, samples = inference.networks.segment_samples, measured.model_samples(source.sample_rate_hz)
    count = blocks.hearing_count(samples, step)
    probabilities = np.zeros((count, audioset.CLASS_COUNT), np.float32)
    if measured.gain == 0.0:
        return probabilities
    first = 0
    for stretch in stretches(source, STRETCH_S, margin_s(length)):
        levelled = measured.levelled(stretch.samples)
        heard = audio.resample(measured.heard(levelled), source.sample_rate_hz, SAMPLE_RATE_HZ)
        end = (stretch.start_s + stretch.seconds) * SAMPLE_RATE_HZ
        last = min(count, (end - 1) // step + 1)
        begins = (stretch.start_s - stretch.margin_s) * SAMPLE_RATE_HZ
        starts = [blocks.hearing_start(i, step, length, samples) - begins for i in range(first, last)]
        segments = [audio.fit_length(heard[start : start + length], length) for start in starts]
        audible = [i for i, segment in enumerate(segments) if np.abs(segment).max() > INAUDIBLE]
        if audible:
            probabilities[[first + i for i in audible]] = inference.probabilities(
                np.stack([segments[i] for i in audible])
            )
        first = last
        progress(min(1.0, end / samples))
    return np.maximum(probabilities, np.concatenate([probabilities[:1], probabilities[:-1]]))


def activities(wanted: Sequence[Target], probabilities: np.ndarray) -> np.ndarray:
    """When each target is active: (targets, hearings), bool."""
    return np.stack([targets.activity(target, probabilities) >= target.least for target in wanted])


def active_targets(wanted: list[Target], probabilities: np.ndarray) -> tuple[list[Target], np.ndarray]:
    """The targets that are active somewhere or wanted in any case, and where: (targets, hearings), bool."""
    active = activities(wanted, probabilities)
    kept = [i for i, target in enumerate(wanted) if target.always or active[i].any()]
    return [wanted[i] for i in kept], active[kept]


def timeline(wanted: Sequence[Target], probabilities: np.ndarray, step: int, seconds: float) -> list[Event]:
    """When each target is active, target by target; queries by example have no events, for the tagger knows no name.

    Args:
      wanted: the targets.
      probabilities: (hearings, classes).
      step: samples between hearings, at the model's rate.
      seconds: of the recording.
    """
    samples = math.ceil(seconds * SAMPLE_RATE_HZ)
    events = []
    for target in wanted:
        if not target.class_indices:
            continue
        level = targets.activity(target, probabilities)
        for first, last, onset, offset in blocks.spans(level >= target.least, step, samples):
            run = level[first:last]
            events.append(
                Event(
                    name=target.name,
                    mid=target.mid,
                    level=target.level,
                    onset_s=onset / SAMPLE_RATE_HZ,
                    offset_s=min(offset / SAMPLE_RATE_HZ, seconds),
                    mean_probability=float(run.mean()),
                    peak_probability=float(run.max()),
                )
            )
    return events


def span_samples(source: Source, measured: Measured, onset_s: float, offset_s: float) -> np.ndarray:
    """What is heard from one time to another, levelled, at the model's rate: (time,).

    Raises:
      ValueError: there is no such time in the recording.
    """
    rate = source.sample_rate_hz
    first, last = round(onset_s * rate), round(offset_s * rate)
    if not 0 <= first < min(last, measured.samples):
        length_s = measured.samples / rate
        raise ValueError(f"span {onset_s:g}-{offset_s:g}: not a time in the recording, which lasts {length_s:.2f} s")
    pieces, place = [], 0
    for chunk in source.chunks(rate):
        pieces.append(chunk[max(0, first - place) : max(0, last - place)])
        place += len(chunk)
        if place >= last:
            break
    return audio.resample(measured.heard(measured.levelled(np.concatenate(pieces))), rate, SAMPLE_RATE_HZ)
