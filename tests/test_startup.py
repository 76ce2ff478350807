"""Starting: what loading a model imports, and the compiled programs that are kept for the next start."""

import os
import re
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest

from uss_jax import compilation_cache, signal

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "yard.flac"

# Prints how often JAX found a program in the cache, how often it wrote it there, and the program's result.
PROGRAM = """
import collections, hashlib, sys
import jax, jax.monitoring
import jax.numpy as jnp
import numpy as np
from uss_jax import compilation_cache, signal
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))

def denoise(audio):
    for window in (128, 256):
        spectrum = signal.stft(audio, window, 64)
        audio = signal.istft(spectrum * jnp.tanh(signal.magnitude(spectrum)), window, 64, audio.shape[-1])
    return audio

compilation_cache.enable()
exec(sys.argv[1])
audio = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32))
events.clear()
result = jax.jit(denoise)(audio)
print(events["cache_hits"], events["cache_misses"], hashlib.sha256(result.tobytes()).hexdigest())
"""
DAMAGE = {
    "cut": lambda content: content[:-100],
    "empty": lambda content: b"",
    "garbled": lambda content: content[:40] + bytes(byte ^ 0x5A for byte in content[40:]),
    "garbled from the first byte": lambda content: bytes(byte ^ 0x5A for byte in content),
}


def start(cache: Path, then: str = "", **environment: str) -> subprocess.Popen[str]:
    """Runs PROGRAM with this cache folder; `then` is done once the cache is enabled."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    settings = kept | {"USS_JAX_CACHE": str(cache)} | environment
    command = [sys.executable, "-c", PROGRAM, then]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings)


def outcome(process: subprocess.Popen[str]) -> tuple[int, int, str]:
    """How often its program was found in the cache, how often it was written there, and its result."""
    said, complaints = process.communicate()
    assert process.returncode == 0, complaints
    assert complaints == ""
    hits, written, result = said.split()
    return int(hits), int(written), result


def run(cache: Path, then: str = "", **environment: str) -> tuple[int, int, str]:
    return outcome(start(cache, then, **environment))


def entries(cache: Path) -> list[Path]:
    """Of all programs, also of very small ones on a slow machine."""
    return sorted(cache.glob("compiled/*-cache"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache folder after the first run, and the result of that."""
    cache = tmp_path_factory.mktemp("filled")
    hits, written, result = run(cache)
    assert (hits, written) == (0, 1)
    return cache, result


# What is imported


def test_loading_imports_nothing_that_separating_does_not_need():
    """Each of them takes a tenth of a second to two seconds."""
    unneeded = ["optax", "orbax", "tensorflow_datasets", "grain", "matplotlib", "numba", "scipy.signal", "sklearn"]
    code = f"import sys, uss_jax; uss_jax.load('tiny'); print([m for m in {unneeded} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("sample_rate_hz", "window", "bands", "low_hz", "high_hz"),
    [(32_000, 1024, 64, 50.0, 14_000.0), (32_000, 512, 16, 50.0, 14_000.0), (44_100, 2048, 128, 0.0, 22_050.0)],
)
def test_mel_filters_are_librosa_s_to_the_bit(sample_rate_hz, window, bands, low_hz, high_hz):
    expected = librosa.filters.mel(sr=sample_rate_hz, n_fft=window, n_mels=bands, fmin=low_hz, fmax=high_hz).T
    found = signal.mel_filters(sample_rate_hz, window, bands, low_hz, high_hz)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# What is kept


def test_a_second_process_compiles_nothing(filled):
    cache, result = filled
    assert run(cache) == (1, 0, result)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_entries_are_compiled_anew(filled, damage: Callable[[bytes], bytes]):
    """To the same bits, in silence, and once: they are replaced."""
    cache, result = filled
    for path in entries(cache):
        path.write_bytes(damage(path.read_bytes()))
    assert run(cache) == (0, 1, result)
    assert run(cache) == (1, 0, result)


def test_entries_that_are_damaged_meanwhile_are_compiled_anew(filled):
    """After the cache was looked through, as by a disk that is full."""
    cache, result = filled
    damage = (
        "import pathlib\n"
        f"for path in pathlib.Path({str(cache)!r}).glob('compiled/*-cache'): path.write_bytes(path.read_bytes()[:99])"
    )
    assert run(cache, damage)[::2] == (0, result)
    assert run(cache) == (0, 1, result)


