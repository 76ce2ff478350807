"""A small run of train.py on the generated sounds: for tests that kill it, resume it, or spread it over processes."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from uss_jax import anchors, dataset, model_dir

ROOT = Path(__file__).parents[1]
COMPILED = tempfile.TemporaryDirectory()
# Small networks take longer to compile than to run: the runs of this process's tests share their programs.
SHARING = {"JAX_COMPILATION_CACHE_DIR": COMPILED.name, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
# Where they are compared to the bit or not at all, LLVM need not optimise them; tolerances are of programs it did.
HASTY = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
SEGMENT_SECONDS = 0.5
FIELDS = [
    "--config=configs/tiny_separator.py",
    "--config.separator.window=512",
    "--config.separator.patch=(4, 8)",
    "--config.separator.film_scale=False",
    "--config.data.most_sources=0",  # tests count on two clips in a mixture
    "--config.data.level_range_db=3.0",
    "--config.data.equaliser_range_db=0.0",
    "--config.data.reverb_share=0.0",
    "--config.data.noise_share=0.0",
    "--config.optimiser.learning_rate=1e-3",  # at which the tolerances of comparisons were set
    "--config.separator.hop=256",
    "--config.separator.widths=(8,)",
    "--config.separator.strides=((2, 2),)",
    f"--config.data.anchor_seconds={SEGMENT_SECONDS}",
    "--config.batch_size=8",
    "--config.optimiser.warmup_steps=1",
]
TAGGER = {
    "name": "small",
    "segment_seconds": SEGMENT_SECONDS,
    "classes": [],
    "tagger": {"kind": "cnn14_decision_level_max", "patch": [2, 4], "widths": [8, 8], "embedding_size": 8},
}


def prepare(data: Path, folder: Path) -> list[str]:
    """Makes a tagger and anchors in a folder. Returns the fields of a run on them and on the dataset `data`."""
    networks = model_dir.build_networks(TAGGER, {})
    model_dir.save(
        folder / "tagger",
        model_dir.build_networks(TAGGER, jax.device_get(model_dir.initial_variables(networks, jax.random.key(0)))),
        card="",
    )
    for split in dataset.splits(data):
        clips = dataset.Clips(data, split)
        clip, _ = clips.label_pairs()
        start = np.random.default_rng(0).integers(0, clips.samples[clip] - 16_000)
        path = anchors.anchors_path(folder / "anchors", split)
        anchors.Anchors.of_pairs(clips, start, np.ones(len(clip))).save(path, clips)
    return [
        *FIELDS,
        f"--config.data.dataset={data}",
        f"--config.data.anchors={folder / 'anchors'}",
        f"--config.tagger_model={folder / 'tagger'}",
    ]


def start(fields: list[str], workdir: Path, devices: int = 1, program: str = "train.py") -> subprocess.Popen[str]:
    """Starts a run on so many devices of one process."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | SHARING | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}  # a program may lie elsewhere
    command = [sys.executable, program, *fields, f"--workdir={workdir}"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a group of its own, which signals can be sent to
    )


def processes_of_group(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, in_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(in_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def finish(*runs: subprocess.Popen[str], status: int = 0) -> str:
    """Waits for runs, and checks their exit status. Returns what they said."""
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [status] * len(runs), "\n".join(said)
    return "\n".join(said)


def start_hosts(
    fields: list[str],
    workdir: Path,
    hosts: int,
    devices: int,
    program: str = "train.py",
    others: Sequence[str] = (),
) -> list[subprocess.Popen[str]]:
    """Starts one run on several processes of so many devices each; all but the first get the fields `others`, too."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    cluster = ["--multihost", f"--coordinator=localhost:{port}", f"--processes={hosts}"]
    return [
        start([*fields, *cluster, f"--process={host}", *(others if host else ())], workdir, devices, program)
        for host in range(hosts)
    ]
