"""The page's server: what it takes, what it refuses, and that nothing that a job does breaks it."""

import asyncio
import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import demo_separations
import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="the page needs the extra `demo`")

from demo_server import start
from fastapi import Request
from fastapi.testclient import TestClient

from uss_jax.demo import Limits, outcome, serve, upload
from uss_jax.demo.app import make_app, page_csp
from uss_jax.demo.jobs import Jobs
from uss_jax.demo.server import listening
from uss_jax.demo.worker import Worker
from uss_jax.separated import Event

LIMITS = Limits()
HOSTILE = [
    "../../etc/x",
    "..\\..\\windows\\x.wav",
    "/etc/passwd",
    "a \"quoted\" 'name'.wav",
    "two\nlines\r\nX-Evil: 1.wav",
    "ünï cødé 🎺.wav",
    "<img src=x onerror=alert(1)>.wav",
    "x" * 5000 + ".wav",
    "..",
    "",
    "%2e%2e%2f",
    "\x00\x1b[31m.wav",
]


@contextlib.contextmanager
def serving(
    folder: Path, limits: Limits = LIMITS, load: Any = demo_separations.load, **options: Any
) -> Iterator[tuple[TestClient, Jobs]]:
    """A client of a server whose jobs do what `demo_separations` says."""
    jobs = Jobs(folder, Worker(load), limits, **options)
    with TestClient(make_app(jobs, "fake", "testserver")) as client:
        yield client, jobs


def post(client: TestClient, content: str, name: str = "a.wav", **fields: Any) -> str:
    """Uploads a file and returns the id of its job."""
    response = client.post("/jobs", files={"file": ("upload", content.encode())}, data={"title": name} | fields)
    assert response.status_code == 201, response.text
    return response.json()["id"]


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What the condition gives, once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return value


def finished(client: TestClient, job: str) -> dict[str, Any]:
    def status() -> dict[str, Any] | None:
        found = client.get(f"/jobs/{job}").json()
        return found if found["state"] in ("done", "failed") else None

    return wait_for(status)


def in_state(client: TestClient, job: str, state: str) -> Callable[[], bool]:
    return lambda: client.get(f"/jobs/{job}").json()["state"] == state


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[TestClient]:
    """A client for tests that leave the server as it was."""
    with serving(tmp_path_factory.mktemp("shared")) as (client, _):
        yield client


@pytest.fixture(scope="module")
def done(shared) -> str:
    """A job that is done."""
    job = post(shared, "write", "my dog.wav")
    assert finished(shared, job)["state"] == "done"
    return job


def test_a_recording_becomes_a_tree_stems_a_report_and_a_zip_file(shared, done):
    status = shared.get(f"/jobs/{done}").json()
    assert (status["title"], status["error"]) == ("my dog.wav", None)
    sounds = shared.get(f"/jobs/{done}/sounds").json()
    row = {"name": "Dog", "level": 3, "mid": "/m/0bt9lr", "depth": 0, "spans": [[0.25, 0.75, 0.75]], "number": 0}
    assert sounds == {"rows": [row], "seconds": 1.0, "residual": 1}
    stems = [shared.get(f"/jobs/{done}/stems/{number}") for number in (0, 1)]
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 8000)).astype(np.float32)
    for stem, samples in zip(stems, noise, strict=True):
        assert stem.headers["content-type"] == "audio/wav"
        np.testing.assert_array_equal(soundfile.read(io.BytesIO(stem.content), dtype="float32")[0], samples)
    report = shared.get(f"/jobs/{done}/report")
    assert report.text == "<title>10</title>"
    assert "sandbox allow-scripts" in report.headers["content-security-policy"]
    assert "allow-same-origin" not in report.headers["content-security-policy"]
    archive = shared.get(f"/jobs/{done}/stems.zip")
    assert archive.headers["content-disposition"] == "attachment; filename*=utf-8''my%20dog.zip"
    with zipfile.ZipFile(io.BytesIO(archive.content)) as whole:
        assert whole.testzip() is None
        names = {"level3/Dog.wav", "residual.wav", "timeline.json", "report.html", "wish.json"}
        assert set(whole.namelist()) == {f"my dog/{name}" for name in names}
        assert whole.read("my dog/level3/Dog.wav") == stems[0].content
        assert whole.infolist()[0].compress_type == zipfile.ZIP_STORED


