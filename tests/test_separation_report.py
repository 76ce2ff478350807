"""`report.html`: what it holds, and that it holds no more for a long recording than for a short one."""

import base64
import hashlib
import itertools
import re
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
from reported import RATE_HZ, Reader, event, node_target, page, tone

from uss_jax import report
from uss_jax.report import picture, preview, spectrogram, tree
from uss_jax.separated import Chunk
from uss_jax.targets import Target, of_classes

HOSTILE = "</script><script>alert(1)</script><!-- \u2028\u2029 & {{content}} '\"\\ \udcff <img src=x onerror=alert(1)>"
DOG, RAIN, ANIMAL = (node_target(name) for name in ("Dog", "Rain", "Animal"))


# The page


def test_the_page_is_one_whole_document():
    text = page([(DOG, tone(500)), (RAIN, tone(4000))], tone(500) + tone(4000))
    assert text.startswith("<!doctype html>")
    read = Reader(text)
    assert [tag for tag, _ in read.tags].count("body") == 1
    assert [track["kind"] for track in read.content["tracks"]] == ["mixture", "stem", "stem", "residual"]
    assert {f"sound-{number}" for number in range(4)} < set(read.scripts)


def test_nothing_is_loaded_from_elsewhere():
    text = page([(DOG, tone(500))], tone(500))
    assert set(re.findall(r"https?://[^\"' )]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    for _, attrs in Reader(text).tags:
        for name in ("src", "href", "action", "data"):
            assert attrs.get(name, "data:").startswith("data:")
    assert "@import" not in text
    assert "url(" not in text


def test_the_policy_allows_only_the_script_and_style_of_the_page():
    read = Reader(page([(DOG, tone(500))], tone(500)))
    rules = dict(rule.split(" ", 1) for rule in read.policy.split("; "))
    digest = {
        name: base64.b64encode(hashlib.sha256(read.scripts[name].encode()).digest()).decode()
        for name in ("script", "style")
    }
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest['script']}'"
    assert rules["style-src"] == f"'sha256-{digest['style']}'"
    assert rules["img-src"] == "data: blob:"


def test_hostile_names_are_data():
    target = Target(HOSTILE, (0,), mid="/m/09x0r")
    text = page([(target, tone(500))], tone(500), title=HOSTILE, files={HOSTILE: HOSTILE, "residual": "r.wav"})
    assert "alert(1)</script>" not in text
    assert "<img" not in text
    assert "\u2028" not in text
    text.encode("utf-8")
    content = Reader(text).content
    assert content["title"] == content["tracks"][1]["name"] == content["tracks"][1]["file"] == HOSTILE


def test_a_stem_without_a_file_is_left_out():
    read = Reader(page([(DOG, tone(500)), (RAIN, None)], tone(500), files={"Rain": "level3/Rain.wav", "residual": "r"}))
    assert [track.get("name") for track in read.content["tracks"]] == [None, "Rain", None]
    assert read.content["tree"][0]["children"][0]["children"][0]["track"] == 1


def test_an_empty_recording_has_no_report():
    with pytest.raises(ValueError, match=r"a\.wav: 0 samples"):
        report.Builder("a.wav", 32_000, 1, 0, [])


def test_the_report_needs_no_jax():
    program = "import sys, uss_jax.report; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# What was found


def test_numbers_of_a_stem_by_hand():
    timeline = [event(DOG, 0.25, 0.5, 0.4, 0.6), event(RAIN, 0, 2), event(DOG, 1, 1.5, 0.7, 0.9)]
    read = Reader(page([(DOG, 0.5 * tone(500)), (RAIN, None)], tone(500), 0.5 * tone(500), timeline=timeline))
    mixture, dog, rain, residual = read.content["tracks"]
    assert dog["energyShare"] == pytest.approx(0.25)
    assert residual["energyShare"] == pytest.approx(0.25)
    assert mixture["energyShare"] == 1
    assert (dog["peak"], dog["activeSeconds"]) == (0.9, 0.75)
    assert dog["bars"] == [[0.25, 0.5, 0.4, 0.6, 1], [1, 1.5, 0.7, 0.9, 1]]
    assert rain["energyShare"] == 0


def test_the_tree_has_ancestors_as_headings_in_the_order_of_the_ontology():
    query = Target("query", condition=np.zeros(3, np.float32))
    stems = [(RAIN, None), (ANIMAL, None), (DOG, None), (of_classes(["Speech"])[0], None), (query, None)]
    content = Reader(page(stems, tone(500))).content
    animal, natural = content["tree"]
    assert (animal["name"], animal["level"], animal["track"]) == ("Animal", 1, 2)
    assert [child["name"] for child in animal["children"]] == ["Domestic animals, pets"]
    assert animal["children"][0]["track"] is None
    assert animal["children"][0]["children"] == [{"name": "Dog", "level": 3, "track": 3, "children": []}]
    assert natural["children"][0]["children"][0]["track"] == 1
    assert content["others"] == [4, 5]
    assert [track.get("listenedFor") for track in content["tracks"]] == [None, True, True, True, True, False, None]


def test_events_that_a_page_cannot_tell_apart_are_drawn_as_one():
    day = 24 * 3600
    events = [event(DOG, second, second + 1, 0.2 + 0.6 * (second == 2), 0.9) for second in (0, 2, 4, 1000)]
    assert tree.bars(events, day) == [[0, 5, 0.4, 0.9, 3], [1000, 1001, 0.2, 0.9, 1]]
    many = [event(DOG, second, second + 1) for second in range(0, day, 2)]
    assert len(tree.bars(many, day)) <= tree.MOST_BARS
    assert len(tree.bars(many[:8], 20)) == 8


# Spectrograms


@pytest.mark.parametrize("rate_hz", [8_000, 32_000, 44_100, 192_000])
@pytest.mark.parametrize("frequency_hz", [150, 1000, 3600])
def test_a_sine_is_the_brightest_row_at_its_pitch(rate_hz, frequency_hz):
    made = spectrogram.Spectrogram(rate_hz, rate_hz)
    made.add(tone(frequency_hz, 1, rate_hz, amplitude=1.0)[:, 0])
    decibels = made.decibels()
    low, high = spectrogram.span(rate_hz)
    place = (spectrogram.pitch(frequency_hz) - low) / (high - low)
    middle = decibels[:, decibels.shape[1] // 2]
    assert abs(middle.argmax() - (1 - place) * spectrogram.ROWS) <= 1.5
    assert -12 < middle.max() < 1  # a full-scale sine is 0 dB where rows are no wider than it is
    assert middle[[0, -1]].max() < middle.max() - 45


def test_white_noise_is_as_bright_in_all_rows():
    made = spectrogram.Spectrogram(RATE_HZ, 60 * RATE_HZ)
    made.add(np.random.default_rng(0).standard_normal(60 * RATE_HZ).astype(np.float32))
    rows = 10 * np.log10((10 ** (made.decibels() / 10)).mean(axis=1))
    assert np.ptp(rows) < 0.5


@pytest.mark.parametrize("frames", [1, 100, 5_000, 32_000, 2_000_003])
def test_clicks_stand_where_they_are_however_the_sound_is_cut(frames):
    samples = np.zeros(frames, np.float32)
    click = frames * 2 // 3
    samples[click] = 1
    whole = spectrogram.Spectrogram(RATE_HZ, frames)
    whole.add(samples)
    pieces = spectrogram.Spectrogram(RATE_HZ, frames)
    cuts = sorted({0, frames, *np.random.default_rng(0).integers(0, frames, 12).tolist()})
    for start, end in itertools.pairwise(cuts):
        pieces.add(samples[start:end])
    of_whole, of_pieces = whole.decibels(), pieces.decibels()
    np.testing.assert_allclose(of_pieces, of_whole, atol=1e-6)
    assert of_whole.shape[1] <= spectrogram.COLUMNS
    columns = np.flatnonzero(of_whole.max(axis=0) > of_whole.max() - 30)
    window_columns = 2048 * of_whole.shape[1] / frames
    assert abs(columns.mean() - click * of_whole.shape[1] / frames) <= 1 + window_columns / 2


def test_all_pictures_share_one_scale():
    loud, quiet = tone(1000, amplitude=0.5), tone(1000, amplitude=0.05)
    read = Reader(page([(DOG, quiet), (RAIN, None)], loud, loud - quiet))
    mixture, dog, rain = (read.picture(number) for number in range(3))
    assert mixture.max() == picture.SHADES - 1
    assert int(mixture.max()) - int(dog.max()) == round(20 / picture.RANGE_DB * (picture.SHADES - 1))
    assert rain.max() == 0


def test_the_palette_grows_lighter_evenly():
    shares = picture.palette() / 255.0
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # of CIE
    steps = np.diff(lightness[4:])
    assert lightness[0] < 8
    assert lightness[-1] > 90
    assert steps.min() > 0.4 * steps.mean()
    assert steps.max() < 2 * steps.mean()


def test_frequencies_are_written_where_their_rows_are():
    places = dict(spectrogram.labels(44_100))
    assert list(places) == sorted(places)
    assert places[1000] == pytest.approx(0.36, abs=0.02)
    assert max(frequency for frequency, _ in spectrogram.labels(8_000)) == 2000


# Previews


def test_previews_are_the_sound_and_all_as_long():
    random = np.random.default_rng(0)
    rate_hz, frames = 44_100, 100_001
    mixture = np.concatenate([tone(440, 3, rate_hz)[:frames], 0.1 * random.standard_normal((frames, 1))], axis=1)
    read = Reader(page([(DOG, 0.01 * mixture), (RAIN, None)], mixture.astype(np.float32), rate_hz=rate_hz, chunk=7_777))
    decoded = [read.sound(number) for number in range(4)]
    assert {len(samples) for samples, _ in decoded} == {round(frames * 24_000 / rate_hz)}
    assert {preview_rate for _, preview_rate in decoded} == {24_000} == {read.content["previewRate"]}
    heard = decoded[0][0]
    expected = tone(440, 3, 24_000)[: len(heard)]
    error = heard[500:-500, :1] - expected[500:-500]
    assert 10 * np.log10(np.mean(expected**2) / np.mean(error**2)) > 38
    quiet = decoded[1][0][500:-500, :1] / 0.01 - expected[500:-500]
    assert 10 * np.log10(np.mean(expected**2) / np.mean(quiet**2)) > 30  # rounded to what its level needs
    assert not decoded[2][0].any()


def test_previews_of_many_channels_are_their_mean_and_loud_ones_are_clipped():
    mixture = np.stack([tone(500)[:, 0], *np.zeros((3, 2 * RATE_HZ), np.float32)], axis=1)
    heard, _ = Reader(page([(DOG, 100 * mixture)], mixture)).sound(0)
    assert heard.shape == (48_000, 1)
    assert np.abs(heard).max() == pytest.approx(0.3 / 4, rel=0.02)
    clipped, _ = Reader(page([(DOG, 100 * mixture)], mixture)).sound(1)
    assert np.abs(clipped).max() == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize("rate_hz", [4_000, 8_000, 16_000, 48_000, 192_000])
def test_a_recording_of_one_sample(rate_hz):
    read = Reader(page([(DOG, None)], np.full((1, 1), 0.5, np.float32), rate_hz=rate_hz))
    assert [len(read.sound(number)[0]) for number in range(3)] == [
        max(1, round(preview.rate_hz(rate_hz) / rate_hz))
    ] * 3


def test_a_long_recording_is_heard_in_part(monkeypatch):
    monkeypatch.setattr(preview, "MOST_SECONDS", 1.5)
    read = Reader(page([(DOG, None)], tone(500, 4), chunk=10_000))
    assert read.content["heardSeconds"] == 1.5
    assert len(read.sound(0)[0]) == len(read.sound(1)[0]) == 36_000
    assert preview.seconds(3) == 1.5
    assert preview.seconds(4000) == pytest.approx(0.6)


def test_silence_and_overload_have_a_report():
    silence = np.zeros((1000, 1), np.float32)
    content = Reader(page([(DOG, None)], silence)).content
    assert [track["energyShare"] for track in content["tracks"]] == [None] * 3
    loud = np.full((1000, 1), 3e38, np.float32)
    assert Reader(page([(DOG, loud)], loud)).content["tracks"][1]["energyShare"] == 1


def test_a_report_that_is_given_up_leaves_without_a_word():
    program = """
        import numpy as np
        from uss_jax import report
        from uss_jax.separated import Chunk
        sound = np.random.default_rng(0).standard_normal((100_000, 1)).astype(np.float32)
        builder = report.Builder("a.wav", 32_000, 1, 200_000, [])
        builder.add(Chunk(0, sound, {}, sound))
        builder.cycle = [builder]  # as an exception makes one, with what it passed through
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=True)
    assert (ended.stdout, ended.stderr) == (b"", b"")


# Memory


def test_three_hours_of_forty_stems_take_no_more_memory_than_minutes():
    rate_hz, minute = 200, np.random.default_rng(0).standard_normal((60 * 200, 2)).astype(np.float32)
    targets = [Target(f"sound {number}", (number,)) for number in range(40)]
    builder = report.Builder("long.wav", rate_hz, 2, 180 * len(minute), targets)
    held = []
    tracemalloc.start()
    for number in range(180):
        sounding = {"sound 0": 0.1 * minute, f"sound {number % 40}": minute}
        builder.add(Chunk(number * len(minute), minute, sounding, minute))
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held) - held[2] < 1e6  # the previews, of the first minute, are complete
    read = Reader(builder.html([], {target.name: "x.wav" for target in targets}))
    assert read.content["heardSeconds"] == pytest.approx(2400 / 42, abs=0.01)
    assert read.picture(0).shape == (spectrogram.ROWS, spectrogram.COLUMNS)
    assert read.picture(41).max() == read.picture(0).max()
