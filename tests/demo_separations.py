"""Separations for the tests of the page: they do what the uploaded file says, in a process without jax."""

import dataclasses
import functools
import json
import os
import signal
import time

import numpy as np
import soundfile

from uss_jax.demo.worker import Order, Separate, separate_recording
from uss_jax.separated import Event, Progress, Watcher

EVENT = Event("Dog", "/m/0bt9lr", 3, 0.25, 0.75, mean_probability=0.5, peak_probability=0.75)
RATE_HZ = 8000


def load() -> Separate:
    """A separation that needs no model."""
    return obey


def load_nothing() -> Separate:
    """The real separation without a model: it gets as far as to read the recording."""
    return functools.partial(separate_recording, None)


def load_slowly() -> Separate:
    """A model that takes its time."""
    time.sleep(1.5)
    return obey


def load_badly() -> Separate:
    """A model that is not there."""
    raise ValueError("tny: no such model")


def obey(order: Order, watch: Watcher) -> None:
    """Does what the first word of the recording says, and writes down when."""
    command = order.path.read_text().split()[0]
    log = order.path.parent.parent / "log"
    with log.open("a") as file:
        file.write(f"begin {order.title}\n")
    watch(Progress("listening", 0.5))
    if command == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if command == "hang":
        time.sleep(600)
    if command == "refuse":
        raise ValueError(f"{order.path}: {order.path.name} holds no sound")
    while command == "wait" and not (order.path.parent.parent / "go").exists():
        watch(Progress("separating", 0.25, (EVENT,)))
        time.sleep(0.02)
    write(order)
    with log.open("a") as file:
        file.write(f"end {order.title}\n")


def write(order: Order) -> None:
    """A result folder of one stem of a second of noise, and the residual."""
    order.folder.mkdir()
    (order.folder / "level3").mkdir()
    noise = np.random.default_rng(0).uniform(-1, 1, (2, RATE_HZ)).astype(np.float32)
    soundfile.write(order.folder / "level3" / "Dog.wav", noise[0], RATE_HZ, subtype="FLOAT")
    soundfile.write(order.folder / "residual.wav", noise[1], RATE_HZ, subtype="FLOAT")
    stem = {"name": "Dog", "level": 3, "mid": "/m/0bt9lr", "file": "level3/Dog.wav"}
    timeline = {
        "audio": order.title,
        "sample_rate_hz": RATE_HZ,
        "seconds": 1.0,
        "stems": [stem],
        "events": [dataclasses.asdict(EVENT)],
    }
    (order.folder / "timeline.json").write_text(json.dumps(timeline))
    (order.folder / "report.html").write_text(f"<title>{len(order.title)}</title>")
    (order.folder / "wish.json").write_text(json.dumps([order.levels, order.classes]))