def test_players_can_seek(shared, done):
    whole = shared.get(f"/jobs/{done}/stems/0").content
    part = shared.get(f"/jobs/{done}/stems/0", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, whole[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(whole)}"


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, [[1, 2, 3], []]),
        ({"levels": ["3", "1"]}, [[3, 1], []]),
        ({"classes": ["speech", "Waves, surf", "74", "Speech"]}, [[], ["Speech", "Waves, surf", "Dog"]]),
    ],
)
def test_what_is_asked_for_reaches_the_separation(shared, fields, wish):
    job = post(shared, "write", **fields)
    finished(shared, job)
    archive = zipfile.ZipFile(io.BytesIO(shared.get(f"/jobs/{job}/stems.zip").content))
    assert json.loads(archive.read("a/wish.json")) == wish


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"classes": ["Speach"]}, "'Speach' is not an AudioSet class name, index or mid; did you mean 'Speech'"),
        ({"levels": ["9"]}, "level 9: ontology levels run from 1 to"),
        ({"levels": ["x"]}, "level 'x': expected a number"),
        ({"levels": ["1"], "classes": ["Dog"]}, "ask for levels or for classes"),
    ],
)
def test_a_wrong_wish_is_refused_with_one_sentence(shared, fields, sentence):
    response = shared.post("/jobs", files={"file": ("a.wav", b"write")}, data=fields)
    assert response.status_code == 400
    assert response.json()["error"].startswith(sentence)


def test_names_of_sounds_are_checked_before_an_upload(shared):
    assert shared.get("/class", params={"name": "dog"}).json()["name"] == "Dog"
    wrong = shared.get("/class", params={"name": "dgo"})
    assert (wrong.status_code, "did you mean" in wrong.json()["error"]) == (400, True)
    assert shared.get("/class").json() == {"error": "not understood"}


@pytest.mark.parametrize(
    "request_of",
    [
        {"files": {"other": ("a.wav", b"write")}},
        {"data": {"file": "write"}},
        {"content": b"write", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"write", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"write", "headers": {"Content-Type": "audio/wav"}},
        {"files": [("file", ("a.wav", b"write")), ("file", ("b.wav", b"write"))]},
        {"files": {"file": ("x" * 9000, b"write")}},
        {"files": {"file": ("a.wav", b"write")}, "data": {"classes": ["Dog"] * 100}},
    ],
)
def test_an_odd_form_is_refused_and_takes_no_place(shared, request_of):
    for _ in range(LIMITS.waiting + 1):
        response = shared.post("/jobs", **request_of)
        assert response.status_code == 400
        assert response.json()["error"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_never_used(tmp_path_factory, shared, name):
    job = post(shared, "write", name)
    status = finished(shared, job)
    assert status["state"] == "done"
    assert 0 < len(status["title"]) <= 200
    assert status["title"].isprintable()
    assert "/" not in status["title"]
    archive = shared.get(f"/jobs/{job}/stems.zip")
    assert "x-evil" not in archive.headers
    for entry in zipfile.ZipFile(io.BytesIO(archive.content)).namelist():
        folder, *rest = entry.split("/")
        assert folder.strip(". ")
        assert "\\" not in entry
        assert ".." not in rest
    root = tmp_path_factory.getbasetemp()
    for path in root.rglob("*"):
        assert path.name in ("upload", "results", "stems.zip", "log") or name != path.name
    assert not (root / "x").exists()


def test_a_name_beside_the_file_will_do(shared):
    response = shared.post("/jobs", files={"file": ("../b.wav", b"write")})
    assert response.json()["title"] == "b.wav"


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/none",
        "/jobs/%2e%2e",
        "/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/jobs/none/stems/0",
        "/jobs/none/stems.zip",
        "/jobs/none/report",
        "/jobs/none/sounds",
        "/jobs/{job}/stems/2",
        "/jobs/{job}/stems/-1",
        "/jobs/{job}/stems/..%2f..%2ftimeline.json",
        "/jobs/{job}/stems/1e0",
        "/jobs/{job}/stems/9999999999999999999999999",
        "/jobs/{job}/upload",
        "/jobs/{job}/results/timeline.json",
        "/jobs/log",
        "/docs",
        "/openapi.json",
        "/nothing",
    ],
)
def test_what_is_not_there_is_told_in_json(shared, done, path):
    response = shared.get(path.format(job=done))
    assert response.status_code in (400, 404)
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:81"}, 200),
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "localhost@evil.example"}, 421),
        ({"Host": "127.0.0.1.nip.example:8000"}, 421),
        ({"Host": "192.168.0.7"}, 421),
        ({"Host": ""}, 421),
    ],
)
def test_only_the_names_of_this_machine_are_answered(shared, headers, status):
    assert shared.get("/about", headers=headers).status_code == status


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])
def test_listening_on_all_addresses_answers_to_addresses_and_to_no_strange_name(tmp_path, bound):
    client = TestClient(make_app(Jobs(tmp_path, Worker(demo_separations.load), Limits()), "fake", bound))
    for host in ("192.168.0.7:8000", "[fe80::1]", socket.gethostname()):
        assert client.get("/about", headers={"Host": host}).status_code == 200
    assert client.get("/about", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://testserver"}, True),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, True),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://testserver.evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_only_the_page_itself_may_change_anything(shared, headers, allowed):
    response = shared.post("/jobs", files={"file": ("a.wav", b"write")}, headers=headers)
    assert response.status_code == (201 if allowed else 403)
    job = response.json()["id"] if allowed else post(shared, "write")
    finished(shared, job)
    assert shared.delete(f"/jobs/{job}", headers=headers).status_code == (204 if allowed else 403)
    assert shared.get(f"/jobs/{job}").status_code == (404 if allowed else 200)


def test_the_page_runs_its_own_script_alone_and_loads_nothing_from_elsewhere(shared):
    response = shared.get("/")
    policy = response.headers["content-security-policy"]
    assert policy == page_csp(response.text)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "http:" not in response.text
    assert "https:" not in response.text
    assert "innerHTML" not in response.text
    for path in ("/", "/about", "/jobs/none"):
        headers = shared.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
    assert len(shared.get("/about").json()["classes"]) == 527


def test_a_file_is_refused_while_it_streams(tmp_path):
    pieces = 0

    async def stream() -> dict[str, Any]:
        nonlocal pieces
        pieces += 1
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' if pieces == 1 else b""
        return {"type": "http.request", "body": head + bytes(100_000), "more_body": True}  # without an end

    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"100")]  # it lies
    request = Request({"type": "http", "method": "POST", "headers": headers}, stream)
    with pytest.raises(upload.TooLargeError, match="larger than 1 MB"):
        asyncio.run(upload.receive(request, tmp_path / "upload", 1_000_000))
    assert pieces == 11
    assert not (tmp_path / "upload").exists()


