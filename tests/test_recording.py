"""Sound files as streams: any chunks, any format, and what is refused."""

import contextlib
import os
import shutil
import subprocess
import time
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile

from uss_jax import audio, recording
from uss_jax.recording import Recording

RATE_HZ = 32_000
ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def joined(chunks):
    return np.concatenate(list(chunks))


def convert(source, target, *options):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", source, *options, target], check=True)


def sine(path, seconds=2.0, channels=2, rate_hz=44_100):
    """Writes one of another frequency in each channel; returns it."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    samples = 0.5 * np.sin(2 * np.pi * np.outer(time_s, 300 + 200 * np.arange(channels))).astype(np.float32)
    audio.write(path, samples, rate_hz, "PCM_16")
    return samples


def distance(found, expected):
    """Least relative error over the delays that coders leave."""
    found, expected = found[:, 0], expected[:, 0]
    inner = expected[5_000:30_000]
    errors = [np.square(found[5_000 + lag : 30_000 + lag] - inner).sum() for lag in range(-2_500, 2_500)]
    return min(errors) / np.square(inner).sum()


# Streams


@hypothesis.settings(derandomize=True, max_examples=40, deadline=None)
@hypothesis.given(
    length=st.integers(1, 3_000),
    channels=st.integers(1, 8),
    rate_hz=st.sampled_from([1_000, 8_000, 44_100, 192_000, 768_000]),
    written=st.integers(1, 4_000),
    count=st.integers(1, 4_000),
    start=st.integers(0, 2_999),
)
def test_what_is_written_in_pieces_is_read_in_others(
    tmp_path_factory, length, channels, rate_hz, written, count, start
):
    samples = noise(length, channels)
    path = tmp_path_factory.mktemp("stream") / "a.wav"
    with audio.Writer(path, rate_hz, channels, frames=length) as writer:
        for begin in range(0, length, written):
            writer.write(samples[begin : begin + written])
    stream = Recording(path)
    assert (stream.sample_rate_hz, stream.channels, stream.frames) == (rate_hz, channels, length)
    chunks = list(stream.chunks(count))
    assert {len(chunk) for chunk in chunks[:-1]} <= {count}
    np.testing.assert_array_equal(np.concatenate(chunks), samples)
    if start < length:
        np.testing.assert_array_equal(joined(stream.chunks(count, start)), samples[start:])
    else:
        with pytest.raises(ValueError, match="holds no samples after the first"):
            next(stream.chunks(count, start))


@pytest.mark.parametrize(
    ("format", "subtype", "channels"),
    [
        ("OGG", "OPUS", 2),  # which soundfile breaks by seeking after each read
        ("OGG", "VORBIS", 6),
        ("MP3", "MPEG_LAYER_III", 2),
        ("FLAC", "PCM_24", 8),
        ("WAV", "GSM610", 1),  # cannot be sought in
        ("WAV", "MS_ADPCM", 2),
        ("CAF", "ALAC_16", 3),
        ("AU", "G721_32", 1),
    ],
)
def test_chunks_of_any_size_and_place_are_those_of_the_whole(tmp_path, format, subtype, channels):
    soundfile.write(tmp_path / "a", noise(30_000, channels), 48_000, format=format, subtype=subtype)
    stream = Recording(tmp_path / "a")
    whole = joined(stream.chunks(100_000))
    assert 30_000 <= len(whole) < 31_000
    assert whole.std() > 0.3
    for count in (777, 4_096):
        np.testing.assert_array_equal(joined(stream.chunks(count)), whole)
    np.testing.assert_array_equal(joined(stream.chunks(5_000, 12_345)), whole[12_345:])
    part, _ = audio.read(tmp_path / "a", 12_000 / 48_000, 0.1)
    np.testing.assert_array_equal(part.reshape(-1, channels), whole[12_000:16_800])


def test_memory_does_not_grow_with_the_length(tmp_path):
    with audio.Writer(tmp_path / "a.flac", RATE_HZ, 2, format="flac") as writer:
        for _ in range(600):
            writer.write(np.zeros((RATE_HZ, 2), np.float32))
    tracemalloc.start()
    length = sum(len(chunk) for chunk in Recording(tmp_path / "a.flac").chunks(RATE_HZ))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == 600 * RATE_HZ  # 154 MB
    assert peak < 2e6


def test_a_file_that_does_not_tell_its_length(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(5_000, 2), RATE_HZ)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the length, 36 bits
    content[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(content)
    stream = Recording(tmp_path / "b.flac")
    assert stream.frames is None
    np.testing.assert_array_equal(joined(stream.chunks(1_234)), audio.read(tmp_path / "a.flac")[0])
    np.testing.assert_array_equal(audio.read(tmp_path / "b.flac", 0.1)[0], audio.read(tmp_path / "a.flac", 0.1)[0])


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux lists them")
def test_files_are_closed_with_the_generator(tmp_path):
    audio.write(tmp_path / "a.wav", noise(1_000), RATE_HZ)
    (tmp_path / "b.wav").write_text("this is no recording")
    before = open_files()
    stream = Recording(tmp_path / "a.wav")
    assert open_files() == before
    chunks = stream.chunks(10)
    next(chunks)
    assert open_files() == before + 1
    chunks.close()
    assert len(list(stream.chunks(10))) == 100
    with pytest.raises(ValueError, match="not readable"):
        Recording(tmp_path / "b.wav")
    assert open_files() == before


# What is refused


@pytest.mark.parametrize(("channels", "says"), [(64, None), (65, "has 65 channels; 1 to 64")])
def test_more_than_64_channels_are_refused(tmp_path, channels, says):
    soundfile.write(tmp_path / "a.wav", noise(10, channels), RATE_HZ)
    with contextlib.nullcontext() if says is None else pytest.raises(ValueError, match=says):
        assert Recording(tmp_path / "a.wav").channels == channels


@pytest.mark.parametrize(("rate_hz", "good"), [(999, False), (1_000, True), (768_000, True), (768_001, False)])
def test_odd_rates_are_refused(tmp_path, rate_hz, good):
    soundfile.write(tmp_path / "a.wav", noise(10), rate_hz)
    with contextlib.nullcontext() if good else pytest.raises(ValueError, match=rf"a\.wav: .* {rate_hz} Hz"):
        assert Recording(tmp_path / "a.wav").sample_rate_hz == rate_hz


def test_a_value_that_is_not_finite_stops_the_stream_where_it_stands(tmp_path):
    samples = noise(1_000)
    samples[550] = np.nan
    audio.write(tmp_path / "a.wav", samples, RATE_HZ)
    chunks = Recording(tmp_path / "a.wav").chunks(100)
    np.testing.assert_array_equal(np.concatenate([next(chunks) for _ in range(5)])[:, 0], samples[:500])
    with pytest.raises(ValueError, match=r"a\.wav: holds samples that are NaN or infinite"):
        next(chunks)


def test_a_broken_middle_is_told(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(50_000), RATE_HZ)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[60_000:] = bytes(len(content) - 60_000)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.flac: not readable as audio"):
        list(Recording(tmp_path / "a.flac").chunks(1_000))


def test_without_ffmpeg_the_message_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("film.MP4", "notes.txt"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))
    with pytest.raises(ValueError, match=r"film\.MP4: not readable without ffmpeg"):
        Recording(tmp_path / "film.MP4")
    with pytest.raises(ValueError, match=r"notes\.txt: not readable as audio \(Format not recognised\)$"):
        Recording(tmp_path / "notes.txt")


# ffmpeg


@ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".aac", ".webm", ".mka", ".mkv", ".wma", ".ac3", ".mp4", ".mov", ".3gp"])
def test_what_ffmpeg_reads_is_read(tmp_path, suffix):
    expected = sine(tmp_path / "a.wav")
    convert(tmp_path / "a.wav", tmp_path / f"a{suffix}", *(["-c:a", "aac"] if suffix == ".3gp" else []))
    stream = Recording(tmp_path / f"a{suffix}")
    assert (stream.sample_rate_hz, stream.channels) == (48_000 if suffix == ".webm" else 44_100, 2)
    found = joined(stream.chunks(10_000))
    if suffix != ".webm":  # Opus, of 48 kHz
        assert distance(found, expected) < 0.02
    assert abs(len(found) / stream.sample_rate_hz - 2.0) < 0.1
    np.testing.assert_array_equal(joined(stream.chunks(777)), found)
    np.testing.assert_array_equal(joined(stream.chunks(10_000, 12_345)), found[12_345:])
    np.testing.assert_array_equal(audio.read(tmp_path / f"a{suffix}")[0], found)
    part, _ = audio.read(tmp_path / f"a{suffix}", 1.0, 0.25)
    np.testing.assert_array_equal(part, found[stream.sample_rate_hz :][: stream.sample_rate_hz // 4])


@ffmpeg
@pytest.mark.parametrize("options", [(), ("-af", "channelmap=0|1|2|3:quad"), ("-af", "channelmap=0|1|2|3:3.1")])
def test_channels_come_back_as_they_are(tmp_path, options):
    sine(tmp_path / "a.wav", channels=4)
    convert(tmp_path / "a.wav", tmp_path / "a.mkv", "-c:a", "pcm_s16le", *options)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.mkv")[0], audio.read(tmp_path / "a.wav")[0])


@ffmpeg
def test_of_a_film_the_first_sound_is_taken(tmp_path):
    expected = sine(tmp_path / "a.wav", channels=1)
    video = ["-f", "lavfi", "-i", "testsrc=d=2:s=32x32", "-f", "lavfi", "-i", "anullsrc=r=8000:d=2"]
    convert(tmp_path / "a.wav", tmp_path / "a.mp4", *video, "-map", "1:v", "-map", "0:a", "-map", "2:a")
    convert(tmp_path / "a.wav", tmp_path / "mute.mp4", *video[:4], "-map", "1:v")
    found, rate_hz = audio.read(tmp_path / "a.mp4")
    assert (found.ndim, rate_hz) == (1, 44_100)
    assert distance(found[:, None], expected) < 0.02
    with pytest.raises(ValueError, match=r"mute\.mp4: not readable as audio"):
        Recording(tmp_path / "mute.mp4")


@ffmpeg
@pytest.mark.parametrize(
    "name",
    ["-i x", "--help", "http:x", "concat:a|b", "file:x", "line\nbreak", "Größe", os.fsdecode(b"\xff"), "%d", "a.wav"],
)
def test_content_decides_and_no_name_is_an_option_or_address(tmp_path, monkeypatch, name):
    sine(tmp_path / "source.wav", 0.5)
    convert(tmp_path / "source.wav", tmp_path / "good.m4a")
    (tmp_path / "good.m4a").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(audio.read(name)[0]) > 20_000


@ffmpeg
@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.wav\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "-SE\nbase: 200+10/50\nNOW base\n",
    ],
)
@pytest.mark.parametrize("suffix", [".m3u8", ".mp4"])
def test_a_playlist_opens_no_other_file(tmp_path, text, suffix):
    sine(tmp_path / "secret.wav")
    (tmp_path / f"a{suffix}").write_text(text)
    with pytest.raises(ValueError, match=rf"a\{suffix}: not readable as audio \(Format not recognised\)"):
        Recording(tmp_path / f"a{suffix}")


@ffmpeg
def test_of_a_file_that_is_cut_off_the_beginning_is_read(tmp_path):
    sine(tmp_path / "a.wav")
    for suffix in (".mka", ".m4a"):
        convert(tmp_path / "a.wav", tmp_path / f"a{suffix}")
        whole = (tmp_path / f"a{suffix}").read_bytes()
        (tmp_path / f"cut{suffix}").write_bytes(whole[: len(whole) // 2])
    found, expected = (audio.read(tmp_path / name)[0] for name in ("cut.mka", "a.mka"))
    assert 0.1 < len(found) / len(expected) < 0.7
    np.testing.assert_array_equal(found, expected[: len(found)])
    with pytest.raises(ValueError, match=r"cut\.m4a: not readable"):  # its index stands at the end
        audio.read(tmp_path / "cut.m4a")


def install(folder, monkeypatch, script):
    """Puts a program in the place of ffmpeg."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > '{folder}/pid'\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (folder / "a.m4a").write_bytes(bytes(100))
    return folder / "a.m4a"


