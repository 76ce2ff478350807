"""What runs the jobs of a long preparation: processes of this machine, or an Apache Beam runner.

A job is picklable and its function idempotent, so that what was interrupted is simply run again.
"""

import contextlib
import dataclasses
import itertools
import multiprocessing
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

Job = TypeVar("Job")


class Engine(Protocol):
    """Runs a function over jobs, in any order."""

    def run(self, function: Callable[[Job], int], jobs: Iterable[Job], advance: Callable[[int], Any]) -> None:
        """Returns when all are done.

        Args:
          function: of a module, so that other processes can import it; returns how much it did.
          jobs: what it is called with.
          advance: is told what the function returned, where the engine can tell.

        Raises:
          ValueError: a job failed; jobs that were done stay done.
        """


@dataclasses.dataclass(frozen=True)
class Local:
    """Processes of this machine; a single worker is this process itself."""

    workers: int

    def run(self, function: Callable[[Job], int], jobs: Iterable[Job], advance: Callable[[int], Any]) -> None:
        """Runs the jobs; see `Engine`. Interrupted, it stops at once, and what was half done is done again later."""
        if self.workers == 1:
            for job in jobs:
                advance(function(job))
            return
        waiting = iter(jobs)
        with contextlib.closing(_Workers(function)) as workers:
            for job in itertools.islice(waiting, self.workers):
                workers.start().give(job)
            while workers.busy:
                for worker in workers.ready():
                    advance(worker.result())
                    workers.busy.remove(worker)
                    for job in itertools.islice(waiting, 1):
                        workers.busy.add(worker)
                        worker.give(job)


@dataclasses.dataclass(frozen=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: connection.Connection

    def give(self, job: Any) -> None:
        """Hands it a job."""
        with contextlib.suppress(OSError):  # that it died is told by `result`
            self.pipe.send(job)

    def result(self) -> int:
        """What its function returned, once it is ready."""
        try:
            result = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise ValueError(
                f"a worker process ended unexpectedly (exit code {self.process.exitcode}); "
                "what is finished is kept: run the command again, perhaps with fewer workers"
            ) from error
        if isinstance(result, str):
            raise ValueError(result)
        return result


class _Workers:
    """Spawned processes: what forks a process with threads may hang."""

    def __init__(self, function: Callable[[Any], int]) -> None:
        self._function = function
        self._context = multiprocessing.get_context("spawn")
        self._all: list[_Worker] = []
        self.busy: set[_Worker] = set()

    def start(self) -> _Worker:
        """Starts another."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._function, theirs), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._all.append(worker)
        self.busy.add(worker)
        return worker

    def ready(self) -> Iterator[_Worker]:
        """Those of the busy that have a result, or died; waits for one."""
        of_pipe = {worker.pipe: worker for worker in self.busy}
        for pipe in connection.wait(list(of_pipe)):
            yield of_pipe[pipe]  # type: ignore[index]

    def close(self) -> None:
        """Ends them, whatever they do."""
        for worker in self._all:
            worker.process.terminate()
        for worker in self._all:
            worker.process.join()
            worker.pipe.close()


def _serve(function: Callable[[Any], int], pipe: connection.Connection) -> None:
    """Life of a worker: it ends when nobody gives it jobs any more, as after the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = pipe.recv()
            try:
                result: int | str = function(job)
            except (ValueError, OSError) as error:
                result = str(error)
            pipe.send(result)


@dataclasses.dataclass(frozen=True)
class Beam:
    """An Apache Beam pipeline.

    Attributes:
      options: of Beam, such as `["--runner=DirectRunner"]`.
    """

    options: tuple[str, ...]

    def run(self, function: Callable[[Job], int], jobs: Iterable[Job], advance: Callable[[int], Any]) -> None:
        """Runs the jobs; see `Engine`. Beam's workers must reach the files under the same paths."""
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError as error:
            raise ValueError("Apache Beam is not installed: pip install 'uss-jax[beam]'") from error
        pipeline = beam.Pipeline(options=PipelineOptions(list(self.options)))
        pipeline | beam.Create(list(jobs)) | beam.Reshuffle() | beam.Map(function)
        try:
            pipeline.run().wait_until_finish()
        except RuntimeError as error:
            # Some runners tell it among all that their workers said.
            reasons = [line for line in str(error).splitlines() if re.match(r"[\w.]*Error: ", line)]
            raise ValueError(f"Beam: {reasons[-1] if reasons else error}") from error
