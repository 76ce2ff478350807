"""MUSDB18, against musdb and museval, and what is left out of tracks that are not whole."""

import subprocess

import librosa
import numpy as np
import pytest
import soundfile
from test_metrics import imported

from uss_jax.evaluation import pairs
from uss_jax.evaluation.benchmark import Sound
from uss_jax.evaluation.evaluate import Request, evaluate
from uss_jax.evaluation.items import Item, read_list, to_csv
from uss_jax.evaluation.musdb18 import Musdb18, seconds_heard, stem_scores
from uss_jax.evaluation.run import Options
from uss_jax.evaluation.workers import Workers

RATE_HZ = 32_000
TARGETS = ("vocals", "bass", "drums", "other")
STREAMS = ("mixture", "drums", "bass", "other", "vocals")


def plan(data):
    with Workers(0, Musdb18(data)) as workers:
        return Musdb18(data).plan("test", 100, 1234, workers).items


def noise(count, seed=0, channels=1):
    return np.random.default_rng(seed).uniform(-0.2, 0.2, (count, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def songs(data_dir):
    return data_dir / "musdb18hq_mini"


# Reading


@pytest.mark.filterwarnings("ignore")
def test_wav_files_are_read_as_musdb_reads_them(songs):
    tracks = imported("musdb").DB(root=str(songs), is_wav=True, subsets="test")
    items = {item.source: item for item in plan(songs)}
    assert len(items) == 4 * len(tracks) == 8
    for track in tracks:
        mixture = track.audio
        for target in TARGETS:
            sound = Musdb18(songs).read(items[f"test/{track.name}/{target}"])
            assert sound.sample_rate_hz == track.rate == 44_100
            np.testing.assert_array_equal(sound.mixture, mixture)
            np.testing.assert_array_equal(sound.source, track.targets[target].audio)


@pytest.mark.filterwarnings("ignore")
def test_stems_are_read_as_musdb_reads_them(songs, tmp_path):
    musdb = imported("musdb")
    song = min((songs / "test").iterdir())
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    inputs = [argument for part in STREAMS for argument in ("-i", song / f"{part}.wav")]
    streams = [argument for i in range(5) for argument in ("-map", f"{i}:a")]
    out = tmp_path / f"test/{song.name}.stem.mp4"
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *streams, "-t", "2", "-c:a", "aac", out], check=True)
    (track,) = musdb.DB(root=str(tmp_path), subsets="test")
    theirs = dict(zip(STREAMS, track.stems, strict=True))
    items = plan(tmp_path)
    assert [item.source for item in items] == [f"test/{song.name}/{target}" for target in TARGETS]
    for item in items:
        sound, original = Musdb18(tmp_path).read(item), Musdb18(songs).read(item)
        assert sound.sample_rate_hz == 44_100
        np.testing.assert_allclose(sound.mixture, theirs["mixture"], atol=0.51 / 32_768)  # musdb decodes to 16 bits
        np.testing.assert_allclose(sound.source, theirs[item.label], atol=0.51 / 32_768)
        error = sound.source[:88_200] - original.source[:88_200]
        assert np.linalg.norm(error) < 0.5 * np.linalg.norm(original.source[:88_200])


def test_paper_mode_reads_mono_at_32_khz(songs):
    for item in plan(songs)[::2]:
        sound = Musdb18(songs, paper=True).read(item)
        assert sound.sample_rate_hz == RATE_HZ
        for name, samples in ((item.source, sound.source), (item.mixture, sound.mixture)):
            expected, _ = librosa.load(songs / f"{name}.wav", sr=RATE_HZ, mono=True)
            np.testing.assert_allclose(samples, expected, atol=1e-6)


