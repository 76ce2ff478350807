"""The page in a real browser, with the real model: upload, wait, play, download."""

import base64
import io
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from demo_server import start

pytest.importorskip("fastapi", reason="the page needs the extra `demo`")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")

CHROMIUM = Path("/usr/bin/chromium")
EXAMPLE = ROOT / "examples" / "yard.flac"
PATIENCE_MS = 120_000
NAME = '<i>my "yard".flac'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server with the bundled model."""
    folder = tmp_path_factory.mktemp("server")
    server, found = start(folder, "tiny")
    yield found
    server.send_signal(signal.SIGTERM)
    _, errors = server.communicate(timeout=20)
    assert errors == ""
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])


@pytest.fixture
def page(browser, address) -> Iterator[Any]:
    """The page, which says nothing on the console but that requests were refused."""
    said: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.on("console", lambda message: said.append(message.text))
    context.on("weberror", lambda error: said.append(str(error.error)))
    opened = context.new_page()
    opened.goto(address)
    opened.locator("#model", has_text="tiny").wait_for()
    yield opened
    context.close()
    assert [text for text in said if "Failed to load resource" not in text] == []


def separate(page: Any, file: Any = EXAMPLE) -> None:
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Separate").click()


def test_a_recording_is_uploaded_separated_played_and_downloaded(page, tmp_path):
    separate(page)
    page.locator("#done").wait_for(timeout=PATIENCE_MS)
    assert page.locator("#done-title").inner_text() == "yard.flac"
    names = page.locator(".row .name").all_inner_texts()
    assert names[0] == "Your recording"
    assert names[-1] == "Everything else"
    assert {"Animal", "Dog", "Human voice", "Speech", "Fire"} <= set(names)
    assert names.index("Animal") < names.index("Dog")
    assert page.evaluate("document.documentElement.scrollWidth") == 390

    page.get_by_role("button", name="Play Speech").click()
    row = page.locator(".row.playing")
    page.get_by_role("button", name="Pause Speech").wait_for()
    first, then = (_position(page, row) for _ in range(2))
    assert 0 < first < then
    page.get_by_role("slider", name="Position in Speech").fill("9.5")
    assert 9.5 <= _position(page, row) < 11
    page.get_by_role("button", name="Play Everything else").click()  # goes on from the same second
    assert row.count() == 1
    assert 9.5 <= _position(page, row) < 13
    page.get_by_role("button", name="Pause Everything else").click()
    assert row.count() == 0

    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    assert download.value.suggested_filename == "yard.zip"
    download.value.save_as(tmp_path / "yard.zip")
    with zipfile.ZipFile(tmp_path / "yard.zip") as whole:
        assert whole.testzip() is None
        assert {"yard/timeline.json", "yard/labels.txt", "yard/report.html"} <= set(whole.namelist())
        fine = [name for name in whole.namelist() if name.startswith("yard/level3/")]
        assert "yard/level3/Dog.wav" in fine
        parts = [soundfile.read(io.BytesIO(whole.read(name)))[0] for name in (*fine, "yard/residual.wav")]
    np.testing.assert_allclose(np.sum(parts, axis=0), soundfile.read(EXAMPLE)[0], atol=1e-6)

    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report").click()
    opened.value.get_by_text("Dog").first.wait_for()
    assert opened.value.evaluate("origin") == "null"
    opened.value.close()

    page.reload()  # the result is still there
    page.locator("#done").wait_for()
    page.get_by_role("button", name="Remove it now").click()
    page.locator("#choose").wait_for()
    assert "#" not in page.url


def _position(page: Any, row: Any) -> float:
    """Seconds that the player of a row has come to, half a second from now."""
    page.wait_for_timeout(500)
    return row.locator("audio").evaluate("audio => audio.currentTime")


def test_a_dropped_file_is_separated_by_names(page):
    data = page.evaluate_handle(
        """([name, base64]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
            return transfer;
        }""",
        [NAME, base64.b64encode(EXAMPLE.read_bytes()).decode()],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    assert page.locator("#chosen").inner_text() == NAME
    page.get_by_text("Only these sounds").click()
    name = page.get_by_label("Name of a sound")
    name.fill("Dgo")
    name.press("Enter")
    page.get_by_text("'Dgo' is not an AudioSet class name, index or mid; did you mean 'Dog'").wait_for()
    name.fill("dog")
    name.press("Enter")
    page.locator("#chips", has_text="Dog").wait_for()
    name.fill("Violin, fiddle")  # not added, but meant
    page.get_by_role("button", name="Separate").click()
    page.locator("#done").wait_for(timeout=PATIENCE_MS)
    assert page.locator("#done-title").inner_text() == NAME
    names = page.locator(".row .name").all_inner_texts()
    assert names == ["Your recording", "Dog", "Violin, fiddle", "Everything else"]


def test_what_is_no_recording_is_refused_and_another_may_be_tried(page):
    separate(page, {"name": "diary.txt", "mimeType": "text/plain", "buffer": b"Dear diary, " * 100})
    page.locator("#failed").wait_for(timeout=PATIENCE_MS)
    assert page.locator("#failed-title").inner_text() == "diary.txt"
    assert page.locator("#reason").inner_text().startswith("Not readable as audio")
    page.get_by_role("button", name="Try another recording").click()
    assert page.get_by_role("button", name="Separate").is_disabled()


def test_a_separation_can_be_cancelled(page, address, tmp_path):
    samples, rate = soundfile.read(EXAMPLE)
    soundfile.write(tmp_path / "long.flac", np.tile(samples, 60), rate)
    separate(page, tmp_path / "long.flac")
    page.locator("#stage", has_text="Listening").wait_for(timeout=PATIENCE_MS)
    job = page.url.partition("#")[2]
    page.get_by_role("button", name="Cancel").click()
    page.locator("#choose").wait_for()
    assert page.locator("#chosen").inner_text() == "long.flac"
    assert page.request.get(f"{address}jobs/{job}").status == 404
    separate(page)
    page.locator("#done").wait_for(timeout=PATIENCE_MS)
