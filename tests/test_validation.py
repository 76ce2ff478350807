"""Evaluation during training: which items, what scores, and the same on every host."""

import collections
import dataclasses
import json
import logging
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import small_run

from uss_jax import audio, model_dir
from uss_jax.anchors import Anchors, load_anchors
from uss_jax.dataset import Clips
from uss_jax.metrics import average_precision
from uss_jax.training.validation import SeparatorValidation, TaggerValidation

SEGMENT = 16_000
CONFIG = small_run.TAGGER | {
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


@pytest.fixture(scope="module")
def model():
    built = model_dir.build_networks(CONFIG, {})
    variables = model_dir.initial_variables(built, jax.random.key(0))
    return model_dir.build_networks(CONFIG, jax.device_get(variables))


@pytest.fixture(scope="module")
def folder(tones, model, tmp_path_factory):
    """Of anchors and a model."""
    folder = tmp_path_factory.mktemp("validation")
    small_run.prepare(tones.dataset, folder)
    model_dir.save(folder / "model", model, "")
    return folder


@pytest.fixture(scope="module")
def clips(tones):
    return Clips(tones.dataset, "train")


@pytest.fixture(scope="module")
def anchors(clips, folder):
    return load_anchors(folder / "anchors", clips)


@pytest.fixture(scope="module")
def validation(clips, anchors):
    return SeparatorValidation(clips, anchors, SEGMENT, per_class=3)


def segment(clips, anchors, anchor):
    return audio.fit_length(clips.audio(anchors.clip[anchor])[anchors.start[anchor] :], SEGMENT)


# Which items


@pytest.mark.parametrize(("per_class", "targets"), [(2, 2), (10, 3)])
def test_every_class_has_its_targets(clips, anchors, per_class, targets):
    """Each once, three anchors being all that a class has, with a partner of another label; always the same."""
    mixtures = SeparatorValidation(clips, anchors, SEGMENT, per_class).mixtures
    np.testing.assert_array_equal(mixtures, SeparatorValidation(clips, anchors, SEGMENT, per_class).mixtures)
    assert len(set(mixtures[:, 0])) == len(mixtures)
    assert set(collections.Counter(anchors.label[mixtures[:, 0]]).values()) == {targets}
    assert len(set(anchors.label[mixtures[:, 0]])) == len(set(anchors.label))
    for target, partner in mixtures:
        assert not set(clips.labels(anchors.clip[target])) & set(clips.labels(anchors.clip[partner]))


def test_the_tagger_hears_at_most_so_many_clips_for_a_class(clips):
    every = TaggerValidation(clips, SEGMENT, per_class=10).numbers
    np.testing.assert_array_equal(every, np.arange(len(clips)))
    some = TaggerValidation(clips, SEGMENT, per_class=1).numbers
    assert {label for clip in some for label in clips.labels(clip)} == set(clips.label_pairs()[1])
    assert len(some) <= len(set(clips.label_pairs()[1]))


def test_clips_that_cannot_be_mixed_are_named(clips, anchors):
    def of(chosen):
        return Anchors(*(array[chosen] for array in dataclasses.astuple(anchors)))

    with pytest.raises(ValueError, match=r"'train' has no anchors$"):
        SeparatorValidation(clips, of(anchors.label < 0), SEGMENT, 10)
    with pytest.raises(ValueError, match=r"'train' has no two clips without a common label$"):
        SeparatorValidation(clips, of(anchors.label == anchors.label[0]), SEGMENT, 10)


# Scores


def decibels(signal, noise):
    return 10 * np.log10(np.mean(signal.astype(float) ** 2) / np.mean(noise.astype(float) ** 2))


def test_a_separator_is_scored_by_the_query_of_the_source(clips, anchors, validation, model):
    """Against the definition: one mixture at a time, medians of classes, their mean."""
    tagger, separator = jax.jit(model.tagger.apply), jax.jit(model.separator.apply)
    found = collections.defaultdict(list)
    for target, partner in validation.mixtures:
        source, other = segment(clips, anchors, target), segment(clips, anchors, partner)
        mixture = source + other * np.sqrt(np.mean(source**2) / np.mean(other**2))
        condition = tagger(model.variables["tagger"], source[None]).clipwise
        estimate = np.asarray(separator(model.variables["separator"], mixture[None], condition))[0]
        sdr = decibels(source, estimate - source)
        found[anchors.label[target]].append((sdr, sdr - decibels(source, mixture - source)))
    expected = np.mean([np.median(of_class, axis=0) for of_class in found.values()], axis=0)
    scores = validation(model)
    np.testing.assert_allclose([scores["sdr"], scores["sdri"]], expected, atol=1e-3)
    assert abs(scores["sdr"] - scores["sdri"]) < 0.1  # mixtures have 0 dB


def test_a_tagger_is_scored_by_the_mean_over_the_classes(clips, model):
    """Of the first half second of each clip."""
    heard = np.stack([clips.audio(clip)[:SEGMENT] for clip in range(len(clips))])
    probability = np.asarray(jax.jit(model.tagger.apply)(model.variables["tagger"], heard).clipwise)
    pair_clips, labels = clips.label_pairs()
    found = []
    for label in set(labels.tolist()):
        truth = np.isin(np.arange(len(clips)), pair_clips[labels == label])
        found.append(average_precision(truth, probability[:, label]))
    scores = TaggerValidation(clips, SEGMENT, per_class=10)(model)
    assert scores == {"average_precision": pytest.approx(np.mean(found), abs=1e-6)}
    assert 0.2 < scores["average_precision"] < 1.0


def test_new_weights_are_evaluated_without_a_new_compilation(validation, model, caplog):
    """And old ones score the same to the bit."""
    jax.clear_caches()
    scores, compilations = [], []
    for scale in (1.0, 2.0, 1.0):
        variables = jax.tree.map(lambda x, scale=scale: scale * x, model.variables)
        changed = model_dir.build_networks(CONFIG, variables)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            scores.append(validation(changed))
        compilations.append(sum("Finished XLA compilation" in record.getMessage() for record in caplog.records))
    assert compilations[0] > 0
    assert compilations[1:] == [0, 0]
    assert scores[2] == scores[0] != scores[1]


# Hosts

HOST = """
import json, sys
from pathlib import Path
from uss_jax import model_dir, parallel
from uss_jax.anchors import load_anchors
from uss_jax.dataset import Clips
from uss_jax.training.validation import SeparatorValidation, TaggerValidation

data, folder, coordinator, process = sys.argv[1:]
parallel.initialise(coordinator, 3, int(process))
clips, networks = Clips(data, "train"), model_dir.load(Path(folder) / "model")
separator = SeparatorValidation(clips, load_anchors(Path(folder) / "anchors", clips), 16_000, per_class=1)
print(json.dumps(separator(networks) | TaggerValidation(clips, 16_000, per_class=10)(networks)))
"""


@pytest.mark.slow
def test_three_hosts_find_the_same_as_one(tones, folder, clips, anchors, model):
    """Four mixtures and twelve clips: shares of unequal size, gathered in the order of the items."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    command = [sys.executable, "-c", HOST, str(tones.dataset), str(folder), coordinator]
    hosts = [subprocess.Popen([*command, str(host)], text=True, stdout=subprocess.PIPE) for host in range(3)]
    said = [host.communicate(timeout=120)[0].splitlines()[-1] for host in hosts]
    assert said[0] == said[1] == said[2]
    alone = SeparatorValidation(clips, anchors, SEGMENT, per_class=1)(model)
    alone |= TaggerValidation(clips, SEGMENT, per_class=10)(model)
    assert json.loads(said[0]) == pytest.approx(alone, abs=1e-5)
