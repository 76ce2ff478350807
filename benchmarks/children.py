"""Processes of their own for what is compared, kept alive so that measurements can take turns."""

import contextlib
import gc
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import psutil


def _serve(connection: Connection, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    """Makes a function, and calls it with what comes until None does; answers (worked, result)."""
    function: Callable[..., Any] | None = None
    try:
        function = make(*arguments)
        connection.send((True, None))
        while (asked := connection.recv()) is not None:
            connection.send((True, function(*asked)))
    except Exception:
        connection.send((False, traceback.format_exc()))
    del function
    gc.collect()  # loaders end their own workers when they go
    for worker in psutil.Process().children(recursive=True):
        worker.kill()
    os._exit(0)  # what libraries do at exit waits for workers, or complains of them


class Child:
    """A function that lives in a process of its own."""

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        """Starts the process; it calls `make(*arguments)`, which must pickle, for the function."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments))
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Waits until the function is made. Raises RuntimeError with the child's traceback where that failed."""
        self._answer()

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function there. Raises RuntimeError with the child's traceback where it raised."""
        self._connection.send(arguments)
        return self._answer()

    def _answer(self) -> Any:
        try:
            worked, answer = self._connection.recv()
        except EOFError as error:
            raise RuntimeError("a process of the benchmark was ended from outside, as for lack of memory") from error
        if not worked:
            raise RuntimeError(answer)
        return answer

    def end(self) -> None:
        """Lets the process end."""
        with contextlib.suppress(BrokenPipeError):
            self._connection.send(None)
        self._process.join()


@contextlib.contextmanager
def children() -> Iterator[Callable[..., Child]]:
    """Starts children, as `Child` does, when called, and waits for each to be ready; all end with the block."""
    with contextlib.ExitStack() as stack:

        def start(make: Callable[..., Callable[..., Any]], *arguments: Any) -> Child:
            child = Child(make, *arguments)
            stack.callback(child.end)
            child.ready()
            return child

        yield start


def cpu_seconds() -> float:
    """Processor time that this process and those below it have used so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(time.user + time.system for time in times)
