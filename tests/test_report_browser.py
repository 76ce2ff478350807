"""`report.html` in a browser: opened from disk, looked at, listened to."""

import shutil

import numpy as np
import pytest
from reported import RATE_HZ, event, node_target, page, tone

from uss_jax.report import preview
from uss_jax.targets import Target

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

TITLE = "</title><script>alert(1)</script> <b>Größe</b> & \u2028 \" '.wav"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 8.0


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A recording whose stem Dog is the recording itself."""
    animal, dog, rain = (node_target(name) for name in ("Animal", "Dog", "Rain"))
    mixture, quiet = tone(440, SECONDS), tone(3000, SECONDS, amplitude=0.05)
    timeline = [event(dog, 1, 3), event(dog, 5, 6.5), event(rain, 0, SECONDS)]
    text = page([(animal, quiet), (dog, mixture), (rain, quiet)], mixture, timeline=timeline, title=TITLE)
    file = tmp_path_factory.mktemp("report") / "a & b #1.html"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def view(browser, path):
    """The page, opened; a message on its console, a request or a dialogue fails the test."""
    yield from opened(browser, path)


def opened(browser, path, **options):
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}} | options)
    shown = context.new_page()
    shown.set_default_timeout(10_000)
    found = []
    shown.on("console", lambda message: found.append(message.text))
    shown.on("pageerror", lambda error: found.append(str(error)))
    shown.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
    shown.on("request", lambda request: found.append(request.url) if request.url[:5] not in ("file:", "data:") else 0)
    shown.goto(path.as_uri())
    yield shown
    assert found == []
    context.close()


def wait(shown, condition):
    """Until it holds; Playwright's own wait evaluates text in the page, which the page's policy forbids."""
    for _ in range(500):
        if shown.evaluate(condition):
            return
        shown.wait_for_timeout(20)
    raise AssertionError(condition)


def play(shown):
    """Plays, and waits until it does."""
    shown.get_by_role("button", name="Play").click()
    wait(shown, "player.origin && player.context.currentTime > player.origin.time")


def gains(shown):
    """What each track is multiplied with, once the gains have settled."""
    shown.wait_for_timeout(200)
    return np.round(shown.evaluate("player.tracks.map((track) => track.gain.gain.value)"), 3).tolist()


def test_a_hostile_title_is_shown_as_it_is(view):
    assert view.locator("h1").text_content() == TITLE
    assert view.title().startswith("</title><script>alert(1)</script> <b>Größe</b>")


def test_the_tree_and_its_numbers_are_shown(view):
    names = view.locator("#tracks .name").all_text_contents()
    assert names == [
        "Recording",
        "Animal",
        "Domestic animals, pets",
        "Dog",
        "Natural sounds",
        "Water",
        "Rain",
        "Residual",
    ]
    assert view.locator(".row", has_text="Dog").locator(".statistics").text_content() == (
        "peak 0.70energy 100 %active 3.5 s"
    )
    below = view.get_by_role("button", name="Sounds below Animal")
    below.click()
    assert not view.get_by_role("button", name="Solo Dog").is_visible()
    assert view.get_by_role("button", name="Solo Rain").is_visible()


def test_links_lead_to_the_files_beside_the_page(view, path):
    link = view.get_by_role("link", name="Full file: Dog.wav")
    assert link.evaluate("(element) => element.href") == path.parent.as_uri() + "/Dog.wav"


def test_playing_moves_the_clock_and_ends_at_the_end(view):
    play(view)
    wait(view, "player.position() > 0.2")
    assert view.evaluate("player.context.state") == "running"
    view.keyboard.press("Space")
    at = view.evaluate("player.position()")
    view.wait_for_timeout(200)
    assert view.evaluate("player.position()") == at
    view.keyboard.press("ArrowRight")
    assert view.evaluate("player.position()") == pytest.approx(at + 5)
    view.evaluate("player.seek(7.7)")
    view.keyboard.press("Space")
    wait(view, "!player.playing")
    assert view.locator("#now").text_content() == "0:08.0"
    assert view.get_by_role("button", name="Play").is_visible()


def test_mute_solo_volume_and_combinations(view):
    play(view)
    assert gains(view) == [1, 0, 0, 0, 0]
    view.get_by_role("button", name="Solo Dog").click()
    assert gains(view) == [0, 0, 1, 0, 0]
    view.get_by_role("button", name="Solo Rain").click()
    assert gains(view) == [0, 0, 1, 1, 0]
    assert view.locator("#hearing").text_content() == "Solo: Dog + Rain"
    view.get_by_role("button", name="End solo").click()
    view.get_by_role("button", name="Unmute Animal").click()
    view.get_by_role("button", name="Mute Recording").click()
    assert gains(view) == [0, 1, 0, 0, 0]
    view.get_by_role("slider", name="Volume of Animal").fill("-20")
    assert gains(view) == [0, 0.1, 0, 0, 0]
    view.get_by_role("button", name="Level 3 + residual").click()
    assert gains(view) == [0, 0, 1, 1, 1]
    view.get_by_role("button", name="Recording", exact=True).click()
    assert gains(view) == [1, 0, 0, 0, 0]


def test_a_track_that_joins_plays_the_same_sample_as_the_others(view):
    play(view)
    view.wait_for_timeout(300)
    view.get_by_role("button", name="Unmute Dog").click()
    wait(view, "player.tracks[2].voice")
    view.wait_for_timeout(300)
    loudest = view.evaluate(
        """async () => {
          const [analyser, other] = [player.context.createAnalyser(), player.context.createGain()];
          other.gain.value = -1;
          player.tracks[0].gain.connect(analyser);
          const wait = () => new Promise((done) => setTimeout(done, 300));
          const samples = new Float32Array(2048);
          const loudest = async () => {
            await wait();
            analyser.getFloatTimeDomainData(samples);
            return Math.max(...samples.map(Math.abs));
          };
          const alone = await loudest();
          player.tracks[2].gain.connect(other).connect(analyser);
          return [alone, await loudest()];
        }"""
    )
    assert loudest[0] == pytest.approx(0.3, rel=0.05)
    assert loudest[1] < 1e-4  # they cancel
    lengths = view.evaluate("player.tracks.filter((track) => track.buffer).map((track) => track.buffer.length)")
    assert lengths == [SECONDS * 24_000] * 2


def test_a_click_on_a_lane_moves_the_player(view):
    lane = view.locator(".row", has_text="Rain").locator(".picture")
    width = lane.bounding_box()["width"]
    lane.click(position={"x": width / 2, "y": 20})
    assert view.evaluate("player.position()") == pytest.approx(SECONDS / 2, abs=0.05)
    play(view)
    lane.click(position={"x": width / 4, "y": 20})
    wait(view, "player.origin && player.origin.at < 3")
    assert view.evaluate("player.position()") == pytest.approx(SECONDS / 4, abs=0.5)
    playhead = view.evaluate("Number(getComputedStyle(document.body).getPropertyValue('--at'))")
    assert playhead == pytest.approx(0.25, abs=0.08)


def test_events_are_reached_by_keyboard(view):
    first, second = view.get_by_role("group", name="Activity of Dog").get_by_role("button").all()
    first.focus()
    view.keyboard.press("ArrowRight")
    assert second.evaluate("(element) => element === document.activeElement")
    assert "0:05.0 – 0:06.5" in view.locator("#tip").text_content()
    view.keyboard.press("Enter")
    assert view.evaluate("player.position()") == 5


def test_spectrograms_can_be_put_away(view):
    height = "document.documentElement.scrollHeight"
    before = view.evaluate(height)
    assert view.get_by_alt_text("Spectrogram of Dog").evaluate("(image) => image.naturalWidth") == 1000
    view.get_by_role("button", name="Spectrograms").click()
    assert not view.get_by_alt_text("Spectrogram of Dog").is_visible()
    assert view.evaluate(height) < before - 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_colour_schemes(browser, path, scheme):
    for shown in opened(browser, path, viewport={"width": 360, "height": 740}, color_scheme=scheme):
        assert shown.evaluate("document.documentElement.scrollWidth") == 360
        colour = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 200) == (scheme == "dark")


def test_forty_stems_of_which_the_beginning_is_heard(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "MOST_TRACK_SECONDS", 42.0)
    stems = [(Target(f"sound {number}", (number,)), tone(100 * (number + 1), 2)) for number in range(40)]
    file = tmp_path / "forty.html"
    file.write_text(page(stems, tone(500, 2), rate_hz=RATE_HZ), encoding="utf-8")
    for shown in opened(browser, file):
        assert shown.locator(".row").count() == 42
        assert "plays the first 0:01 of 0:02" in shown.locator("#notes").text_content()
        shown.get_by_role("button", name="Stems + residual").click()
        shown.get_by_role("button", name="Play").click()
        wait(shown, "player.position() > 0.1")
        assert gains(shown)[:2] == [0, 1]
        wait(shown, "!player.playing")
        assert shown.evaluate("player.position()") == 1
