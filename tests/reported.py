"""Reports of made-up separations, which several tests look at."""

import base64
import html.parser
import io
import json
import re

import numpy as np
import soundfile
from PIL import Image

from uss_jax import audioset, report
from uss_jax.separated import Chunk, Event
from uss_jax.targets import Target

RATE_HZ = 32_000
VOID = {"meta", "link", "input"}  # elements without an end tag


def node_target(name):
    """The target of an ontology node."""
    node = next(node for node in audioset.nodes().values() if node.name == name)
    return Target(node.name, node.class_indices, node.level, node.mid, always=False)


def tone(frequency_hz, seconds=2.0, rate_hz=RATE_HZ, amplitude=0.3):
    """(time, 1)"""
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)[:, None]


def event(target, onset_s, offset_s, mean=0.5, peak=0.7):
    return Event(target.name, target.mid, target.level, onset_s, offset_s, mean, peak)


def page(stems, mixture, residual=None, rate_hz=RATE_HZ, timeline=(), title="a recording.wav", chunk=None, files=None):
    """The page of a separation; `stems`: [(target, samples or None for silence)]."""
    residual = np.zeros_like(mixture) if residual is None else residual
    targets = [target for target, _ in stems]
    builder = report.Builder(title, rate_hz, mixture.shape[1], len(mixture), targets)
    for start in range(0, len(mixture), chunk or len(mixture)):
        part = slice(start, start + (chunk or len(mixture)))
        sounding = {target.name: samples[part] for target, samples in stems if samples is not None}
        builder.add(Chunk(start, mixture[part], sounding, residual[part]))
    if files is None:
        files = {target.name: f"{target.name}.wav" for target in targets} | {"residual": "residual.wav"}
    return builder.html(timeline, files)


class Reader(html.parser.HTMLParser):
    """Reads a page as a browser would, and refuses tags that are not closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.scripts, self.tags, self.policy = [], {}, [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]
        if tag not in VOID:
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] in ("script", "style"):
            tag, attrs = self.open[-1]
            self.scripts[attrs.get("id", tag)] = data

    @property
    def content(self):
        return json.loads(self.scripts["content"])

    def sound(self, number):
        """The preview of a track: (time, channels), and its rate."""
        return soundfile.read(io.BytesIO(base64.b64decode(self.scripts[f"sound-{number}"])), always_2d=True)

    def picture(self, number):
        """The spectrogram of a track as places in the palette: (rows, columns), high sounds first."""
        kind, data = self.content["tracks"][number]["picture"].split(",")
        assert re.fullmatch(r"data:image/png;base64", kind)
        return np.array(Image.open(io.BytesIO(base64.b64decode(data))))