# Scores


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "stems",
    [1, 2, pytest.param(4, marks=pytest.mark.slow)],  # museval solves for 512 taps of each pair
)
def test_tracks_are_scored_as_museval_scores_them(stems):
    museval = imported("museval")
    rate_hz = 4000
    sources = np.stack([(0.5 + seed) * noise(round(3.5 * rate_hz), seed, channels=2) for seed in range(stems)])
    sources[-1, round(0.9 * rate_hz) : round(2.1 * rate_hz)] = 0  # all of the second frame, resampled, too
    mixtures = np.stack([sources.sum(axis=0) + noise(sources.shape[1], 9, channels=2)] * stems)
    estimates = sources + 0.2 * mixtures

    def medians(references, signals, frame):
        of_frames = museval.evaluate(references, signals, win=frame, hop=frame)[0]
        return np.median(of_frames[:, ~np.isnan(of_frames).any(axis=0)], axis=1)

    heard = seconds_heard(sources, rate_hz)
    assert heard.tolist() == [True, False, True]
    rows = [
        stem_scores(Sound(mixture, source, rate_hz, heard), estimate)
        for mixture, source, estimate in zip(mixtures, sources, estimates, strict=True)
    ]
    together, before = (medians(sources, signals, rate_hz) for signals in (estimates, mixtures))
    for i, row in enumerate(rows):
        assert row["sdr"] == pytest.approx(together[i], abs=1e-6)
        assert row["sdri"] == pytest.approx(together[i] - before[i], abs=1e-6)
        source, *signals = (
            librosa.resample(x[i].mean(axis=1), orig_sr=rate_hz, target_sr=RATE_HZ)[None, :, None]
            for x in (sources, estimates, mixtures)
        )
        alone = [medians(source, signal, RATE_HZ)[0] for signal in signals]
        assert row["sdr_mono_32k"] == pytest.approx(alone[0], abs=1e-6)
        assert row["sdri_mono_32k"] == pytest.approx(alone[0] - alone[1], abs=1e-6)
        energies = [
            np.sum(np.square(x[i], dtype=np.float64)) for x in (sources, estimates - sources, mixtures - sources)
        ]
        assert row["utterance_sdr"] == pytest.approx(10 * np.log10(energies[0] / energies[1]), abs=1e-4)
        assert row["utterance_sdri"] == pytest.approx(10 * np.log10(energies[2] / energies[1]), abs=1e-4)
        assert abs(row["sdr"] - row["utterance_sdr"]) > 1e-3


def test_the_score_of_a_stem_does_not_depend_on_which_others_are_scored(tmp_path):
    """The seconds that count are those in which all stems of the track sound, also where only one is evaluated."""
    song = write_song(tmp_path / "data", "A", seconds=3)
    samples, rate_hz = soundfile.read(song / "bass.wav")
    soundfile.write(song / "bass.wav", np.where(np.arange(len(samples)) < rate_hz, 0, samples.T).T, rate_hz)
    four = scored(tmp_path / "data", tmp_path)
    listed = read_list(tmp_path / "R.mixtures.csv")
    vocals = [item for item in listed if item.label == "vocals"]
    (tmp_path / "vocals.csv").write_text(to_csv(vocals))
    options = Options(estimates_from=tmp_path / "estimates")
    one, _ = evaluate(
        Request(
            "musdb18",
            tmp_path / "data",
            tmp_path / "one.json",
            mixtures=tmp_path / "vocals.csv",
            workers=0,
            options=options,
        )
    )
    assert one["per_class"] == {"vocals": four["per_class"]["vocals"]}


# Tracks that are not whole


def write_song(data, name, channels=2, silent=(), seconds=2.5, rate_hz=8000):
    folder = data / "test" / name
    folder.mkdir(parents=True)
    parts = {part: noise(int(seconds * rate_hz), i, channels) * (part not in silent) for i, part in enumerate(TARGETS)}
    for part, samples in (parts | {"mixture": sum(parts.values())}).items():
        soundfile.write(folder / f"{part}.wav", samples, rate_hz)
    return folder


