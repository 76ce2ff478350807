"""The step on many devices, exact resume, and what a run writes."""

import functools
import json
import os
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from uss_jax import model_dir, parallel
from uss_jax.training import checkpoints as module_of_checkpoints
from uss_jax.training import speed, workdir
from uss_jax.training.checkpoints import Checkpoints, digest
from uss_jax.training.evaluations import Evaluations
from uss_jax.training.metrics import MetricWriter, require_finite
from uss_jax.training.optimiser import cosine_schedule, paper_schedule
from uss_jax.training.step import TrainState, make_step, separator_loss, tagger_loss
from uss_jax.training.tasks import for_training

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
        "widths": [8],
        "strides": [[2, 2]],
    },
}

TAGGER_ALONE = {name: value for name, value in SMALL.items() if name not in ("query", "separator")}
FROZEN = {"rematerialise": False, "tagger_training": "frozen"}
RUN = ml_collections.ConfigDict(FROZEN | {"precision": "float32"})


def small_state_and_step(loss_name: str = "l1", accumulate: int = 1):
    networks = for_training(model_dir.build_networks(SMALL, {}), RUN)
    variables = model_dir.initial_variables(networks, jax.random.key(0))
    optimiser = optax.sgd(0.1)
    params = {"query": {}, "separator": variables["separator"]["params"]}
    batch_stats = {"separator": variables["separator"]["batch_stats"]}
    state = TrainState(jnp.int32(0), jnp.uint32(0), params, batch_stats, variables["tagger"], optimiser.init(params))
    return state, make_step(separator_loss(networks, loss_name), optimiser, accumulate)


def batch_of(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    source, other = random.normal(0, 0.1, (2, count, 8000)).astype(np.float32)
    classes = np.ones((count, 527), np.float32)
    return {"mixture": source + other, "source": source, "query_classes": classes, "labels": classes}


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
    other, other_metrics = sharded(parallel.replicate(state), batch)
    jax.tree.map(np.testing.assert_array_equal, mapped, other)
    jax.tree.map(np.testing.assert_array_equal, mapped_metrics, other_metrics)


def test_accumulated_gradients_are_those_of_the_parts(on_cpu):
    """Two parts: the mean of their gradients, the running statistics after both, and the memory of one."""
    batch = batch_of(4)
    parts = [jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], batch) for i in (0, 1)]
    state, whole = small_state_and_step(accumulate=2)
    _, single = small_state_and_step()
    run = compiled_step(single)
    first = jax.tree.map(np.asarray, run(state, parts[0]))
    second = run(state.replace(batch_stats=first[0].batch_stats), parts[1])
    accumulated, metrics = compiled_step(whole)(state, batch)
    moved = [jax.tree.map(np.subtract, after.params, state.params) for after, _ in (first, second)]
    mean = jax.tree.map(lambda x, y: (x + y) / 2, *moved)
    close = functools.partial(np.testing.assert_allclose, atol=1e-6, rtol=1e-4)
    jax.tree.map(lambda x, y, z: close(x - y, z), accumulated.params, state.params, mean)
    jax.tree.map(close, accumulated.batch_stats, second[0].batch_stats)
    close(metrics["loss"], (first[1]["loss"] + second[1]["loss"]) / 2)


