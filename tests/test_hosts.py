"""One run on one device, on four, and on two hosts of two: the same losses, weights and statistics."""

import json
import signal
import time

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
    assert len(losses(runs[name])) == 6
    np.testing.assert_allclose(losses(runs[name]), losses(runs["1x1"]), atol=1e-5)
    one, many = (load_file(runs[layout] / "model/weights.safetensors") for layout in ("1x1", name))
    assert any("/batch_stats/" in tensor for tensor in one)
    moved = 0.0
    for tensor in one:
        np.testing.assert_allclose(many[tensor], one[tensor], atol=1e-5, rtol=1e-5, err_msg=tensor)
        moved = max(moved, float(np.abs(one[tensor]).max()))
    assert moved > 0.1


@pytest.mark.slow
def test_the_order_of_the_data_is_that_of_the_items_whatever_the_hosts(runs):
    """Same losses at the first step mean the same items; the two layouts of four devices agree to rounding."""
    np.testing.assert_allclose(losses(runs["2x2"]), losses(runs["1x4"]), atol=1e-6)


@pytest.mark.slow
def test_a_host_that_is_taken_back_stops_all_and_they_go_on_as_one(tones, runs, tmp_path):
    """SIGTERM to one of two hosts: both save at the same step and leave. One host with one device goes on."""
    long = ["--config.steps=400", "--config.checkpoint_every=400"]
    fields = [*small_run.prepare(tones.dataset, tmp_path), *FIELDS, *long]
    hosts = small_run.start_hosts(fields, tmp_path / "run", 2, 2)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert all(host.poll() is None for host in hosts), small_run.finish(*hosts)
        time.sleep(0.1)
    hosts[1].send_signal(signal.SIGTERM)
    said = small_run.finish(*hosts, status=143)
    assert said.count("which is saved; the same command goes on") == 2
    (saved,) = (int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert 3 <= saved < 400
