"""The process that holds the model and separates one recording after the other.

It is apart from the server, so that whatever a recording does to it (memory, a crash, a hang) ends this process alone;
another takes its place.
"""

import contextlib
import dataclasses
import enum
import functools
import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from uss_jax import processes
from uss_jax.separated import Progress, Watcher

PATIENCE_S = 5.0  # until a process that was asked to stop is killed
WARM_UP_S = 4.0  # of noise that is separated at start, so that the first recording finds all compiled
CHUNK_VALUES = 1 << 20  # samples of all channels that are decoded at once to learn how long a recording is


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be separated.

    Attributes:
      path: the recording.
      folder: of the results; does not exist yet.
      title: what the user calls the recording.
      levels, classes: ontology levels, or else classes.
      longest_s: seconds of audio; longer recordings are refused.
    """

    path: Path
    folder: Path
    title: str
    levels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    longest_s: float = float("inf")


Separate = Callable[[Order, Watcher], None]


class Word(enum.Enum):
    """What is said over the pipe, beside orders, progress and failures."""

    READY = enum.auto()
    STOP = enum.auto()
    DONE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no result, in one sentence."""

    sentence: str


class Worker:
    """The server's side of the process: `close` may be called by any thread, all else by one."""

    def __init__(self, load: Callable[[], Separate]) -> None:
        """Args: load, which the process calls first; it is pickled, and so is a function of a module."""
        self._load = load
        self._process: BaseProcess | None = None
        self._pipe: connection.Connection
        self._lock = threading.Lock()
        self._closed = self._ready = False

    def start(self) -> None:
        """Starts a process unless there is one."""
        context = multiprocessing.get_context("spawn")  # what forks a process with threads may hang
        with self._lock:
            if self._closed or (self._process is not None and self._process.is_alive()):
                return
            self._ready = False
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._load, theirs), daemon=True)
            with processes.deaf():
                self._process.start()
            theirs.close()

    def wait_until_ready(self) -> None:
        """Returns when a process just started has its model.

        Raises:
          ValueError: it cannot load it, or ended.
        """
        self._hear()

    def run(self, order: Order, watch: Watcher, seconds: float, stop: threading.Event) -> None:
        """Separates a recording.

        Args:
          order: what to separate.
          watch: is told how far it is.
          seconds: the most that it may take.
          stop: may be set to end it early.

        Raises:
          ValueError: it failed, took too long, or ended the process; the message is one sentence for the user.
        """
        self.start()
        deadline = time.monotonic() + seconds
        asked = False
        self._say(order)
        while time.monotonic() < deadline:
            if stop.is_set() and not asked:
                self._say(Word.STOP)
                asked, deadline = True, min(deadline, time.monotonic() + PATIENCE_S)
            if self._pipe.poll(0.1):
                message = self._hear()
                if isinstance(message, Progress):
                    watch(message)
                elif message is Word.DONE:
                    return
        self._kill()
        raise ValueError(f"This took longer than {seconds / 60:g} minutes, and was stopped.")

    def close(self) -> None:
        """Ends the process, whatever it does; no other is started."""
        with self._lock:
            self._closed = True
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def _say(self, message: Order | Word) -> None:
        with contextlib.suppress(OSError):  # that it ended is told by `_hear`
            self._pipe.send(message)

    def _hear(self) -> Any:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError) as error:
            assert self._process is not None
            self._process.join()
            raise ValueError(
                f"The separation ended unexpectedly (exit code {self._process.exitcode}); was there enough memory?"
            ) from error
        if isinstance(message, Failure):
            if not self._ready:
                self._kill()  # it is about to end, and is not to be taken for one that works
            raise ValueError(message.sentence)
        self._ready = True
        return message


def _serve(load: Callable[[], Separate], pipe: connection.Connection) -> None:
    """Life of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the server ends this process
    processes.end_with_parent()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the server is gone
        try:
            separate = load()
        except (ValueError, OSError) as error:
            pipe.send(Failure(str(error)))
            return
        pipe.send(Word.READY)
        while True:
            order = pipe.recv()
            if isinstance(order, Order):  # else a STOP that came too late
                pipe.send(_outcome(separate, order, pipe))


class _StoppedError(Exception):
    """The server said STOP."""


def _outcome(separate: Separate, order: Order, pipe: connection.Connection) -> Word | Failure:
    def watch(progress: Progress) -> None:
        pipe.send(progress)
        if pipe.poll():  # nothing but STOP is said while it works
            raise _StoppedError

    try:
        separate(order, watch)
    except _StoppedError:
        pass
    except (ValueError, OSError) as error:
        # The user knows the recording by its title alone, and sees that beside the sentence.
        return Failure(str(error).removeprefix(f"{order.path}: ").replace(str(order.path), order.title))
    return Word.DONE


def load_model(model_name: str, scratch: Path) -> Separate:
    """Loads and compiles a model, and returns what separates by it; `scratch` is a folder for passing files.

    Raises:
      ValueError: there is no such model.
    """
    from uss_jax import audio, separation

    separate = functools.partial(separate_recording, separation.Model.load(model_name))
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        noise = np.random.default_rng(0).normal(scale=0.1, size=round(WARM_UP_S * audio.SAMPLE_RATE_HZ))
        path = Path(folder, "noise.wav")
        audio.write(path, noise.astype(np.float32), audio.SAMPLE_RATE_HZ)
        separate(Order(path, Path(folder, "stems"), "noise", classes=("Speech",)), lambda progress: None)
    return separate


def separate_recording(model: Any, order: Order, watch: Watcher) -> None:
    """Writes the results of an order by a `uss_jax.separation.Model`.

    Raises:
      ValueError: the recording cannot be read or is too long, or the model cannot do what is asked for.
    """
    from uss_jax import results, targets

    check_length(order.path, order.longest_s)
    wish = targets.Wish(classes=order.classes) if order.classes else targets.Wish(levels=order.levels)
    results.separate_file(model, order.path, order.folder, wish, results.Output(), watch, title=order.title)


def check_length(path: Path, longest_s: float) -> None:
    """Raises ValueError where a recording is longer, whatever its header says; no more than that is decoded."""
    from uss_jax.recording import Recording

    recording = Recording(path)
    seconds = 0.0
    for chunk in recording.chunks(CHUNK_VALUES // recording.channels):
        seconds += len(chunk) / recording.sample_rate_hz
        if seconds > longest_s:
            raise ValueError(f"{path}: longer than {longest_s / 60:g} minutes, the most that is taken here")
