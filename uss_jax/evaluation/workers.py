"""Processes that decode and measure beside the accelerator. Nothing that runs in them imports JAX."""

import collections
import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, TypeVar

import threadpoolctl

from uss_jax import processes

Result = TypeVar("Result")

ENDED = "a worker process was ended from outside, perhaps for want of memory"

_context: Any = None  # in a worker process: what every function is called with first


def _start(context: Any) -> None:
    global _context
    _context = context
    threadpoolctl.threadpool_limits(1)
    processes.end_with_parent()


def _call(function: Callable[..., Result], *arguments: Any) -> Result:
    return function(_context, *arguments)


class Workers:
    """Runs `function(context, …)` elsewhere, and gives the results in the order asked for.

    Attributes:
      count: of the processes; 0 runs everything in this process.
      context: what every function is called with first.
    """

    def __init__(self, count: int, context: Any) -> None:
        """Args: count: see above; context: picklable, sent to every process once."""
        self.count = count
        self.context = context
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        if count:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                count, multiprocessing.get_context("spawn"), initializer=_start, initargs=(context,)
            )

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Callable[[], Result]:
        """Starts one call. What is returned waits for its result."""
        if self._pool is None:
            result = function(self.context, *arguments)
            return lambda: result
        try:
            with processes.deaf():
                future = self._pool.submit(_call, function, *arguments)
        except BrokenProcessPool as error:
            raise ValueError(ENDED) from error

        def wait() -> Result:
            try:
                return future.result()
            except BrokenProcessPool as error:
                raise ValueError(ENDED) from error

        return wait

    def stream(
        self, function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], ahead: int | None = None
    ) -> Iterator[Result]:
        """The results of many calls in their order; `ahead` of them, two a process, run before they are taken."""
        ahead = 2 * self.count if ahead is None else ahead
        waiting: collections.deque[Callable[[], Result]] = collections.deque()
        for several in arguments:
            waiting.append(self.submit(function, *several))
            if len(waiting) > ahead:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