def test_processes_may_fill_it_at_once(filled, tmp_path):
    """And one that finds a file half-written does without."""
    _, result = filled
    running = [start(tmp_path) for _ in range(3)]
    assert [outcome(process)[2] for process in running] == [result] * 3
    assert run(tmp_path) == (1, 0, result)


def a_file_in_its_place(cache: Path) -> None:
    (cache / "compiled").write_text("kept")


def a_folder_without_files(cache: Path) -> None:
    """One that not even root can write to."""
    (cache / "compiled").symlink_to("/proc/self/task")


def a_folder_that_others_may_write(cache: Path) -> None:
    (cache / "compiled").mkdir()
    (cache / "compiled").chmod(0o777)


@pytest.mark.parametrize("prepare", [a_file_in_its_place, a_folder_without_files, a_folder_that_others_may_write])
def test_without_a_folder_of_its_own_it_only_takes_longer(filled, tmp_path, prepare: Callable[[Path], None]):
    prepare(tmp_path)
    assert run(tmp_path)[::2] == (0, filled[1])
    assert entries(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_no_error(filled):
    assert run(Path("/proc/self/uss_jax"))[::2] == (0, filled[1])


def test_the_user_s_own_choice_stands(filled, tmp_path):
    _, result = filled
    (tmp_path / "ours").mkdir()
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    assert run(tmp_path / "ours", **own) == (0, 1, result)
    assert len(list((tmp_path / "own").glob("*-cache"))) >= 1
    assert run(tmp_path / "ours", JAX_ENABLE_COMPILATION_CACHE="false") == (0, 0, result)
    assert list((tmp_path / "ours").iterdir()) == []


@pytest.fixture
def enabled(tmp_path, monkeypatch) -> Iterator[Callable[[], None]]:
    """Enables the cache in this process, which is as it was after the test."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    with warnings.catch_warnings():
        yield compilation_cache.enable
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_oldest_entries_make_room(enabled, tmp_path):
    folder = tmp_path / "compiled"
    folder.mkdir()
    entry = zlib.compress(bytes(10_000_000), level=0)
    for age in range(6):
        path = folder / f"{age}-cache"
        path.write_bytes(entry)
        os.utime(path, (time.time() - age, time.time() - age))
    enabled()
    assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    assert [path.name for path in entries(tmp_path)] == ["0-cache", "1-cache", "2-cache"]
    assert sum(path.stat().st_size for path in entries(tmp_path)) < compilation_cache.MOST_BYTES


def test_its_folder_is_its_owner_s_alone(enabled, tmp_path):
    enabled()
    assert (tmp_path / "compiled").stat().st_mode & 0o777 == 0o700


# Where it is enabled


def test_loading_a_model_enables_it(tmp_path):
    code = "import jax, uss_jax; uss_jax.load('tiny'); print(jax.config.values['jax_compilation_cache_dir'])"
    settings = {"env": os.environ | {"USS_JAX_CACHE": str(tmp_path)}, "capture_output": True, "text": True}
    result = subprocess.run([sys.executable, "-c", code], check=True, **settings)
    assert result.stdout == f"{tmp_path / 'compiled'}\n"


def test_the_command_line_starts_from_it_in_silence(tmp_path):
    """Even on processors where XLA takes its own programs for another machine's, and says so, and runs them."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}  # JAX sets it
    settings = {"env": environment | {"USS_JAX_CACHE": str(tmp_path)}, "capture_output": True, "text": True}
    command = [sys.executable, "-m", "uss_jax.cli", "tag", str(EXAMPLE), "--json"]
    first = subprocess.run(command, check=True, **settings)
    assert len(entries(tmp_path)) > 0
    for path in entries(tmp_path):
        content = zlib.decompress(path.read_bytes())
        changed = re.sub(rb"\+(\w+),", lambda feature: b"+" + b"x" * len(feature[1]) + b",", content, count=1)
        assert changed != content
        path.write_bytes(zlib.compress(changed))
    again = subprocess.run(command, check=True, **settings)
    assert again.stdout == first.stdout
    assert first.stderr == again.stderr == ""
