"""Batches of items: whole, in order, and the same for any number of reading workers and processes."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from mixed import SEGMENT, VARIED, anchors_anywhere, assert_same_items, item, mixture_source

from uss_jax import mixtures
from uss_jax.dataset import Clips


@pytest.fixture(scope="module")
def clips(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def anchors(clips):
    return anchors_anywhere(clips)


class Numbers:
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def items(self, indices):
        return [{"number": np.int64(index)} for index in indices]


def numbers(*args, **fields):
    return [batch["number"].tolist() for batch in mixtures.batches(*args, **fields)]


def test_batches_are_whole_and_in_order():
    assert numbers(Numbers(11), 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_batches_go_on_from_any_step(start):
    assert numbers(Numbers(20), 4, start=start) == numbers(Numbers(20), 4)[start:]


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_the_processes_share_each_batch_in_order(process_count):
    parts = [numbers(Numbers(24), 8, process=process, process_count=process_count) for process in range(process_count)]
    for step in range(3):
        joined = list(itertools.chain(*(part[step] for part in parts)))
        assert joined == list(range(8 * step, 8 * (step + 1)))
        assert {len(part[step]) for part in parts} == {8 // process_count}


def test_batches_of_mixtures_are_stacks_of_items(clips, anchors):
    source = mixture_source(clips, anchors, length=4, **VARIED)
    batch = next(mixtures.batches(source, 4))
    for index in range(4):
        assert_same_items({name: values[index] for name, values in batch.items()}, item(source, index))


def test_a_batch_reads_each_anchor_once(clips, anchors):
    class Counted(Clips):
        read = 0

        def audio(self, *args):
            Counted.read += 1
            return super().audio(*args)

    source = mixture_source(Counted(clips.folder, "train"), anchors)
    source.items(range(10))
    assert 10 < Counted.read < 16  # two for each mixture, were they read anew


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_reading_processes_change_nothing(clips, workers, tmp_path):
    """In a program of its own, since Grain's workers import the main module anew."""
    code = f"""
import hashlib
import numpy as np
from absl import app
from uss_jax import mixtures
from uss_jax.anchors import Anchors
from uss_jax.dataset import Clips

def main(argv):
    clips = Clips({str(clips.folder)!r}, "train")
    clip, label = clips.label_pairs()
    anchors = Anchors(clip, label, np.zeros(len(clip), int), np.ones(len(clip)))
    source = mixtures.MixtureSource(clips, anchors, seed=0, length=40, segment_samples={SEGMENT}, source_count=2,
        class_power=0.0, shift_seconds=0.5, level_range_db=6.0, gain_range_db=6.0, speed_range=1.2,
        label_query_share=0.5)
    for workers in (0, {workers}):
        total = hashlib.sha256()
        for batch in mixtures.batches(source, 4, start=1, workers=workers):
            total.update(batch["mixture"].tobytes())
        print(total.hexdigest())

if __name__ == "__main__":
    app.run(main)
"""
    (tmp_path / "read.py").write_text(code)
    read = subprocess.run([sys.executable, tmp_path / "read.py"], check=True, capture_output=True, text=True)
    inside, beside = read.stdout.split()
    assert inside == beside
