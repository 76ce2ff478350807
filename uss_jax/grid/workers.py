"""Processes that do jobs, each with devices, or a share of the processor cores, of its own."""

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import absl.logging

from uss_jax import processes
from uss_jax.grid.plan import Job, Study

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
DIED = "failed: its process died, perhaps for want of memory"


class Outcome(NamedTuple):
    """What came of a job: in a few words, and whether it failed."""

    said: str
    failed: bool


class Workers:
    """So many processes; one that dies fails the job that it was at, and is replaced."""

    def __init__(self, study: Study, count: int) -> None:
        """Args: study that jobs are of; count of processes."""
        self._study, self._count = study, count
        self._pools = [self._start(slot) for slot in range(count)]

    def _start(self, slot: int) -> concurrent.futures.ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        arguments = (slot, self._count, self._study.workdir)
        return concurrent.futures.ProcessPoolExecutor(1, context, _begin, arguments)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Does jobs, as many at once as there are processes. Yields each when it is done."""
        todo = list(reversed(jobs))
        busy: dict[concurrent.futures.Future[Outcome], tuple[int, Job]] = {}
        idle = list(range(self._count))
        while todo or busy:
            while todo and idle:  # no more than are done at once: what is given to a pool cannot be taken back
                slot, job = idle.pop(0), todo.pop()
                busy[self._pools[slot].submit(_do, job, self._study)] = slot, job
            for future in concurrent.futures.wait(busy, return_when=concurrent.futures.FIRST_COMPLETED).done:
                slot, job = busy.pop(future)
                idle.append(slot)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    self._pools[slot] = self._start(slot)
                    outcome = Outcome(DIED, True)
                yield job, outcome

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # what they train is saved
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGINT)
        for pool in self._pools:
            pool.shutdown()


def _begin(slot: int, count: int, folder: Path) -> None:
    """Gives this process its devices before JAX looks for any; programs are kept, for seeds share them."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"process-{slot}.txt").open("a") as file:  # what libraries and their threads have to say
        os.dup2(file.fileno(), 2)
    os.setpgrp()  # Ctrl-C is the main process's, which passes it on, once
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between jobs
    processes.end_with_parent()
    if count > 1:
        _take_share(slot, count)

    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _take_share(slot: int, count: int) -> None:
    """Takes a GPU, or a part of the memory of one where there are too few; where there are none, a part of the cores.

    Processes that use a GPU are left to take what cores they need: one that waits for a kernel to end holds a core.
    """
    gpus = _gpu_count()
    for variable in VISIBLE:
        known = os.environ.get(variable)
        listed = known.split(",") if known else [str(number) for number in range(gpus or count)]
        os.environ[variable] = listed[slot % len(listed)]
        if count > len(listed):
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / -(-count // len(listed)):.3f}")
    if not gpus:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[slot * len(cores) // count : (slot + 1) * len(cores) // count] or cores)


def _gpu_count() -> int:
    """NVIDIA's GPUs of this machine; JAX is not asked, for it would take them."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _do(job: Job, study: Study) -> Outcome:
    """Does a job; what it says goes to a file in the workdir, with the traceback where it fails."""
    from uss_jax.grid import jobs
    from uss_jax.training.stopping import Stopped

    log = study.workdir / "logs" / f"{str(job).replace(' ', '_')}.txt"
    with log.open("a", encoding="utf-8") as file, _logged_to(file):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return Outcome(jobs.do(job, study), False)
        except (KeyboardInterrupt, Stopped):
            return Outcome("interrupted", True)
        except Exception as error:
            traceback.print_exc(file=file)
            known = isinstance(error, ValueError | OSError | FloatingPointError)
            return Outcome(f"failed: {error if known else f'{type(error).__name__}: {error}'} ({log})", True)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _logged_to(file: Any) -> Iterator[None]:
    """What is logged in the block goes to a file."""
    absl.logging.set_verbosity(absl.logging.WARNING)  # of the libraries
    logger, handler = logging.getLogger("uss_jax"), logging.StreamHandler(file)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