LATENT = SMALL | {"tagger": {"kind": "cnn14", "patch": [2, 4], "widths": [8, 8], "embedding_size": 8}}


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("soft", "frozen"),
        ("soft", "fine_tuned"),
        pytest.param("latent", "from_scratch", marks=pytest.mark.slow),
        pytest.param("hard", "fine_tuned", marks=pytest.mark.slow),
    ],
)
def test_what_is_learnable_moves_and_what_is_frozen_stays(on_cpu, kind, how):
    """Query net and separator in every case, the tagger where it is trained, and its running statistics with it."""
    description = LATENT | {"query": {"kind": kind, "adaptor_size": 6, "hidden": 5}}
    if how != "frozen":
        description |= {"query_tagger": LATENT["tagger"]}
    config = ml_collections.ConfigDict({"precision": "float32", "rematerialise": False, "tagger_training": how})
    networks = for_training(model_dir.build_networks(description, {}), config)
    variables = model_dir.initial_variables(networks, jax.random.key(0))
    parts = ["query", "separator"] + (["query_tagger"] if how != "frozen" else [])
    params = {part: variables[part]["params"] for part in parts}
    batch_stats = {part: variables[part]["batch_stats"] for part in parts if part != "query"}
    optimiser = optax.adam(1e-2)
    frozen = variables["tagger"] if how == "frozen" else {}
    state = TrainState(jnp.int32(0), jnp.uint32(0), params, batch_stats, frozen, optimiser.init(params))
    step = make_step(separator_loss(networks, "l1"), optimiser)
    run = compiled_step(step)
    after = state
    for _ in range(3):
        after, _ = run(after, batch_of(4))
    moved = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), state.params, after.params)
    for part in ("query", "separator"):
        assert all(distance > 1e-4 for distance in jax.tree.leaves(moved[part])), part
    jax.tree.map(np.testing.assert_array_equal, state.frozen, after.frozen)
    if how != "frozen":
        learns = kind != "hard"  # labels do not depend on the tagger
        # Its last layer serves soft queries alone.
        of_query = {name: x for name, x in moved["query_tagger"].items() if kind == "soft" or name != "fc_audioset"}
        assert all((distance > 1e-4) == learns for distance in jax.tree.leaves(of_query))
        statistics = [state.batch_stats["query_tagger"], after.batch_stats["query_tagger"]]
        assert all((x != y).any() for x, y in zip(*map(jax.tree.leaves, statistics), strict=True))


def compiled_step(step):
    """A step on one device, compiled in less time than it would be for many steps."""
    mapped = jax.vmap(functools.partial(step, axis_name="batch"), (None, 0), None, axis_name="batch")
    run = jax.jit(mapped, compiler_options={"xla_backend_optimization_level": 0})
    return lambda state, batch: run(state, jax.tree.map(lambda x: x[None], batch))


def test_parts_need_less_memory(on_cpu):
    batch = parallel.shard(batch_of(16 * jax.local_device_count()))
    needed = []
    for accumulate in (1, 4):
        state, step = small_state_and_step(accumulate=accumulate)
        needed.append(speed.memory_gib(parallel.pmap_step(step).lower(parallel.replicate(state), batch).compile()))
    assert needed[1] < 0.5 * needed[0]


def test_a_batch_that_does_not_divide_is_refused():
    devices = jax.device_count()
    parallel.check_batch(4 * devices, 2)
    with pytest.raises(ValueError, match=f"a batch of {3 * devices} does not divide over {devices} devices × 2"):
        parallel.check_batch(3 * devices, 2)


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
        writer.write(step, metrics={"loss": 1.0 / step})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # cut off by a crash
    MetricWriter(tmp_path, first_step=20).close()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [10, 20]


def test_rates_of_the_machine_are_kept_out_of_what_repeats(tmp_path):
    writer = MetricWriter(tmp_path, first_step=0)
    writer.write(5, metrics={"loss": 1.0}, speed={"items_per_second": 3.0})
    writer.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5, "loss": 1.0}
    assert json.loads((tmp_path / "speed.jsonl").read_text()) == {
        "step": 5,
        "device": jax.devices()[0].device_kind,
        "items_per_second": 3.0,
    }
    MetricWriter(tmp_path / "other", 0, active=False).write(1, metrics={"loss": 1.0})
    assert not (tmp_path / "other").exists()