def scored(data, work):
    """The result of estimates that hold a tenth of the mixture too much."""
    benchmark = Musdb18(data)
    for item in plan(data):
        try:
            sound = benchmark.read(item)
        except ValueError:
            continue
        estimate = sound.source + 0.1 * sound.mixture
        pairs.export_estimate(benchmark, item, estimate, sound.sample_rate_hz, work / "estimates")
    options = Options(estimates_from=work / "estimates")
    result, _ = evaluate(Request("musdb18", data, work / "R.json", workers=0, options=options))
    return result


@pytest.mark.parametrize("cut", ["drums", "vocals"])
def test_silent_missing_and_truncated_stems_are_left_out_by_name_and_the_others_are_scored(tmp_path, cut):
    imported("stempeg")
    data = tmp_path / "data"
    silent = {"A": (), "B": ("other",), "C": ()}
    songs = [write_song(data, name, silent=stems, seconds=3.5) for name, stems in silent.items()]
    (songs[0] / "bass.wav").unlink()
    truncated = songs[2] / f"{cut}.wav"
    truncated.write_bytes(truncated.read_bytes()[:-40_000])  # more than a second
    (data / "test/D.stem.mp4").write_text("no streams")
    result = scored(data, tmp_path)
    counts = dict.fromkeys(TARGETS, 3) | {"other": 2, "bass": 2, cut: 2}
    assert {label: row["n"] for label, row in result["per_class"].items()} == counts
    for row in result["per_class"].values():
        assert np.isfinite(list(row.values())).all()
    left_out = {name.split(": ")[1]: why for name, why in result["left_out"]["names"].items()}
    assert result["left_out"]["items"] == result["left_out"]["count"] == len(left_out) == 7
    assert not result["left_out"]["classes"]
    assert {name for name in left_out if "/D/" in name} == {f"test/D/{target}" for target in TARGETS}
    assert all("test/D.stem.mp4: not readable" in why for name, why in left_out.items() if "/D/" in name)
    assert left_out["test/B/other"] == "silent source"
    assert left_out[f"test/C/{cut}"].startswith(f"test/C/{cut}: of another length")
    assert "test/A/bass.wav: no such file" in left_out["test/A/bass"]
    assert not any(str(tmp_path) in why for why in left_out.values())


def test_a_track_as_folder_and_as_stems_is_listed_once_and_the_folder_is_read(tmp_path):
    song = write_song(tmp_path, "A")
    song.with_name("A.stem.mp4").write_text("no streams")
    items = plan(tmp_path)
    assert [item.source for item in items] == [f"test/A/{target}" for target in TARGETS]
    for item in items:
        np.testing.assert_array_equal(
            Musdb18(tmp_path).read(item).source, soundfile.read(song / f"{item.label}.wav", dtype="float32")[0]
        )


def test_tracks_may_be_links_but_lists_name_none_outside_of_the_folder(tmp_path):
    song = write_song(tmp_path / "elsewhere", "A")
    (tmp_path / "data/test").mkdir(parents=True)
    (tmp_path / "data/test/A").symlink_to(song)
    (item, *_) = plan(tmp_path / "data")
    assert Musdb18(tmp_path / "data").read(item).source.any()
    for track in ("../elsewhere/test/A", str(song)):
        outside = Item("vocals", 0, f"{track}/vocals", mixture=f"{track}/mixture")
        with pytest.raises(ValueError, match="names a file outside of its folder"):
            Musdb18(tmp_path / "data").read(outside)


def test_a_track_in_mono_beside_one_in_stereo_is_scored_or_left_out(tmp_path):
    write_song(tmp_path / "data", "A - stereo")
    write_song(tmp_path / "data", "B - mono", channels=1)
    result = scored(tmp_path / "data", tmp_path)
    assert result["n"] + result["left_out"]["items"] == 8
    assert result["n"] >= 4
    assert np.isfinite(list(result["mean"].values())).all()


def test_a_folder_without_tracks_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match="test: no tracks of MUSDB18 here"):
        plan(tmp_path)
