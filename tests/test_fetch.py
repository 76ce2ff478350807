"""Downloads against a real server on this machine that cuts connections, changes files and offers wrong ones."""

import hashlib
import random
import re
import shutil
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from download_site import CONTENT, Site

from uss_jax import cli, model_dir
from uss_jax.pytorch import checkpoints, convert, fetch
from uss_jax.pytorch.fetch import Released, Remote

OTHER = random.Random(1).randbytes(2000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TINY = Path(model_dir.__file__).parent / "bundled" / "tiny"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(fetch, "CHUNK_BYTES", 100)
    with Site() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.finished.set()
        server.shutdown()


def unused_url():
    """On a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/a.pth"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refusal(remote, folder, about):
    """What `download` says where it fails: one sentence about the URL or the file, which is not there then."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(about))}: ") as raised:
        fetch.download(remote, folder)
    assert "\n" not in str(raised.value)
    assert remote.name not in names(folder)
    return str(raised.value)


# The catalogue


@pytest.mark.parametrize("released", fetch.RELEASED.values(), ids=fetch.RELEASED)
def test_a_released_model_has_a_safe_address_and_a_plain_name(released):
    assert released.file.url.startswith("https://")
    assert released.file.sha256 is None or re.fullmatch("[0-9a-f]{64}", released.file.sha256)
    assert released.file.size is None or released.file.size > 1_000_000
    assert released.part in ("separator", "tagger", "sed")
    assert re.fullmatch(r"[A-Za-z0-9][\w=,.]*\.(pth|ckpt)", released.file.name)  # so it stays in its folder
    assert released.about


def test_the_name_of_a_file_is_the_last_part_of_its_address_without_escapes():
    remote = Remote("https://zenodo.org/record/3987831/files/Cnn14_mAP%3D0.431.pth?download=1")
    assert remote.name == "Cnn14_mAP=0.431.pth"


# What arrives


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("pinned", [True, False])
def test_a_whole_file_is_fetched_once_and_then_found(site, tmp_path, framing, pinned):
    site.framing = framing
    remote = Remote(site.url, len(CONTENT), SHA256) if pinned else Remote(site.url)
    for _ in range(2):
        path = fetch.download(remote, tmp_path / "deep" / "folder")
        assert path == tmp_path / "deep" / "folder" / "a=1.pth"
        assert path.read_bytes() == CONTENT
        assert names(path.parent) == ["a=1.pth"]
        assert site.asked() == [None]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_cut_connection_is_taken_up_again(site, tmp_path, framing):
    """More often than there are tries, for each brings something."""
    site.framing, site.ends = framing, [300, 100, 0, 200, 100, 100, 100, 400]
    assert len(site.ends) > fetch.TRIES
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == CONTENT
    missing = [f"bytes={start}-" for start in (300, 400, 400, 600, 700, 800, 900, 1300)]
    assert site.asked() == [None, *missing]  # nothing that came is asked for again
    assert {headers["If-Range"] for headers in site.requests[1:]} == {'"one"'}
    assert names(tmp_path) == ["a=1.pth"]