def test_scalars_go_to_tensorboard_without_pytorch(tmp_path):
    """Where it is installed, tensorboardX would import it, which takes longer than all else that a run begins with."""
    stands_for_it = tmp_path / "installed" / "torch.py"
    stands_for_it.parent.mkdir()
    stands_for_it.write_text("")
    program = f"""
import sys
from pathlib import Path
from uss_jax.training.metrics import MetricWriter
writer = MetricWriter(Path({str(tmp_path)!r}), first_step=0)
writer.write(1, metrics={{"loss": 0.5}})
writer.close()
assert "torch" not in sys.modules
import torch
assert torch.__file__.endswith("torch.py")
"""
    environment = os.environ | {"PYTHONPATH": str(stands_for_it.parent)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    (events,) = (tmp_path / "tensorboard").iterdir()
    recorded = events.read_bytes()
    assert b"loss" in recorded
    assert np.float32(0.5).tobytes() in recorded


def test_the_best_evaluation_is_the_first_of_the_highest_up_to_the_restart(tmp_path):
    scores = {10: 1.0, 20: 3.0, 30: 3.0, 40: 5.0}
    lines = [json.dumps({"step": step, "sdri": score}) for step, score in scores.items()]
    (tmp_path / "evaluations.jsonl").write_text("\n".join(lines) + "\n")
    found = Evaluations(tmp_path, 30, "sdri")
    assert (found.best_step, found.ranked()) == (20, [20, 30, 10])
    assert found.has(30)
    assert not found.has(40)
    found.add(40, {"sdri": 4.0, "sdr": -1.0})
    assert found.best_step == 40
    with pytest.raises(FloatingPointError, match="sdri of the evaluation is nan after step 50"):
        found.add(50, {"sdri": float("nan")})
    assert Evaluations(tmp_path / "none", 30, "sdri").best_step is None
    with pytest.raises(ValueError, match="has no 'average_precision'"):
        Evaluations(tmp_path, 30, "average_precision")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named_with_its_step(value):
    require_finite(6, {"loss": 1.0, "grad_norm": 2.0})
    with pytest.raises(FloatingPointError, match=f"grad_norm is {value} at step 7"):
        require_finite(7, {"loss": 1.0, "grad_norm": value})


def test_a_workdir_of_another_configuration_or_other_data_is_refused(tmp_path):
    config = {"steps": 1, "data": {"dataset": "here", "workers": 0, "seed": (1, 2)}}
    workdir.claim(tmp_path, config, {"dataset": "a"})
    moved = {"steps": 1, "data": {"dataset": "there", "workers": 8, "seed": (1, 2)}}
    workdir.claim(tmp_path, moved, {"dataset": "a"})
    with pytest.raises(ValueError, match="another configuration \\(steps was 1 and is 2\\)"):
        workdir.claim(tmp_path, config | {"steps": 2}, {"dataset": "a"})
    with pytest.raises(ValueError, match="another dataset"):
        workdir.claim(tmp_path, config, {"dataset": "b"})
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r"run\.json: not the description of a run"):
        workdir.claim(tmp_path, config, {"dataset": "a"})


# Checkpoints


def state_of(value: float) -> TrainState:
    return TrainState(
        np.int32(value), np.uint32(0), {"a": np.full((3, 2), value, np.float32)}, {}, {}, (np.float32(value),)
    )


def test_the_newest_and_the_best_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(6):
        checkpoints.save(step, state_of(step))
        if step in (1, 2):
            checkpoints.best_step = step
    checkpoints.close()
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 4, 5]
    reopened = Checkpoints(tmp_path, keep=2)
    assert int(reopened.restore_newest(state_of(0)).step) == 5
    assert digest(reopened.restore(2, state_of(0))) == digest(state_of(2))
    assert reopened.has(2)
    assert not reopened.has(3)


