"""`uss-jax demo`: the server from its start to its end."""

import contextlib
import functools
import importlib.util
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from uss_jax.demo.jobs import Jobs, Limits
from uss_jax.demo.worker import Worker, load_model

NEEDED = {"fastapi": "FastAPI", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}


def serve(model_name: str, host: str, port: int, limits: Limits) -> None:
    """Prints the address of the page and serves it until Ctrl-C or a signal; all files are removed in the end.

    Args:
      model_name: a known model, or a model directory.
      host: address or name to listen on; anyone who reaches it can use the page.
      port: 0 for any that is free.
      limits: what is taken and kept.

    Raises:
      ValueError: a library is missing, the address cannot be had, or there is no such model.
    """
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f"the page needs {missing[0]}, which is not installed: pip install 'uss-jax[demo]'")
    import uvicorn

    from uss_jax.demo.app import make_app

    broken: list[ValueError] = []

    def give_up(error: ValueError) -> None:
        broken.append(error)
        server.should_exit = True

    with listening(host, port) as listener, _ended_by_signals(), _temporary_folder() as folder:
        worker = Worker(functools.partial(load_model, model_name, folder))
        worker.start()  # before the page is asked for, and by the main thread, so that it is deaf to Ctrl-C
        jobs = Jobs(folder, worker, limits, give_up)
        app = make_app(jobs, model_name, host)
        quiet: dict[str, Any] = {"log_config": None, "access_log": False}
        server = uvicorn.Server(uvicorn.Config(app, proxy_headers=False, timeout_graceful_shutdown=2, **quiet))
        sys.stdout.write(f"{address(listener)} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        try:
            server.run([listener])
        finally:
            jobs.close()
    if broken:
        raise broken[0]


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; raises ValueError where the address cannot be had."""
    if port not in range(1 << 16):
        raise ValueError(f"port {port}: ports run from 0 to {(1 << 16) - 1}")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(where[:2], family=family)
    except OSError as error:
        raise ValueError(
            f"{host}, port {port}: cannot listen there ({error.strerror}); choose another --port"
        ) from error


def address(listener: socket.socket) -> str:
    """The address of the page, for a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="uss-jax-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Signals that would end the process at once end the block in order, so that files are removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers: dict[int, Any] = {signal.SIGTERM: leave}
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        # The server handles SIGTERM while it runs, and raises it again when it has ended.
        handlers[signal.SIGHUP] = lambda number, frame: signal.raise_signal(signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
