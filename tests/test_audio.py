"""Reading, writing and cutting audio."""

import numpy as np
import pytest
import soundfile

from uss_jax import audio

RATE_HZ = 32_000


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


# Files


@pytest.mark.parametrize("shape", [(1,), (1000,), (1000, 2), (10, 6)])
def test_float_files_come_back_to_the_bit(tmp_path, shape):
    samples = 3 * noise(*shape)  # beyond full scale, too
    audio.write(tmp_path / "a.wav", samples, 22_050)
    back, rate_hz = audio.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(back, samples)
    assert rate_hz == 22_050
    assert back.dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2**-15), ("PCM_24", 2**-23)])
def test_pcm_files_come_back_within_a_step_and_clipped(tmp_path, subtype, step):
    samples = 1.2 * noise(1000)
    audio.write(tmp_path / "a.wav", samples, RATE_HZ, subtype=subtype)
    assert np.abs(audio.read(tmp_path / "a.wav")[0] - samples.clip(-1, 1)).max() <= step


@pytest.mark.parametrize("name", ["two words.wav", "line\nbreak.wav", "Größe 音.wav", "-x.wav", "noending", "100%.wav"])
def test_file_names_may_hold_anything(tmp_path, name):
    audio.write(tmp_path / name, noise(50), RATE_HZ)
    np.testing.assert_array_equal(audio.read(tmp_path / name)[0], noise(50))


def test_a_recording_that_cannot_be_written_leaves_the_old_one_alone(tmp_path):
    audio.write(tmp_path / "a.wav", noise(50), RATE_HZ)
    with pytest.raises((ValueError, soundfile.LibsndfileError)):
        audio.write(tmp_path / "a.wav", noise(4, 2000), RATE_HZ)  # more channels than a file may hold
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], noise(50))


