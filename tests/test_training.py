"""The step on many devices, exact resume, and what a run writes."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from uss_jax import model_dir, parallel
from uss_jax.training.checkpoints import save_config
from uss_jax.training.metrics import MetricWriter
from uss_jax.training.optimiser import cosine_schedule, paper_schedule
from uss_jax.training.step import TrainState, make_step, separator_loss
from uss_jax.training.tasks import with_batch_axis

ROOT = Path(__file__).parents[1]

SMALL = {
    "name": "small",
    "segment_seconds": 0.25,
    "classes": [],
    "tagger": {"kind": "cnn14_decision_level_max", "patch": [2, 4], "widths": [8, 8], "embedding_size": 8},
    "query": {"kind": "soft"},
    "separator": {
        "kind": "resunet",
        "window": 512,
        "hop": 256,
        "patch": [4, 8],
        "widths": [8, 8],
        "strides": [[2, 2], [1, 2]],
    },
}


def small_state_and_step(loss_name: str = "l1"):
    networks = with_batch_axis(model_dir.build_networks(SMALL, {}))
    variables = model_dir.initial_variables(networks, jax.random.key(0))
    optimiser = optax.sgd(0.1)
    params = {"query": {}, "separator": variables["separator"]["params"]}
    batch_stats = variables["separator"]["batch_stats"]
    state = TrainState(jnp.int32(0), params, batch_stats, variables["tagger"], optimiser.init(params))
    return state, make_step(separator_loss(networks, loss_name, 0.0), optimiser, seed=0)


def batch_of(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    source, other = random.normal(0, 0.1, (2, count, 8000)).astype(np.float32)
    return {"mixture": source + other, "source": source, "labels": np.zeros((count, 527), np.float32)}


def test_pmap_and_shard_map_give_the_same_bits():
    state, step = small_state_and_step()
    batch = batch_of(2 * jax.local_device_count())
    mapped, mapped_metrics = parallel.pmap_step(step)(parallel.replicate(state), parallel.shard(batch))

    state, step = small_state_and_step()
    mesh = Mesh(np.array(jax.local_devices()), (parallel.AXIS,), axis_types=(AxisType.Auto,))
    sharded = jax.jit(
        jax.shard_map(
            functools.partial(step, axis_name=parallel.AXIS),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(parallel.AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )
    other, other_metrics = sharded(state, batch)
    jax.tree.map(np.testing.assert_array_equal, mapped, other)
    jax.tree.map(np.testing.assert_array_equal, mapped_metrics, other_metrics)


STEPS_ON_DEVICES = """
import pickle, sys, jax, numpy as np
sys.path.insert(0, {tests!r})
from test_training import batch_of, small_state_and_step
from uss_jax import parallel
assert jax.local_device_count() == {devices}
state, step = small_state_and_step()
state, step = parallel.replicate(state), parallel.pmap_step(step)
for _ in range(3):
    state, metrics = step(state, parallel.shard(batch_of(8)))
leaves = [np.asarray(x) for x in jax.tree.leaves((state.params, state.batch_stats, metrics["loss"]))]
np.savez({out!r}, *leaves)
"""


@pytest.mark.slow
def test_four_devices_train_as_one_does(tmp_path):
    """Weights, batch statistics and loss: without synchronised BatchNorm this fails.

    The norm of the gradient is not compared: the gradient of an L1 loss is a sign, which rounding turns round.
    """
    results = []
    for devices in (1, 4):
        out = str(tmp_path / f"{devices}.npz")
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        code = STEPS_ON_DEVICES.format(tests=str(ROOT / "tests"), devices=devices, out=out)
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=ROOT)
        with np.load(out) as file:
            results.append([file[name] for name in file.files])
    for one, four in zip(*results, strict=True):
        np.testing.assert_allclose(one, four, atol=1e-5, rtol=1e-5)


def test_the_papers_schedule_rises_in_four_steps():
    schedule = paper_schedule(1e-3)
    rates = [float(schedule(step)) for step in (0, 9_999, 10_000, 19_999, 20_000, 30_000, 10**6)]
    np.testing.assert_allclose(rates, [1e-6, 1e-6, 1e-5, 1e-5, 1e-4, 1e-3, 1e-3], rtol=1e-6)


def test_the_cosine_schedule_ends_at_zero():
    schedule = cosine_schedule(1e-3, steps=100, warmup_steps=10)
    assert float(schedule(10)) == pytest.approx(1e-3)
    assert float(schedule(100)) == pytest.approx(0.0, abs=1e-9)


def test_metrics_beyond_the_restart_are_dropped(tmp_path):
    writer = MetricWriter(tmp_path, first_step=0)
    for step in (10, 20, 30):
        writer.write(step, {"loss": 1.0 / step}, {})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # cut off by a crash
    MetricWriter(tmp_path, first_step=20).close()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
    writer = MetricWriter(tmp_path, first_step=0)
    with pytest.raises(FloatingPointError, match="step 7"):
        writer.write(7, {"loss": float("nan")}, {})


def test_a_workdir_of_another_configuration_is_refused(tmp_path):
    import ml_collections

    save_config(tmp_path, ml_collections.ConfigDict({"steps": 1}))
    save_config(tmp_path, ml_collections.ConfigDict({"steps": 1}))
    with pytest.raises(ValueError, match="another configuration"):
        save_config(tmp_path, ml_collections.ConfigDict({"steps": 2}))


def test_an_unknown_loss_is_refused_with_the_known_ones():
    networks = model_dir.build_networks(SMALL, {})
    with pytest.raises(ValueError, match="l1_spectrogram"):
        separator_loss(networks, "l7", 0.0)
