"""Hostile sound files: each is read, twice the same, or refused in one line that names it; none hangs or crashes."""

import os
import time

import numpy as np
import pytest
import sound_fuzz

from uss_jax import audio
from uss_jax.recording import Recording

SECONDS = 10.0  # that a file may take on a busy machine


def read(path):
    """Whole, and in two ways of chunks: (time, channels) and the rate; all must be equal."""
    recording = Recording(path)
    found = np.concatenate(list(recording.chunks(1_000)))
    assert found.dtype == np.float32
    assert found.shape[1] == recording.channels
    np.testing.assert_array_equal(np.concatenate(list(recording.chunks(1 << 18))), found)
    whole, rate_hz = audio.read(path)
    np.testing.assert_array_equal(whole if found.shape[1] > 1 else whole[:, None], found)
    assert rate_hz == recording.sample_rate_hz
    return found, rate_hz


def problem(case, path):
    """Why the file may not be read; None where it was read as it should be."""
    try:
        samples, rate_hz = read(path)
    except ValueError as error:
        return str(error)
    assert np.isfinite(samples).all()
    assert case.shape in (None, samples.shape)
    assert case.sample_rate_hz in (None, rate_hz)
    return None


def check(case, path):
    """Whether it was read."""
    said = problem(case, path)
    assert case.readable in (None, said is None), said
    if said is not None:
        assert said.startswith(f"{path}: ")
        assert len(said.removeprefix(str(path)).splitlines()) == 1
    return said is None


def run(count, seed, folder):
    outcomes = []
    for case in sound_fuzz.cases(count, seed):
        path = case.write(folder)
        started = time.perf_counter()
        try:
            outcomes.append(check(case, path))
        except Exception as error:
            raise AssertionError(f"{case.name!r} ({case.what})") from error
        assert time.perf_counter() - started < SECONDS, case.what
        path.unlink()
    assert 0.3 < np.mean(outcomes) < 0.8  # of both kinds, many


def test_of_hostile_files_each_is_read_or_refused(tmp_path):
    run(150, 0, tmp_path)


@pytest.mark.slow
def test_of_many_hostile_files_each_is_read_or_refused(tmp_path):
    run(int(os.environ.get("FUZZ_CASES", "300")), 1, tmp_path)


def test_the_same_seed_makes_the_same_cases():
    first, again, other = ([(c.name, c.what, len(c.content)) for c in sound_fuzz.cases(40, seed)] for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert len({name for name, _, _ in first}) == 40