def test_a_connection_that_falls_silent_is_given_up_and_taken_up_again(site, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_S", 1.0)
    site.stalls, site.ends = True, [300]
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.asked() == [None, "bytes=300-"]


def test_an_end_that_only_the_known_size_tells_is_noticed(site, tmp_path):
    site.framing, site.ends = "close", [300]
    assert fetch.download(Remote(site.url, len(CONTENT)), tmp_path).read_bytes() == CONTENT
    assert site.asked() == [None, "bytes=300-"]


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_a_file_whose_version_is_not_known_begins_anew(site, tmp_path, etag):
    """A weak ETag is none: it does not promise the same bytes."""
    site.etag, site.ends = etag, [300]
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.asked() == [None, None]


def test_a_server_that_sends_no_parts_is_heard_from_the_beginning(site, tmp_path):
    site.ranges, site.ends = False, [300]
    assert fetch.download(Remote(site.url, len(CONTENT), SHA256), tmp_path).read_bytes() == CONTENT
    assert site.asked() == [None, "bytes=300-"]
    assert names(tmp_path) == ["a=1.pth"]


def fail(site, folder):
    """Ends a download for good after 700 bytes, and returns what was said."""
    site.ends = [700] + [0] * fetch.TRIES
    return refusal(Remote(site.url), folder, site.url)


def test_a_download_that_failed_goes_on_where_it_ended(site, tmp_path):
    said = fail(site, tmp_path)
    assert "the 700 bytes so far are kept" in said
    assert site.asked() == [None] + ["bytes=700-"] * fetch.TRIES
    assert (tmp_path / "a=1.pth.part").read_bytes() == CONTENT[:700]

    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.asked()[1 + fetch.TRIES :] == ["bytes=700-"]
    assert names(tmp_path) == ["a=1.pth"]


def test_a_part_that_has_all_its_bytes_is_not_fetched_again(site, tmp_path):
    (tmp_path / "a=1.pth.part").write_bytes(CONTENT)
    assert fetch.download(Remote(site.url, len(CONTENT), SHA256), tmp_path).read_bytes() == CONTENT
    assert site.requests == []
    assert names(tmp_path) == ["a=1.pth"]


@pytest.mark.parametrize(("etag", "then"), [('"two"', "bytes=500-"), (None, None)])
def test_a_file_that_changed_meanwhile_is_not_spliced(site, tmp_path, etag, then):
    """Nor is the old version's ETag kept where the new one has none."""
    fail(site, tmp_path)
    site.content, site.etag, site.ends = OTHER, etag, [500]
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == OTHER
    assert site.asked()[1 + fetch.TRIES :] == ["bytes=700-", then]
    assert [headers.get("If-Range") for headers in site.requests[-2:]] == ['"one"', etag]


# What is refused


def test_a_part_longer_than_the_file_is_dropped(site, tmp_path):
    fail(site, tmp_path)
    site.content = OTHER[:600]  # under the same ETag: the server errs
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == OTHER[:600]
    assert site.asked()[-2:] == ["bytes=700-", None]
    assert names(tmp_path) == ["a=1.pth"]


def test_a_complete_part_of_unknown_size_is_taken_as_it_is(site, tmp_path):
    (tmp_path / "a=1.pth.part").write_bytes(CONTENT)
    (tmp_path / "a=1.pth.part.etag").write_text('"one"')
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.asked() == ["bytes=2000-"]
    assert names(tmp_path) == ["a=1.pth"]


def test_a_server_that_sends_a_part_of_another_version_is_not_believed(site, tmp_path):
    fail(site, tmp_path)
    site.content, site.etag, site.checks_version = OTHER, '"two"', False
    assert fetch.download(Remote(site.url), tmp_path).read_bytes() == OTHER
    assert site.asked()[-2:] == ["bytes=700-", None]


def test_a_server_that_cuts_here_and_there_is_given_up(site, tmp_path):
    """Each try begins anew, so more bytes than in the try before are no progress."""
    site.etag, site.ends = None, [100, 200] * 20
    assert "kept" in refusal(Remote(site.url), tmp_path, site.url)
    assert len(site.requests) < 10


@pytest.mark.parametrize("arrives", [True, False])
def test_a_file_of_another_checksum_is_removed(site, tmp_path, arrives):
    """Just downloaded, or damaged since."""
    site.content = OTHER
    if not arrives:
        (tmp_path / "a=1.pth").write_bytes(OTHER)
    remote = Remote(site.url, len(CONTENT), SHA256)
    said = refusal(remote, tmp_path, tmp_path / "a=1.pth")
    assert SHA256 in said
    assert hashlib.sha256(OTHER).hexdigest() in said
    assert names(tmp_path) == []
    assert len(site.requests) == arrives

    site.content = CONTENT
    assert fetch.download(remote, tmp_path).read_bytes() == CONTENT


def test_a_file_of_another_size_is_not_even_begun(site, tmp_path):
    said = refusal(Remote(site.url, 1999), tmp_path, site.url)
    assert "2000 bytes, expected 1999" in said
    assert names(tmp_path) == []

    (tmp_path / "a=1.pth").write_bytes(CONTENT)
    assert "2000 bytes, expected 1999" in refusal(Remote(site.url, 1999), tmp_path, tmp_path / "a=1.pth")
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 503])
def test_an_error_of_the_server_is_told_at_once(site, tmp_path, status):
    site.status = status
    assert f"the server answers {status} " in refusal(Remote(site.url), tmp_path, site.url)
    assert names(tmp_path) == []
    assert len(site.requests) == 1