def test_content_that_was_changed_is_found_by_its_digest(tmp_path, monkeypatch):
    """As by a disk that rots where the file's own sums do not look."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, state_of(1))
    monkeypatch.setattr(module_of_checkpoints, "digest", lambda tree: "0" * 64)
    checkpoints.save(2, state_of(2))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"2: not a whole checkpoint \(its content was changed\)"):
        checkpoints.restore(2, state_of(0))
    assert int(checkpoints.restore_newest(state_of(0)).step) == 1
    assert (tmp_path.parent / "broken-checkpoint-2").is_dir()


def test_a_state_of_other_shapes_is_not_taken_for_a_whole_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, state_of(1))
    other = state_of(1).replace(params={"b": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        checkpoints.restore(1, other)


def test_after_a_failed_checkpoint_reports_to_a_closed_event_loop_are_kept_quiet_and_no_others(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    checkpoints = Checkpoints(tmp_path, keep=1)
    monkeypatch.setattr(checkpoints._manager, "save", lambda *_, **__: 1 / 0)
    with pytest.raises(OSError, match="could not be written"):
        checkpoints.save(1, state_of(1))
    errors = [RuntimeError("Event loop is closed"), RuntimeError("another"), ValueError("Event loop is closed")]
    for error in errors:
        sys.unraisablehook(types.SimpleNamespace(exc_type=type(error), exc_value=error))
    assert [unraisable.exc_value for unraisable in told] == errors[1:]


def test_a_digest_tells_names_types_shapes_and_values_apart():
    trees = [{"a": np.zeros(4, np.float32)}, {"b": np.zeros(4, np.float32)}, {"a": np.zeros(4, np.int32)},
             {"a": np.zeros((2, 2), np.float32)}, {"a": np.array([0, 0, 0, -0.0], np.float32)}]  # fmt: skip
    assert len({digest(tree) for tree in trees}) == len(trees)
    assert digest({"a": np.zeros(4, np.float32)}) == digest(trees[0])


# Speed


@pytest.mark.parametrize(("precision", "kind"), [("float32", "f32"), ("tensorfloat32", "f32"), ("bfloat16", "bf16")])
def test_a_run_computes_in_its_precision(on_cpu, precision, kind):
    """Convolutions of the separator in the run's type, the frozen tagger in float32; all by the run's products."""
    config = ml_collections.ConfigDict(FROZEN | {"precision": precision})
    networks = for_training(model_dir.build_networks(SMALL, {}), config)
    assert networks.query.dtype == networks.separator.dtype
    shapes = model_dir.variable_shapes(networks)
    optimiser = optax.sgd(0.1)
    params = {"query": {}, "separator": shapes["separator"]["params"]}
    opt_state = jax.eval_shape(optimiser.init, params)
    batch_stats = {"separator": shapes["separator"]["batch_stats"]}
    state = TrainState(jnp.int32(0), jnp.uint32(0), params, batch_stats, shapes["tagger"], opt_state)
    step = make_step(separator_loss(networks, "l1"), optimiser, precision=precision)
    text = parallel.pmap_step(step).lower(state, parallel.shard(batch_of(jax.local_device_count()))).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    of_kind = [line for line in convolutions if line.rstrip().endswith(f"x{kind}>")]
    frozen = 4  # of the tagger, two blocks of two
    assert len(convolutions) - len(of_kind) == (frozen if kind == "bf16" else 0)
    precise = [line for line in convolutions if "precision HIGHEST" in line or "#stablehlo<precision HIGHEST>" in line]
    assert len(precise) == (len(convolutions) if precision == "float32" else 0)


def test_operations_are_counted():
    """A product of matrices of n × n takes 2 n³, in a loop as often as it goes round."""
    matrix = np.zeros((256, 256), np.float32)
    once = jax.make_jaxpr(jax.jit(lambda x: x @ x))(matrix)
    assert speed.flops_of(once.jaxpr) == 2 * 256**3
    loop = jax.make_jaxpr(lambda x: jax.lax.scan(lambda y, _: (y @ y, y), x, length=5))(matrix)
    assert speed.flops_of(loop.jaxpr) == 10 * 256**3


def test_products_tell_what_they_do_and_where():
    """Two operations for each pair of an output and a kernel's element; a transform of N takes 5 N log2(N)."""

    def function(x, kernel):
        with jax.named_scope("outer"):
            y = jax.lax.conv_general_dilated(x, kernel, (1, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            with jax.named_scope("inner"):
                return jnp.sum(y), jax.jit(jnp.fft.rfft)(x[..., 0])

    arguments = np.zeros((2, 32, 64, 8), np.float32), np.zeros((3, 3, 8, 16), np.float32)
    convolution, transform = speed.products(jax.make_jaxpr(function)(*arguments).jaxpr)
    out = 2 * 30 * 31 * 16
    assert convolution.flops == 2 * out * 3 * 3 * 8
    assert convolution.size == 4 * (2 * 32 * 64 * 8 + 3 * 3 * 8 * 16 + out)
    assert convolution.dtype == "float32"
    assert convolution.modules.strip("/") == "outer"
    assert transform.flops == 5 * (2 * 32) * 64 * np.log2(64)
    assert transform.size == 4 * 2 * 32 * 64 + 8 * 2 * 32 * 33
    assert transform.modules.startswith("/outer/inner")


def test_operations_of_a_step_are_those_of_one_device():
    """Up to three times those of the forward pass, as nothing wants the gradient of the input; and the tagger's."""
    networks, one = model_dir.build_networks(SMALL, {}), batch_of(1)
    variables = model_dir.initial_variables(networks, jax.random.key(0))
    given = variables["separator"], one["mixture"], one["query_classes"]
    forward = speed.flops_of(jax.make_jaxpr(networks.separator.apply)(*given).jaxpr)
    tagger = speed.flops_of(jax.make_jaxpr(networks.tagger.apply)(variables["tagger"], one["source"]).jaxpr)
    for accumulate in (1, 2):
        state, step = small_state_and_step(accumulate=accumulate)
        batch = parallel.shard(batch_of(accumulate * jax.local_device_count()))
        found = speed.flops_of(parallel.jaxpr_of_step(step, state, batch)) / accumulate - tagger
        assert 2.2 * forward < found < 3.0 * forward


def test_a_device_is_known_by_the_beginning_of_its_name():
    assert speed.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert speed.peak_flops("TPU v4", "bfloat16") == 275e12
    assert speed.peak_flops("TPU v4", "float32") is None
    assert speed.peak_flops("cpu", "float32") is None


def test_waiting_for_input_is_measured():
    def slow():
        while True:
            time.sleep(0.05)
            yield {}

    meter = speed.Meter(batch_size=4, flops_of_step=0.0, precision="float32")
    batches = slow()
    for _ in range(4):
        meter.wait_for(batches)
        time.sleep(0.05)
    rates = meter.rates()
    assert 0.3 < rates["input_wait_share"] < 0.7
    assert rates["items_per_second"] == pytest.approx(4 / rates["seconds_per_step"])


def test_a_positive_weight_counts_labelled_classes_so_often_more(on_cpu):
    networks = model_dir.build_networks(TAGGER_ALONE, {})
    variables = model_dir.initial_variables(networks, jax.random.key(0))["tagger"]
    audio = jnp.asarray(batch_of(4)["source"])
    labels = np.zeros((4, 527), np.float32)
    labels[:, [0, 3]] = 1.0

    def loss(labels: np.ndarray, weight: float) -> float:
        batch = {"audio": audio, "labels": jnp.asarray(labels)}
        of_weight = tagger_loss(networks, 1.0, 0.0, True, weight)
        return float(of_weight(variables["params"], variables["batch_stats"], {}, batch, jax.random.key(1))[0])

    plain = loss(labels, 1.0)
    of_labelled = loss(labels, 2.0) - plain
    assert 0 < of_labelled < plain
    np.testing.assert_allclose(loss(labels, 4.0), plain + 3 * of_labelled, rtol=1e-5)
    assert loss(np.zeros_like(labels), 4.0) == loss(np.zeros_like(labels), 1.0)
    halves, wholes = (loss(of, 201.0) - loss(of, 1.0) for of in (labels / 2, labels))
    np.testing.assert_allclose(halves, wholes / 2, rtol=1e-5)
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive_weight"):
            loss(labels, weight)


def test_an_unknown_loss_is_refused_with_the_known_ones():
    networks = model_dir.build_networks(SMALL, {})
    with pytest.raises(ValueError, match="l1_spectrogram"):
        separator_loss(networks, "l7")
