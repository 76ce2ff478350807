"""The server of the page as a program of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVE = """
from uss_jax import demo
if __name__ == "__main__":
    demo.serve({model!r}, "127.0.0.1", 0, demo.Limits())
"""


def start(folder: Path, model: str) -> tuple[subprocess.Popen[str], str]:
    """A server whose temporary files go to a folder, and its address."""
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(folder)}
    command = [sys.executable, "-c", SERVE.format(model=model)]
    heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731 — tests may run under nohup
    server = subprocess.Popen(command, env=environment, preexec_fn=heard, **pipes)
    assert server.stdout is not None
    told = re.match(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
    assert told is not None
    return server, told[0]