def test_a_server_that_cannot_be_reached_is_told_at_once(tmp_path, monkeypatch):
    tries, url, start = [], unused_url(), time.monotonic()
    opened = urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **more: tries.append(1) or opened(*args, **more))
    said = refusal(Remote(url), tmp_path, url)
    assert "cannot be downloaded" in said
    assert "kept" not in said
    assert time.monotonic() - start < 5
    assert len(tries) == 1
    assert names(tmp_path) == []


# The command line


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("USS_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def release(monkeypatch, url):
    monkeypatch.setattr(fetch, "RELEASED", {"cnn14": Released("tagger", Remote(url), "Who made it.")})


def failure(cache, capsys):
    """What `uss-jax fetch cnn14` says where it fails: one line, and no model is there."""
    assert cli.main(["fetch", "cnn14"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("uss-jax: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not list(cache.glob("models/*"))
    return said.err


def test_without_a_server_the_command_fails_in_one_line(cache, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "import_torch", lambda: None)
    url = unused_url()
    release(monkeypatch, url)
    assert url in failure(cache, capsys)


def test_without_pytorch_nothing_is_downloaded(site, cache, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    release(monkeypatch, site.url)
    assert "PyTorch" in failure(cache, capsys)
    assert site.requests == []


def test_what_is_no_pytorch_file_is_not_installed(site, cache, monkeypatch, capsys):
    pytest.importorskip("torch")
    site.content = b"<!DOCTYPE html><title>Please log in</title>"
    release(monkeypatch, site.url)
    said = failure(cache, capsys)
    assert str(cache / "downloads" / "a=1.pth") in said
    assert "the file was removed" in said  # or the next call would find it again
    assert names(cache / "downloads") == []


def test_an_unknown_name_is_wrong_usage(cache, monkeypatch, capsys):
    release(monkeypatch, unused_url())
    with pytest.raises(SystemExit) as raised:
        cli.main(["fetch", "cnn15"])
    assert raised.value.code == 2
    assert "cnn15: expected one of cnn14" in capsys.readouterr().err
    assert not cache.exists()


def test_a_fetched_model_is_installed_once_and_its_download_removed(site, cache, monkeypatch, capsys):
    """The conversion itself is tested elsewhere; here the bundled model stands for its result."""
    networks = model_dir.load("tiny")
    converted = []
    monkeypatch.setattr(checkpoints, "import_torch", lambda: None)
    monkeypatch.setattr(convert, "convert", lambda name, **parts: converted.append((name, parts)) or networks)
    release(monkeypatch, site.url)
    assert cli.main(["fetch", "cnn14"]) == 0
    assert "--model cnn14" in capsys.readouterr().out
    assert converted == [("cnn14", {"separator": None, "tagger": cache / "downloads" / "a=1.pth", "sed": None})]
    assert names(cache / "downloads") == []
    assert model_dir.find("cnn14") == cache / "models" / "cnn14"
    card = (cache / "models" / "cnn14" / "README.md").read_text(encoding="utf-8")
    assert f"| tagger | a=1.pth | 2000 | `{SHA256}` |" in card
    assert f"Who made it. From <{site.url}>." in card

    assert cli.main(["fetch", "cnn14"]) == 0
    assert "there already" in capsys.readouterr().out
    assert len(site.requests) == len(converted) == 1


def test_models_are_listed_with_where_they_are_or_how_to_get_them(cache, monkeypatch, capsys):
    release(monkeypatch, unused_url())
    shutil.copytree(TINY, cache / "models" / "mine")
    (cache / "models" / "empty").mkdir()
    assert cli.main(["models"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("== ")]
    mine = f"== mine ({cache / 'models' / 'mine'})"
    assert titles == [*(f"== {name} ({path})" for name, path in model_dir.bundled().items()), mine,
                      "== cnn14: uss-jax fetch cnn14"]  # fmt: skip
    assert model_dir.find("mine") == cache / "models" / "mine"
    assert model_dir.find("tiny") == TINY

    (cache / "models" / "mine").rename(cache / "models" / "cnn14")
    assert cli.main(["models"]) == 0
    assert "uss-jax fetch" not in capsys.readouterr().out
