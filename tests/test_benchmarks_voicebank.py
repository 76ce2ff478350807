"""Voicebank-DEMAND, against another way to read it, and what silence and missing files score."""

import shutil

import librosa
import numpy as np
import pytest
import soundfile
from test_benchmarks import RATE_HZ, noise, plan
from test_metrics import imported

from uss_jax.evaluation.benchmark import Sound
from uss_jax.evaluation.items import Item
from uss_jax.evaluation.voicebank import Voicebank


@pytest.fixture(scope="module")
def voices(data_dir):
    return data_dir / "voicebank_demand_mini"


def test_every_file_of_voicebank_is_an_item_however_few_are_asked_for(voices):
    for split, count in (("train", 4), ("test", 6)):
        names = sorted(path.name for path in (voices / f"noisy_{split}set_wav").iterdir())
        assert len(names) == count
        assert plan(Voicebank(voices), split, per_class=1).items == [
            Item("speech", i, f"clean_{split}set_wav/{name}", mixture=f"noisy_{split}set_wav/{name}")
            for i, name in enumerate(names)
        ]


def test_speech_is_read_at_32_khz_and_noise_is_the_rest(voices):
    for item in plan(Voicebank(voices)).items:
        sound = Voicebank(voices).read(item)
        seconds = soundfile.info(str(voices / item.source)).duration
        assert sound.sample_rate_hz == RATE_HZ
        assert len(sound.mixture) == len(sound.source) == round(seconds * RATE_HZ)
        for name, samples in ((item.source, sound.source), (item.mixture, sound.mixture)):
            np.testing.assert_allclose(samples, librosa.load(voices / name, sr=RATE_HZ)[0], atol=1e-6)
        np.testing.assert_array_equal(Voicebank(voices).query_source(item), sound.source)


def test_speech_is_scored_at_16_khz_as_pesq_and_pystoi_score_it(voices):
    pesq, pystoi = imported("pesq"), imported("pystoi")
    for item in plan(Voicebank(voices)).items[:2]:
        sound = Voicebank(voices).read(item)
        estimate = 0.5 * sound.mixture + 0.2 * sound.source
        clean, enhanced = (librosa.resample(x, orig_sr=RATE_HZ, target_sr=16_000) for x in (sound.source, estimate))
        (scores,) = Voicebank(voices).score([sound], [estimate])
        assert set(scores) == {"pesq", "csig", "cbak", "covl", "ssnr", "stoi", "si_sdr"}
        assert scores["pesq"] == pytest.approx(pesq.pesq(16_000, clean, enhanced, "wb"), abs=1e-6)
        assert scores["stoi"] == pytest.approx(pystoi.stoi(clean, enhanced, 16_000), abs=1e-6)
        assert scores["pesq"] > Voicebank(voices).score([sound], [sound.mixture])[0]["pesq"]


def test_speech_that_cannot_be_read_or_is_silent_is_named(voices, tmp_path):
    imported("pesq")
    shutil.copytree(voices, tmp_path / "data", copy_function=shutil.copyfile)
    gone, shorter, _ = (tmp_path / "data/noisy_testset_wav" / f"p232_00{i}.wav" for i in (1, 2, 3))
    gone.unlink()
    soundfile.write(shorter, noise(1.0, 48_000), 48_000)
    benchmark = Voicebank(tmp_path / "data")
    items = plan(benchmark).items
    assert len(items) == 6
    for item, why in zip(
        items,
        (r"p232_001\.wav: no such file", r"clean_testset_wav/p232_002\.wav: 96000 samples, but its mixture has 32000"),
        strict=False,
    ):
        with pytest.raises(ValueError, match=why):
            benchmark.read(item)
    sound = benchmark.read(items[2])
    silence = Sound(sound.mixture, np.zeros_like(sound.source), RATE_HZ)
    scores = benchmark.score([silence, sound], [sound.mixture] * 2)
    assert scores[0] == "silent source"
    assert np.isfinite(list(scores[1].values())).all()


def test_silence_in_place_of_speech_has_the_lowest_scores_and_no_ratio(voices):
    imported("pesq")
    sound = Voicebank(voices).read(plan(Voicebank(voices)).items[0])
    scores, quiet = Voicebank(voices).score([sound] * 2, [np.zeros_like(sound.source), 1e-6 * sound.source])
    assert scores == {"pesq": 1, "csig": 1, "cbak": 1, "covl": 1, "ssnr": 0, "stoi": 0, "si_sdr": 0}
    assert quiet == scores


@pytest.mark.parametrize("part", ["clean_trainset_28spk_wav", "clean_trainset_56spk_wav", "clean_trainset_wav"])
def test_the_training_set_may_be_of_28_or_56_speakers(tmp_path, part):
    (tmp_path / part).mkdir()
    for name in ("b.wav", "a.wav"):
        soundfile.write(tmp_path / part / name, noise(0.1, 8000), 8000)
    items = plan(Voicebank(tmp_path), "train").items
    noisy = part.replace("clean", "noisy")
    assert items == [Item("speech", i, f"{part}/{x}.wav", mixture=f"{noisy}/{x}.wav") for i, x in enumerate("ab")]
    assert sorted(Voicebank(tmp_path).training_files()) == [tmp_path / part / "a.wav", tmp_path / part / "b.wav"]
    assert Voicebank(tmp_path).query_source(items[0]).any()


def test_without_clean_files_voicebank_is_refused(tmp_path):
    for split in ("test", "train"):
        with pytest.raises(ValueError, match=f"clean_{split}set_wav: no WAV files"):
            plan(Voicebank(tmp_path), split)