def write_nothing(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("this is no recording")


def write_header(path):
    soundfile.write(path, np.zeros(0), RATE_HZ)


def write_nan(path):
    soundfile.write(path, np.array([0.0, np.nan, 0.0]), RATE_HZ, subtype="FLOAT")


def write_infinity(path):
    soundfile.write(path, np.array([[0.0, 0.0], [0.0, -np.inf]]), RATE_HZ, subtype="FLOAT")


@pytest.mark.parametrize("name", ["bad.wav", "bad file 音.wav"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
        (write_nothing, "not readable as audio"),
        (write_text, "not readable as audio"),
        (write_header, "holds no samples"),
        (write_nan, "NaN or infinite"),
        (write_infinity, "NaN or infinite"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_cause(tmp_path, name, make, says):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=says) as error:
        audio.read(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_headerless_audio_is_refused_by_name(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match=r"a\.raw"):
        audio.read(tmp_path / "a.raw")


@pytest.mark.parametrize(("samples", "rate", "length"), [(1, 192_000, 1), (7, 192_000, 2), (44_101, 44_100, 32_001)])
def test_lengths_are_rounded_up_so_that_something_is_left_of_the_shortest_recording(tmp_path, samples, rate, length):
    """As librosa does, and with it the reference."""
    soundfile.write(tmp_path / "a.wav", np.ones(samples), rate)
    assert audio.read_mono(tmp_path / "a.wav", RATE_HZ).shape == (length,)


def test_a_file_is_found_as_it_is_and_a_folder_by_its_audio_files_in_order(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "folder.wav").mkdir()
    for name in ("c.WAV", "b/deep/z.flac", "b/a.ogg", "b/notes.txt", "a.mp3", "a.wav.part"):
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in audio.find_files(tmp_path)]
    assert found == ["a.mp3", "b/a.ogg", "b/deep/z.flac", "c.WAV"]
    assert audio.find_files(tmp_path / "b" / "notes.txt") == [tmp_path / "b" / "notes.txt"]


def test_a_folder_without_audio_and_a_missing_one_are_named(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}: no audio files"):
        audio.find_files(tmp_path)
    with pytest.raises(ValueError, match="gone: no such file or folder"):
        audio.find_files(tmp_path / "gone")


# Rates and channels


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_a_sine_keeps_its_pitch_place_and_length(rate_hz):
    def sine(rate_hz):
        return np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz).astype(np.float32)

    resampled = audio.resample(sine(rate_hz), rate_hz, RATE_HZ)
    assert resampled.dtype == np.float32
    assert len(resampled) == RATE_HZ
    np.testing.assert_allclose(resampled[1000:-1000], sine(RATE_HZ)[1000:-1000], atol=1e-4)


def test_channels_are_resampled_apart():
    stereo = noise(4410, 2)
    both = audio.resample(stereo, 44_100, RATE_HZ)
    for channel in (0, 1):
        np.testing.assert_allclose(both[:, channel], audio.resample(stereo[:, channel], 44_100, RATE_HZ), atol=1e-6)


def test_one_rate_leaves_the_samples_as_they_are():
    samples = noise(100)
    np.testing.assert_array_equal(audio.resample(samples, RATE_HZ, RATE_HZ), samples)


def test_mono_is_the_mean_of_the_channels(tmp_path):
    stereo = noise(200, 2)
    np.testing.assert_allclose(audio.to_mono(stereo), (stereo[:, 0] + stereo[:, 1]) / 2, atol=1e-7)
    np.testing.assert_array_equal(audio.to_mono(stereo[:, 0]), stereo[:, 0])
    audio.write(tmp_path / "a.wav", stereo, RATE_HZ)
    np.testing.assert_array_equal(audio.read_mono(tmp_path / "a.wav", RATE_HZ), audio.to_mono(stereo))


# Cutting


@pytest.mark.parametrize("shape", [(10,), (10, 2)])
def test_fit_length_cuts_or_pads_the_end(shape):
    samples = noise(*shape)
    np.testing.assert_array_equal(audio.fit_length(samples, 4), samples[:4])
    longer = audio.fit_length(samples, 13)
    np.testing.assert_array_equal(longer[:10], samples)
    assert longer.shape == (13, *shape[1:])
    assert not longer[10:].any()


@pytest.mark.parametrize("seed", range(5))
def test_the_loudest_start_is_that_of_an_exhaustive_search(seed):
    samples = noise(1000, seed=seed) * np.linspace(0.1, 1, 1000) ** (4 * seed - 8)
    length, step = 200, 8
    energy = {start: np.sum(samples[start : start + length] ** 2) for start in range(0, 1000 - length + 1, step)}
    assert audio.loudest_start(samples, length, step) == max(energy, key=energy.get)


@pytest.mark.parametrize("count", [0, 1, 199, 200])
def test_what_is_no_longer_than_a_segment_begins_at_0(count):
    assert audio.loudest_start(noise(count), 200, 1) == 0


def test_silence_is_a_frame_whose_largest_magnitude_is_at_most_the_peak():
    frame = RATE_HZ // 10
    levels = np.float32([0.5, 0.02, -0.5, 0.0, 0.021, -0.019])
    samples = np.repeat(levels, frame)
    samples[2 * frame : 3 * frame - 1] = 0.0  # one negative sample is enough
    kept = audio.remove_silence(np.concatenate([samples, np.ones(frame - 1, np.float32)]), RATE_HZ)
    np.testing.assert_array_equal(kept.reshape(-1, frame), samples.reshape(-1, frame)[[0, 2, 4]])


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ, np.float32), np.ones(100, np.float32)])
def test_silence_and_less_than_a_frame_leave_nothing(samples):
    assert audio.remove_silence(samples, RATE_HZ).shape == (0,)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 20])
def test_segments_are_whole_and_the_last_is_repeated(count):
    samples = noise(count)
    cut = audio.segments(samples, 8)
    assert cut.shape == (-(-count // 8), 8)
    whole = count // 8
    np.testing.assert_array_equal(cut[:whole].reshape(-1), samples[: whole * 8])
    if count % 8:
        np.testing.assert_array_equal(cut[-1], np.tile(samples[whole * 8 :], 8)[:8])


def test_no_samples_make_no_segments():
    assert audio.segments(np.zeros(0, np.float32), 8).shape == (0, 8)
