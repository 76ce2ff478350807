"""Processes that do jobs, each with devices, or a share of the processor cores, of its own."""

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.logging

from uss_jax import processes
from uss_jax.grid.plan import Job, Study

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")


def run(jobs: Sequence[Job], study: Study, count: int) -> Iterator[tuple[Job, str, bool]]:
    """Does jobs in so many processes, as many at once.

    Yields:
      Each job when it is done, what came out, and whether it failed.

    Raises:
      KeyboardInterrupt: passed on to the processes first, which save what they have reached.
      OSError: a process died.
    """
    context = multiprocessing.get_context("spawn")
    slots = context.SimpleQueue()
    for slot in range(count):
        slots.put(slot)
    with concurrent.futures.ProcessPoolExecutor(count, context, _begin, (slots, count, study.workdir)) as pool:
        waiting = {pool.submit(_do, job, study): job for job in jobs}
        try:
            for future in concurrent.futures.as_completed(waiting):
                yield waiting[future], *future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise OSError("a process died: was there enough memory? The same command goes on") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGINT)
            raise


def _begin(slots: Any, count: int, folder: Path) -> None:
    """Gives this process its devices before JAX looks for any; programs are kept, for seeds share them."""
    processes.end_with_parent()
    slot = slots.get()
    if count > 1:
        for variable in VISIBLE:
            listed = os.environ.get(variable)
            os.environ[variable] = listed.split(",")[slot % len(listed.split(","))] if listed else str(slot)
        cores = sorted(os.sched_getaffinity(0))
        own = cores[slot * len(cores) // count : (slot + 1) * len(cores) // count]
        os.sched_setaffinity(0, own or cores)

    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _do(job: Job, study: Study) -> tuple[str, bool]:
    """Does a job; what it says goes to a file in the workdir, with the traceback where it fails."""
    from uss_jax.grid import jobs
    from uss_jax.training.stopping import Stopped

    log = study.workdir / "logs" / f"{str(job).replace(' ', '_')}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, _written_to(file):
        try:
            return jobs.do(job, study), False
        except Stopped as stopped:
            raise KeyboardInterrupt from stopped
        except Exception as error:
            traceback.print_exc(file=file)
            known = isinstance(error, ValueError | OSError | FloatingPointError)
            return f"failed: {error if known else f'{type(error).__name__}: {error}'} ({log})", True


@contextlib.contextmanager
def _written_to(file: Any) -> Iterator[None]:
    """What is logged and written to standard error in the block goes to a file."""
    absl.logging.set_verbosity(absl.logging.WARNING)  # of the libraries
    logger, handler = logging.getLogger("uss_jax"), logging.StreamHandler(file)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with contextlib.redirect_stderr(file):
            yield
    finally:
        logger.removeHandler(handler)
        sys.stderr.flush()
