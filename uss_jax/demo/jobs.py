"""What is to be done, what is being done, and what was done and is kept for a while."""

import dataclasses
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from uss_jax.demo import outcome
from uss_jax.demo.outcome import Outcome
from uss_jax.demo.worker import Order, Worker
from uss_jax.separated import Event, Progress


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the page takes and keeps.

    Attributes:
      upload_bytes: of a file.
      upload_s: seconds until a file must have arrived.
      audio_s: seconds of audio in a file.
      job_s: seconds that a separation may take.
      waiting: files that may wait for their turn or be on their way.
      kept: finished results; the oldest make room for new ones.
      kept_s: seconds until a finished result is removed.
    """

    upload_bytes: int = 200_000_000
    upload_s: float = 600.0
    audio_s: float = 1800.0
    job_s: float = 1800.0
    waiting: int = 8
    kept: int = 8
    kept_s: float = 3600.0


class FullError(ValueError):
    """As many files wait as may."""


class UnknownError(ValueError):
    """There is no such job, or no longer."""


@dataclasses.dataclass
class Job:
    """A file of a user.

    Attributes:
      token: what only its user knows.
      folder: of all its files.
      title: how its user calls it.
      state: "uploading", "waiting", "reading", "listening", "separating", "done" or "failed".
      share: of the stage that is done, 0 to 1.
      since: when the state began, by the clock of `Jobs`.
      events: what sounds when, once that is known.
      outcome: once it is done.
      error: why it failed, one sentence.
      stop: set when its user no longer wants it.
      zipping: held while its zip file is made.
    """

    token: str
    folder: Path
    since: float
    title: str = "recording"
    state: str = "uploading"
    share: float = 0.0
    events: tuple[Event, ...] = ()
    outcome: Outcome | None = None
    error: str | None = None
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    zipping: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def upload(self) -> Path:
        """Where the file is; its name is ours, never the user's."""
        return self.folder / "upload"

    @property
    def results(self) -> Path:
        """The result folder, see `uss_jax.results`."""
        return self.folder / "results"

    @property
    def zip(self) -> Path:
        """The result folder as one file, once it was asked for."""
        return self.folder / "stems.zip"

    @property
    def finished(self) -> bool:
        """Whether nothing more is going to happen."""
        return self.state in ("done", "failed")


class Jobs:
    """One thread takes the waiting jobs in their order, one at a time."""

    def __init__(
        self,
        folder: Path,
        worker: Worker,
        limits: Limits,
        on_broken: Callable[[ValueError], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets it up; `start` begins.

        Args:
          folder: where all files go.
          worker: separates.
          limits: what is taken and kept.
          on_broken: is told, by another thread, when the model cannot be loaded.
          clock: in seconds.
        """
        self.limits = limits
        self._folder, self._worker, self._on_broken, self._clock = folder, worker, on_broken, clock
        self._jobs: dict[str, Job] = {}
        self._queue: list[tuple[Job, Order]] = []
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begins to work, with the model first."""
        self._worker.start()
        self._thread.start()

    def open(self) -> Job:
        """A place for a file that is on its way.

        Raises:
          FullError: there is none left.
        """
        token = secrets.token_hex(16)
        job = Job(token, self._folder / token, self._clock())
        with self._changed:
            if sum(other.state in ("uploading", "waiting") for other in self._jobs.values()) >= self.limits.waiting:
                raise FullError(f"{self.limits.waiting} recordings are waiting already; try again later")
            self._jobs[token] = job
        job.folder.mkdir()
        return job

    def submit(self, job: Job, levels: tuple[int, ...], classes: tuple[str, ...]) -> None:
        """Puts a job, whose file is there now, at the end of the queue."""
        order = Order(job.upload, job.results, job.title, levels, classes, self.limits.audio_s)
        with self._changed:
            self._enter(job, "waiting")
            self._queue.append((job, order))
            self._changed.notify()

    def get(self, token: str) -> Job:
        """The job of a token; raises UnknownError where there is none, or no longer."""
        job = self._jobs.get(token)
        if job is None or self._expired(job):
            raise UnknownError("this result is not here; results are removed after a while")
        return job

    def ahead(self, job: Job) -> int:
        """How many jobs come before one that waits."""
        with self._changed:
            before = [other for other, _ in self._queue]
            return before.index(job) + (self._running is not None) if job in before else 0

    def seconds_in_state(self, job: Job) -> float:
        """How long it has been in its state."""
        return self._clock() - job.since

    def remove(self, job: Job) -> None:
        """Forgets a job and removes its files, whatever its state; one that runs is stopped."""
        with self._changed:
            self._jobs.pop(job.token, None)
            self._queue = [(other, order) for other, order in self._queue if other is not job]
            running = job is self._running
            job.stop.set()
        if not running:  # else its files are removed when it has stopped
            shutil.rmtree(job.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Removes finished jobs that are old, or too many."""
        with self._changed:
            finished = [job for job in self._jobs.values() if job.finished]
            finished.sort(key=lambda job: job.since)
            spare = finished[: max(0, len(finished) - self.limits.kept)]
            old = [job for job in finished if self._expired(job)]
        for job in {job.token: job for job in [*spare, *old]}.values():
            self.remove(job)

    def close(self) -> None:
        """Ends all work and removes all files."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.close()
        if self._thread.is_alive():
            self._thread.join()
        for job in list(self._jobs.values()):
            self.remove(job)

    def _expired(self, job: Job) -> bool:
        return job.finished and self.seconds_in_state(job) > self.limits.kept_s

    def _enter(self, job: Job, state: str) -> None:
        job.state, job.since = state, self._clock()

    def _work(self) -> None:
        try:
            self._worker.wait_until_ready()
        except ValueError as error:
            self._on_broken(error)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                job, order = self._queue.pop(0)
                self._running = job
                self._enter(job, "reading")
            self._run(job, order)
            with self._changed:
                self._running = None
            if job.stop.is_set() or job.state == "failed":
                shutil.rmtree(job.folder, ignore_errors=True)
            self._worker.start()  # another process, where this job ended the last one
            self.sweep()

    def _run(self, job: Job, order: Order) -> None:
        def watch(progress: Progress) -> None:
            job.share = progress.share
            job.events = job.events or progress.timeline
            if job.state != progress.stage:
                self._enter(job, progress.stage)

        try:
            self._worker.run(order, watch, self.limits.job_s, job.stop)
            if not job.stop.is_set():
                job.outcome = outcome.read(order.folder)
                job.upload.unlink()
                self._enter(job, "done")
        except (ValueError, OSError) as error:
            job.error = str(error)
            self._enter(job, "failed")