HEADER = r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\175\000\000\000\000\001'"
SAMPLE = r"printf '\077\000\000\000'"  # 0.5


def is_running(folder):
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_the_stream_of_ffmpeg_is_read_as_it_comes(tmp_path, monkeypatch):
    path = install(tmp_path, monkeypatch, f"{HEADER}; {SAMPLE}; {SAMPLE}; printf abc")  # and a part of a sample
    samples, rate_hz = audio.read(path)
    assert (samples.tolist(), rate_hz) == ([0.5, 0.5], 32_000)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 0", "not readable as audio"),
        ("printf .snd", "not readable as audio"),
        ("exec sleep 60", "ffmpeg gave nothing"),
        (HEADER, "holds no samples"),
        (f"{HEADER}; {SAMPLE}; kill -9 $$", r"ffmpeg failed on it \(exit code -9\)"),
        (f"{HEADER}; {SAMPLE}; exit 1", r"ffmpeg failed on it \(exit code 1\)"),
        (f"{HEADER}; {SAMPLE}; exec sleep 60", "ffmpeg gave nothing"),
    ],
)
def test_nothing_that_ffmpeg_does_hangs_or_is_taken_for_a_whole_file(tmp_path, monkeypatch, script, says):
    path = install(tmp_path, monkeypatch, script)
    monkeypatch.setattr(recording, "_PATIENCE_S", 0.3)
    with pytest.raises(ValueError, match=rf"a\.m4a: {says}"):
        audio.read(path)
    assert not is_running(tmp_path)


def test_ffmpeg_ends_with_the_generator(tmp_path, monkeypatch):
    path = install(tmp_path, monkeypatch, f"{HEADER}; {SAMPLE}; exec sleep 60")
    chunks = Recording(path).chunks(1)
    assert not is_running(tmp_path)
    next(chunks)
    assert is_running(tmp_path)
    started = time.perf_counter()
    chunks.close()
    assert not is_running(tmp_path)
    assert time.perf_counter() - started < 5