def test_a_file_that_is_too_large_leaves_nothing_behind(tmp_path):
    with serving(tmp_path, Limits(upload_bytes=1000)) as (client, _):
        response = client.post("/jobs", files={"file": ("a.wav", bytes(200_000))})
        assert (response.status_code, response.json()["error"]) == (
            413,
            "the file is larger than 0.001 MB, the most taken here",
        )
        assert list(tmp_path.iterdir()) == []
        assert finished(client, post(client, "write"))["state"] == "done"


def test_a_file_that_does_not_arrive_is_given_up(tmp_path):
    async def stall() -> None:
        sent: list[dict[str, Any]] = []
        pauses = iter([0.0, 60.0])

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(next(pauses))
            return {"type": "http.request", "body": b"--x", "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        scope = {"type": "http", "method": "POST", "path": "/jobs", "headers": headers, "query_string": b""}
        await make_app(jobs, "fake", "localhost")(scope | {"root_path": ""}, receive, send)
        assert b"had not arrived" in sent[1]["body"]

    jobs = Jobs(tmp_path, Worker(demo_separations.load), Limits(upload_s=0.2))
    asyncio.run(stall())
    assert list(tmp_path.iterdir()) == []


def test_jobs_are_done_in_their_order_one_at_a_time(tmp_path):
    with serving(tmp_path, Limits(waiting=3)) as (client, _):
        first = post(client, "wait", "0")
        wait_for(in_state(client, first, "separating"))
        others = [post(client, "write", str(number)) for number in (1, 2, 3)]
        assert [client.get(f"/jobs/{job}").json()["ahead"] for job in others] == [1, 2, 3]
        refused = client.post("/jobs", files={"file": ("a.wav", b"write")})
        assert refused.status_code == 503
        assert refused.json()["error"] == "3 recordings are waiting already; try again later"
        assert client.delete(f"/jobs/{others[1]}").status_code == 204  # gives its place to the next
        assert [client.get(f"/jobs/{others[i]}").json()["ahead"] for i in (0, 2)] == [1, 2]
        assert client.get(f"/jobs/{first}").json()["share"] == 0.25
        (tmp_path / "go").touch()
        assert finished(client, others[2])["state"] == "done"
        log = (tmp_path / "log").read_text().split("\n")[:-1]
    assert log == ["begin 0", "end 0", "begin 1", "end 1", "begin 3", "end 3"]


def test_the_tree_is_there_before_the_stems(tmp_path):
    with serving(tmp_path) as (client, _):
        job = post(client, "wait")
        wait_for(lambda: client.get(f"/jobs/{job}").json()["heard"])
        row = {"name": "Dog", "level": 3, "mid": "/m/0bt9lr", "depth": 0, "spans": [[0.25, 0.75, 0.75]], "number": None}
        assert client.get(f"/jobs/{job}/sounds").json() == {"rows": [row], "seconds": None, "residual": None}
        for early in ("stems/0", "stems.zip", "report"):
            assert client.get(f"/jobs/{job}/{early}").json() == {"error": "this is not separated yet"}


def test_a_crash_fails_one_job_and_the_next_finds_a_new_process(tmp_path):
    with serving(tmp_path) as (client, _):
        crash, then = post(client, "crash"), post(client, "write")
        failed = finished(client, crash)
        assert failed["state"] == "failed"
        assert failed["error"].startswith("The separation ended unexpectedly (exit code -9)")
        assert client.get(f"/jobs/{crash}/stems/0").status_code == 404
        assert finished(client, then)["state"] == "done"
        assert not (tmp_path / crash).exists()


def test_a_job_that_hangs_is_killed_when_its_time_is_over(tmp_path):
    with serving(tmp_path, Limits(job_s=1.5)) as (client, _):
        hang, then = post(client, "hang"), post(client, "write")
        assert finished(client, hang)["error"] == "This took longer than 0.025 minutes, and was stopped."
        assert finished(client, then)["state"] == "done"


def test_a_refusal_is_one_sentence_without_our_names(tmp_path):
    with serving(tmp_path) as (client, _):
        failed = finished(client, post(client, "refuse", "My song.mp3"))
        assert (failed["state"], failed["error"]) == ("failed", "upload holds no sound")
        assert finished(client, post(client, "write"))["state"] == "done"


def test_a_job_can_be_cancelled_while_it_waits_and_while_it_runs(tmp_path):
    with serving(tmp_path) as (client, _):
        running = post(client, "wait")
        wait_for(in_state(client, running, "separating"))
        waiting = post(client, "crash")
        for job in (waiting, running):
            assert client.delete(f"/jobs/{job}").status_code == 204
            assert client.get(f"/jobs/{job}").status_code == 404
        wait_for(lambda: not (tmp_path / running).exists())
        assert not (tmp_path / waiting).exists()
        assert finished(client, post(client, "write"))["state"] == "done"
        assert (tmp_path / "log").read_text().count("begin") == 2


def test_a_job_that_does_not_listen_is_killed_when_it_is_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr("uss_jax.demo.worker.PATIENCE_S", 0.3)
    with serving(tmp_path) as (client, _):
        hang = post(client, "hang")
        wait_for(in_state(client, hang, "listening"))
        client.delete(f"/jobs/{hang}")
        assert finished(client, post(client, "write"))["state"] == "done"
        assert not (tmp_path / hang).exists()


def test_results_are_removed_after_a_while(tmp_path):
    now = [0.0]
    with serving(tmp_path, Limits(kept_s=3600.0), clock=lambda: now[0]) as (client, jobs):
        old = post(client, "write")
        finished(client, old)
        now[0] = 1800.0
        young = post(client, "write")
        finished(client, young)
        now[0] = 3601.0
        assert client.get(f"/jobs/{old}").status_code == 404
        jobs.sweep()
        assert not (tmp_path / old).exists()
        assert client.get(f"/jobs/{young}/stems/0").status_code == 200


def test_only_so_many_results_are_kept(tmp_path):
    with serving(tmp_path, Limits(kept=2)) as (client, _):
        made = [post(client, "write") for _ in range(4)]
        finished(client, made[3])
        wait_for(lambda: not (tmp_path / made[1]).exists())
        assert [client.get(f"/jobs/{job}").status_code for job in made] == [404, 404, 200, 200]
        assert not (tmp_path / made[0]).exists()


def test_nothing_is_left_when_the_server_ends_in_the_middle(tmp_path):
    with serving(tmp_path) as (client, _):
        done = post(client, "write")
        finished(client, done)
        post(client, "hang")
        wait_for(lambda: "begin" in (tmp_path / "log").read_text())
        post(client, "write")
        begin = time.monotonic()
    assert time.monotonic() - begin < 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_jobs_may_come_before_the_model_is_ready(tmp_path):
    with serving(tmp_path, load=demo_separations.load_slowly) as (client, _):
        begin = time.monotonic()
        job = post(client, "write")
        assert client.get(f"/jobs/{job}").json()["state"] == "waiting"
        assert time.monotonic() - begin < 1.0
        assert finished(client, job)["state"] == "done"


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    told = []
    with serving(tmp_path, load=demo_separations.load_badly, on_broken=told.append) as (client, _):
        wait_for(lambda: told)
        assert str(told[0]) == "tny: no such model"
        assert finished(client, post(client, "write"))["error"] == "tny: no such model"


def test_a_text_file_and_a_long_recording_are_refused_with_one_sentence(tmp_path):
    (tmp_path / "jobs").mkdir()
    soundfile.write(tmp_path / "long.flac", np.zeros(8000 * 61), 8000)
    with serving(tmp_path / "jobs", Limits(audio_s=60.0), load=demo_separations.load_nothing) as (client, _):
        text = finished(client, post(client, "Dear diary,\n" * 100, "diary.txt"))
        assert text["state"] == "failed"
        assert text["error"].startswith("not readable as audio")
        response = client.post("/jobs", files={"file": ("a.flac", (tmp_path / "long.flac").read_bytes())})
        long = finished(client, response.json()["id"])
        assert long["error"] == "longer than 1 minutes, the most that is taken here"


def event(name: str, mid: str | None, level: int | None, onset_s: float) -> Event:
    return Event(name, mid, level, onset_s, onset_s + 1, 0.5, 0.75)


def test_the_tree_puts_each_sound_below_the_nearest_that_was_found():
    events = [
        event("Animal", "/m/0jbk", 1, 0.0),
        event("Human sounds", "/m/0dgw9r", 1, 0.0),
        event("Speech", "/m/09x0r", 3, 0.0),  # Human voice, its parent, was not asked for
        event("Dog", "/m/0bt9lr", 3, 1.0),
        event("Dog", "/m/0bt9lr", 3, 5.0),
    ]
    rows = outcome.rows(events)
    assert [(row.name, row.depth) for row in rows] == [("Human sounds", 0), ("Speech", 1), ("Animal", 0), ("Dog", 1)]
    assert rows[3].spans == [(1.0, 2.0, 0.75), (5.0, 6.0, 0.75)]
    assert {row.number for row in rows} == {None}


def test_the_tree_lists_classes_in_the_order_asked_for_and_silent_ones_too():
    stems = [
        outcome.StemFile("Speech", None, "/m/09x0r", Path("Speech.wav")),
        outcome.StemFile("Dog", None, "/m/0bt9lr", Path("Dog.wav")),
    ]
    rows = outcome.rows([event("Dog", "/m/0bt9lr", None, 0.0)], stems)
    assert [(row.name, row.depth, row.number, len(row.spans)) for row in rows] == [
        ("Dog", 0, 1, 1),
        ("Speech", 0, 0, 0),
    ]


def test_a_port_in_use_and_a_missing_library_are_told_in_one_sentence(monkeypatch):
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1, port {port}: cannot listen there .*in use.*--port"):
            serve("tiny", "127.0.0.1", port, Limits())
    with pytest.raises(ValueError, match="ports run from 0 to 65535"):
        serve("tiny", "127.0.0.1", 70_000, Limits())
    with pytest.raises(ValueError, match="cannot listen there"):
        serve("tiny", "no.such.host.invalid", 0, Limits())
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ValueError, match=r"needs FastAPI, .*pip install 'uss-jax\[demo\]'"):
        serve("tiny", "127.0.0.1", 0, Limits())


def test_importing_the_package_brings_neither_fastapi_nor_jax():
    code = "import sys, uss_jax.demo; print(sorted({'fastapi', 'jax', 'uvicorn', 'librosa'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_process_and_removes_all_files(tmp_path, number):
    server, _ = start(tmp_path, "tiny")
    wait_for(lambda: list(tmp_path.iterdir()))
    time.sleep(0.3)
    server.send_signal(number)
    server.communicate(timeout=10)  # ends when the process with the model has let go of its output, too
    assert list(tmp_path.iterdir()) == []
    assert server.returncode == (-signal.SIGINT if number == signal.SIGINT else 128 + signal.SIGTERM)


@pytest.mark.slow
def test_an_unknown_model_ends_the_server(tmp_path):
    server, _ = start(tmp_path, "tny")
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 1
    assert "ValueError: tny: neither a known model" in errors
    assert list(tmp_path.iterdir()) == []
