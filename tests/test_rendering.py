"""What examples/ renders: pitches, rhythms, seeds, folds and tables; and clips cut from stems."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from uss_jax import audioset, weak_labels

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.append(str(EXAMPLES))
import render_instruments  # noqa: E402
import render_surroundings  # noqa: E402
import stems_as_clips  # noqa: E402
from rendering import drums, engines, general_midi  # noqa: E402
from rendering.blocks import modes  # noqa: E402

RATE_HZ = 32000


def run(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / script, *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pitch_near(x: np.ndarray, hz: float) -> float:
    """The pitch whose period x repeats best, within a major third of `hz`."""
    spectrum = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    likeness = np.fft.irfft(spectrum, 16 * len(spectrum))  # 8 values for each lag of a sample
    rate_hz = RATE_HZ * len(likeness) / (2 * len(x))
    shortest, longest = int(rate_hz / hz / 1.26), int(rate_hz / hz * 1.26)
    return rate_hz / (shortest + np.argmax(likeness[shortest:longest]))


@pytest.mark.parametrize("category", render_instruments.PITCHED)
def test_notes_sound_at_the_pitch_asked_for(category):
    instrument = render_instruments.PITCHED[category](np.random.default_rng(0))
    hz = 440 * 2 ** (((instrument.low + instrument.high) // 2 - 69) / 12)
    x = instrument.finish(instrument.note(np.random.default_rng(7), hz, 0.5, 0.6))
    assert np.isfinite(x).all()
    assert np.abs(x).max() > 1e-3
    assert pitch_near(x[RATE_HZ // 10 :], hz) == pytest.approx(hz, rel=0.01)


def test_every_part_of_a_drum_kit_sounds_and_dies_away():
    for part, strokes in drums.drum_kit(np.random.default_rng(0)).items():
        for stroke in strokes:
            x = stroke(np.random.default_rng(1), 0.8)
            assert np.abs(x).max() > 0.05, part
            assert np.abs(x[-100:]).max() < 0.02 * np.abs(x).max(), part


def rate_of_repeating(x: np.ndarray, low_hz: float, high_hz: float) -> float:
    """How often the loudness of x repeats in a second, between two rates."""
    loud = np.abs(x[: len(x) // 32 * 32]).reshape(-1, 32).mean(axis=1)
    spectrum = np.abs(np.fft.rfft(loud - loud.mean(), 2 * len(loud))) ** 2
    likeness = np.fft.irfft(spectrum)
    shortest, longest = int(1000 / high_hz), int(1000 / low_hz)
    return 1000 / (shortest + np.argmax(likeness[shortest:longest]))


@pytest.mark.parametrize("recipe", render_surroundings.RECIPES)
def test_whatever_is_drawn_of_a_surrounding_sounds(recipe):
    sound, _ = render_surroundings.RECIPES[recipe]
    for seed in range(3):
        x = sound(np.random.default_rng(seed), 5.0)
        assert x.shape == (5 * RATE_HZ,)
        assert np.isfinite(x).all()
        loud = np.abs(x).reshape(5, -1).max(axis=1)  # in each second; birds and singers pause
        assert (loud > 1e-2 * loud.max()).sum() >= 3


def test_a_clock_ticks_regularly():
    x = engines.clock(np.random.default_rng(1), 5.0)
    rate = rate_of_repeating(x, 0.5, 3.0)
    assert 0.55 < rate < 2.7  # not at an end of what is looked for
    assert [rate_of_repeating(half, 0.5, 3.0) for half in np.split(x, 2)] == pytest.approx([rate, rate], rel=0.02)


def test_blades_beat_as_often_as_those_of_a_helicopter():
    rates = [rate_of_repeating(engines.helicopter(np.random.default_rng(seed), 5.0), 5, 40) for seed in range(8)]
    assert sum(8.5 < rate < 29 for rate in rates) >= 7, rates


@pytest.mark.parametrize(("recipe", "low_hz", "high_hz"), [("cricket", 2000, 9000), ("engine", 10, 2500)])
def test_a_surrounding_sounds_in_its_band(recipe, low_hz, high_hz):
    power = np.zeros(3 * RATE_HZ // 2 + 1)
    for seed in range(4):
        x = render_surroundings.RECIPES[recipe][0](np.random.default_rng(seed), 3.0)
        power += np.abs(np.fft.rfft(x / x.std())) ** 2
    hz = np.fft.rfftfreq(3 * RATE_HZ, 1 / RATE_HZ)
    assert power[(low_hz < hz) & (hz < high_hz)].sum() > 0.9 * power.sum()


@pytest.mark.parametrize(
    ("script", "category"),
    [
        (render_instruments, "piano"),
        (render_instruments, "violin"),
        (render_instruments, "bass_drum"),
        (render_instruments, "hi_hat"),
        (render_surroundings, "bird"),
        (render_surroundings, "clock"),
    ],
)
def test_a_clip_is_given_by_its_seed_and_number(script, category):
    first, note = script.clip(category, 0, seed=3)
    again, _ = script.clip(category, 0, seed=3)
    assert first.shape == (5 * RATE_HZ,)
    assert np.abs(first).max() > 32767 / 10
    assert note
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, script.clip(category, 1, seed=3)[0])
    assert not np.array_equal(first, script.clip(category, 0, seed=4)[0])


def test_modes_are_damped_sines():
    hz, decay_s, gain = np.array([200.0, 777.0]), np.array([0.1, 0.02]), np.array([1.0, -0.5])
    t = np.arange(3000)[:, None] / RATE_HZ
    expected = (gain * np.exp(-t / decay_s) * np.sin(2 * np.pi * hz * t + 0.3)).sum(axis=1)
    np.testing.assert_allclose(modes(3000 / RATE_HZ, hz, decay_s, gain, 0.3), expected, atol=1e-9)


def test_a_set_is_written_that_can_be_trained_on(tmp_path):
    classes = {name: render_instruments.CLASSES[name] for name in ("electric_piano", "hi_hat")}
    render_instruments.render(tmp_path / "set", classes, render_instruments.clip, 5, seed=0)
    clips = weak_labels.read_labels(tmp_path / "set" / "weak_labels.csv", tmp_path / "set" / "audio")
    assert len(clips) == 10
    assert audioset.class_names(clips[0].labels) == ["Piano", "Electric piano"]
    assert audioset.class_names(clips[9].labels) == ["Cymbal", "Hi-hat"]
    assert clips[0].record().audio.shape == (5 * RATE_HZ,)
    assert [row["fold"] for row in rows(tmp_path / "set" / "meta.csv")] == ["1", "2", "3", "4", "1"] * 2


def test_every_instrument_has_classes():
    assert set(render_instruments.CLASSES) == {*render_instruments.PITCHED, *render_instruments.DRUMS}
    assert all(audioset.find_class(name) for names in render_instruments.CLASSES.values() for name in names)


def test_surroundings_are_all_for_training(tmp_path):
    done = run("render_surroundings.py", "--out", tmp_path / "set", "--clips", 1)
    assert done.returncode == 0, done.stderr
    clips = weak_labels.read_labels(tmp_path / "set" / "weak_labels.csv", tmp_path / "set" / "audio")
    assert [clip.name.split("-")[0] for clip in clips] == list(render_surroundings.RECIPES)
    assert all(clip.labels for clip in clips)
    assert {row["fold"] for row in rows(tmp_path / "set" / "meta.csv")} == {"1"}


@pytest.mark.parametrize(
    ("args", "reason"),
    [(("--clips", 0), "--clips must be 1 or more"), ((), "exists already")],
)
@pytest.mark.parametrize("script", ["render_instruments.py", "render_surroundings.py"])
def test_wrong_input_is_told_in_a_sentence(tmp_path, script, args, reason):
    done = run(script, "--out", tmp_path, *args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_stems_of_training_tracks_become_clips_where_they_sound(tmp_path):
    stems = {"S00": (33, "Bass"), "S01": (128, "Drums"), "S02": (106, "Ethnic")}  # a shamisen has no class
    for split in ("train", "test"):
        track = tmp_path / split / f"Track-{split}"
        (track / "stems").mkdir(parents=True)
        x = np.sin(np.arange(11 * RATE_HZ)) * np.repeat([0.0, 0.5], [5 * RATE_HZ, 6 * RATE_HZ])
        for file in ("mix", *(f"stems/{key}" for key in stems)):
            soundfile.write(track / f"{file}.flac", x, RATE_HZ)
        about = {
            key: {"program_num": program, "inst_class": family, "plugin_name": "p"}
            for key, (program, family) in stems.items()
        }
        (track / "metadata.yaml").write_text(yaml.safe_dump({"stems": about}))
    stems_as_clips.write_clips(tmp_path, tmp_path / "out")
    clips = weak_labels.read_labels(tmp_path / "out" / "weak_labels.csv", tmp_path / "out" / "audio")
    assert [clip.name for clip in clips] == ["Track-train-S00-1.flac", "Track-train-S01-1.flac"]
    assert audioset.class_names(clips[0].labels) == ["Bass guitar"]
    assert {row["fold"] for row in rows(tmp_path / "out" / "meta.csv")} == {"1"}


def test_every_program_of_general_midi_has_known_classes_or_none():
    cells = [general_midi.mids(program) for program in range(129)]
    assert cells.count("") < 30
    assert cells[0] == audioset.find_class("Piano").mid
