"""The report of a separated recording, gathered as the separation streams by, and written as one HTML page."""

import base64
import concurrent.futures
import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uss_jax.report import picture, preview, spectrogram, tree
from uss_jax.separated import Chunk, Event
from uss_jax.targets import Target

TEMPLATE = ("page.html", "style.css", "player.js", "parts.js", "view.js")
LOUDEST = 1e6  # louder samples are no sound, and their squares would be infinite


class Track:
    """What a page holds of one sound.

    Attributes:
      spectrogram: of the mean of its channels.
      preview: of its beginning.
      energy: sum of the squares of all samples.
    """

    def __init__(self, sample_rate_hz: int, channels: int, frames: int, heard: int) -> None:
        """For a sound of this form, of which the first `heard` samples can be listened to."""
        self.spectrogram = spectrogram.Spectrogram(sample_rate_hz, frames)
        self.preview = preview.Preview(sample_rate_hz, channels, heard)
        self.energy = 0.0

    def add(self, samples: np.ndarray) -> None:
        """Takes the next samples, (time, channels)."""
        samples = np.clip(samples, -LOUDEST, LOUDEST)
        self.energy += float(np.sum(np.square(samples, dtype=np.float64)))
        self.spectrogram.add(samples.mean(axis=1))
        self.preview.add(samples)


class Builder:
    """Gathers a report in constant memory, however long the recording is."""

    def __init__(self, title: str, sample_rate_hz: int, channels: int, frames: int, targets: Sequence[Target]) -> None:
        """Begins the report of a recording.

        Args:
          title: of the page, such as the name of the file.
          sample_rate_hz: of the recording.
          channels: of the recording.
          frames: its length in samples.
          targets: one for each stem, with unlike names.

        Raises:
          ValueError: the recording is empty.
        """
        if min(sample_rate_hz, channels, frames) < 1:
            raise ValueError(f"{title}: {frames} samples of {channels} channels at {sample_rate_hz} Hz give no report")
        self._title, self._rate, self._channels = title, sample_rate_hz, channels
        self._targets = list(targets)
        self._seconds = frames / sample_rate_hz
        heard = min(frames, int(preview.seconds(2 + len(self._targets)) * sample_rate_hz))
        self._heard_seconds = heard / sample_rate_hz
        self._mixture, self._residual, *self._stems = (
            Track(sample_rate_hz, channels, frames, heard) for _ in range(2 + len(self._targets))
        )

    def add(self, chunk: Chunk) -> None:
        """Takes the next piece of the separation; a stem that it lacks is silent there."""
        sounds = [chunk.mixture, chunk.residual, *(chunk.stem(target.name) for target in self._targets)]
        tracks = [self._mixture, self._residual, *self._stems]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:  # FFT and FLAC let other threads run
            list(threads.map(Track.add, tracks, sounds))

    def html(self, timeline: Sequence[Event], files: Mapping[str, str]) -> str:
        """The page. To be called once, after the last piece.

        Args:
          timeline: when which sound is active.
          files: of every stem, and of `residual`, the path of its sound file, relative to the page, with `/` between
            folders. A stem without a file is left out.

        Returns:
          One HTML document, which needs no other file and no network.
        """
        stems = [
            (target, track) for target, track in zip(self._targets, self._stems, strict=True) if target.name in files
        ]
        tracks = [self._mixture, *(track for _, track in stems), self._residual]
        decibels = [track.spectrogram.decibels() for track in tracks]
        top_db = float(decibels[0].max())
        described = [
            {"kind": "mixture", "file": None},
            *(self._described(target, timeline) | {"file": files[target.name]} for target, _ in stems),
            {"kind": "residual", "file": files.get("residual")},
        ]
        for about, track, of_track in zip(described, tracks, decibels, strict=True):
            about["picture"] = picture.png_uri(picture.shades(of_track, top_db))
            about["energyShare"] = track.energy / self._mixture.energy if self._mixture.energy else None
        number_of = {target.name: number for number, (target, _) in enumerate(stems, 1)}
        placed = {target.mid: number_of[target.name] for target, _ in stems if target.mid and tree.in_tree(target)}
        content = {
            "title": self._title,
            "seconds": self._seconds,
            "sampleRate": self._rate,
            "channels": self._channels,
            "heardSeconds": self._heard_seconds,
            "previewRate": self._mixture.preview.rate_hz,
            "rangeDb": picture.RANGE_DB,
            "colours": picture.colours(12),
            "frequencies": spectrogram.labels(self._rate),
            "pitches": spectrogram.span(self._rate),
            "tracks": described,
            "tree": tree.tree(placed),
            "others": [number for number in number_of.values() if number not in placed.values()],
        }
        return document(content, [track.preview.encoded() for track in tracks])

    def _described(self, target: Target, timeline: Sequence[Event]) -> dict[str, Any]:
        events = [event for event in timeline if event.name == target.name]
        return {
            "kind": "stem",
            "name": target.name,
            "level": target.level,
            "listenedFor": bool(target.class_indices),  # by the tagger, which does not know queries by example
            **tree.activity(events, self._seconds),
        }


def document(content: dict[str, Any], sounds: Sequence[str]) -> str:
    """The template, filled. Its policy allows only its own script and style, told by their digests.

    Args:
      content: what `view.js` draws.
      sounds: of each track, its preview in base 64.
    """
    folder = importlib.resources.files("uss_jax.report").joinpath("template")
    page, style, *scripts = (folder.joinpath(name).read_text(encoding="utf-8") for name in TEMPLATE)
    script = "\n".join(scripts)
    parts = {
        "style": style,
        "script": script,
        "style_digest": _digest(style),
        "script_digest": _digest(script),
        "content": embedded(content),
        "sounds": "\n".join(
            f'<script type="text/plain" id="sound-{number}">{sound}</script>' for number, sound in enumerate(sounds)
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def embedded(content: Any) -> str:
    """JSON that stays JSON inside a script element, whatever strings it holds."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
