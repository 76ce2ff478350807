"""One run on one device, on four, and on two hosts of two: the same losses, weights and statistics."""

import json

import numpy as np
import pytest
import small_run
from safetensors.numpy import load_file

# Adam divides a gradient by its own size, which makes steps of rounding errors where there is little else; a larger
# eps keeps the comparison to what the devices compute.
FIELDS = ["--config.steps=6", "--config.log_every=1", "--config.optimiser.eps=1e-4", "--config.half_weights=False"]
LAYOUTS = {"1x1": (1, 1), "1x4": (1, 4), "2x2": (2, 2)}  # processes × devices


@pytest.fixture(scope="module")
def runs(tones, tmp_path_factory):
    """The workdir of each layout's run."""
    folder = tmp_path_factory.mktemp("hosts")
    fields = [*small_run.prepare(tones.dataset, folder), *FIELDS]
    for name, (hosts, devices) in LAYOUTS.items():
        if hosts == 1:
            small_run.finish(small_run.start(fields, folder / name, devices))
        else:
            small_run.finish(*small_run.start_hosts(fields, folder / name, hosts, devices))
    return {name: folder / name for name in LAYOUTS}


def losses(workdir):
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1x4", "2x2"])
def test_many_devices_and_hosts_train_as_one_device_does(runs, name):
    """Without synchronised BatchNorm, averaged gradients or one global order of the data this fails."""
    assert_alike(runs[name], runs["1x1"])
    first, last = losses(runs[name])[0], losses(runs[name])[-1]
    assert abs(first - last) > 0.01  # they learned something


def assert_alike(many, one):
    assert len(losses(many)) == len(losses(one)) == 6
    np.testing.assert_allclose(losses(many), losses(one), atol=1e-5)
    found, expected = (load_file(workdir / "model/weights.safetensors") for workdir in (many, one))
    assert any("/batch_stats/" in tensor for tensor in expected)
    for tensor in expected:
        np.testing.assert_allclose(found[tensor], expected[tensor], atol=1e-5, rtol=1e-5, err_msg=tensor)


@pytest.mark.slow
def test_a_host_that_is_taken_back_stops_all_and_one_device_goes_on(tones, runs, tmp_path):
    """SIGTERM to one of two hosts: both save at the same step and leave. One host with one device does the rest."""
    fields = [*small_run.prepare(tones.dataset, tmp_path), *FIELDS]
    workdir = tmp_path / "run"
    hosts = small_run.start_hosts(fields, workdir, 2, 2, program=stopped_by_itself(tmp_path))
    said = small_run.finish(*hosts, status=143)
    assert said.count("which is saved; the same command goes on") == 2
    (saved,) = (int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert 2 <= saved < 6
    said = small_run.finish(small_run.start(fields, workdir))
    assert f"resumed after step {saved}" in said
    assert_alike(workdir, runs["1x1"])


def stopped_by_itself(folder):
    """A train.py whose second host gets SIGTERM after its second step."""
    program = folder / "stopped.py"
    program.write_text("""
import os, signal, sys, time
from uss_jax.training.stopping import Stopping
after = Stopping.after
def stop(self, step):
    if step == 2 and "--process=1" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)  # for the notice to go round
    return after(self, step)
Stopping.after = stop
import train
from absl import app, flags
flags.mark_flags_as_required(["config", "workdir"])
app.run(train.main)
""")
    return str(program)


@pytest.mark.slow
def test_an_error_of_one_host_ends_that_host_with_a_sentence(tones, tmp_path):
    """It does not wait for the others, which wait for it; JAX ends those."""
    fields = [*small_run.prepare(tones.dataset, tmp_path), *FIELDS]
    one, other = small_run.start_hosts(fields, tmp_path / "run", 2, 1, others=["--config.seed=1"])
    said = small_run.finish(other, status=1)
    assert said.strip().splitlines()[-1].endswith("(seed was 0 and is 1); choose another one")
    one.kill()
    one.communicate()
