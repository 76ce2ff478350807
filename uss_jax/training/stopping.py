"""Being asked to stop: by Ctrl-C, or by SIGTERM, with which machines are taken back."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

import jax

from uss_jax import parallel


class Stopped(Exception):
    """The run was asked to stop, and saved before it did.

    Attributes:
      status: the exit status, 128 and the number of the signal, as a shell has it.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step}, which is saved; the same command goes on")
        self.status = 128 + signal_number


class Stopping:
    """Notes SIGINT and SIGTERM while its block runs; a second one ends the process at once.

    On several hosts JAX itself listens to SIGTERM, and tells all of them the step to stop after.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        alone = jax.process_count() == 1
        for number in (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def after(self, step: int) -> int | None:
        """The signal because of which the run is to stop after this step; to be asked after every step."""
        if parallel.asked_to_stop(step):
            return self._received or signal.SIGTERM
        return self._received if jax.process_count() == 1 else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = number
        self._restore()
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
