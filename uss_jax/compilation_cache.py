"""JAX's persistent compilation cache in the user's cache folder: what was compiled once is not compiled again.

It is turned off by `JAX_ENABLE_COMPILATION_CACHE=false`, and put elsewhere by `JAX_COMPILATION_CACHE_DIR`.
"""

import contextlib
import os
import warnings
import zlib
from pathlib import Path

import jax

from uss_jax import files

MOST_BYTES = 32 << 20  # a program of the paper's networks takes 0.1 MB
SHORTEST_COMPILATION_S = 0.02  # of what is kept
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # JAX compresses so where it can, else by zlib


def enable() -> None:
    """Keeps compiled programs in the folder `compiled` of the cache folder, unless the user has chosen otherwise.

    That the folder cannot be made or written is no error, nor that others may write there, too, when it is not used,
    nor that a file in it is damaged: programs are then compiled anew, and JAX's warnings of it left out.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is not None or not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder = files.cache_folder() / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours_alone(folder):  # what lies in it is run
            return
    except (OSError, RuntimeError):  # the second where there is no home directory
        return
    _tidy(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_COMPILATION_S)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning)


def _ours_alone(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _tidy(folder: Path) -> None:
    """Removes damaged entries, which JAX would never replace, and the oldest beyond `MOST_BYTES`.

    JAX's own bound needs another package for its locks, and fails for good once a process was killed while it wrote.
    """
    total = 0
    for path in sorted(folder.glob("*-cache"), key=_age):
        with contextlib.suppress(OSError):  # another process may have removed it
            content = path.read_bytes()
            total += len(content)
            if total > MOST_BYTES or not _is_whole(content):
                path.unlink()


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _is_whole(content: bytes) -> bool:
    """Whether an entry can be decompressed: both a cut and a changed byte show, by zlib's checksum."""
    if content.startswith(ZSTANDARD):
        return True
    try:
        zlib.decompress(content)
    except zlib.error:
        return False
    return True
