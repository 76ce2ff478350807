"""The released models: where they are, how they are downloaded, and what becomes of them.

Addresses, sizes and checksums are facts published with the files (Zenodo record 3987831 for PANNs, the reference's own
catalogue for USS). A size or checksum that nobody published is None, and is then not checked.
"""

import dataclasses
import http
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from uss_jax import files, progress
from uss_jax.model_dir import Networks
from uss_jax.pytorch import convert

TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20
TRIES = 5  # in a row that bring nothing


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file to download.

    Attributes:
      url: its address; the last part is its name.
      size: in bytes, or None.
      sha256: in hexadecimal, or None.
    """

    url: str
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Of the file on the disk."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url).path.rpartition("/")[2])


@dataclasses.dataclass(frozen=True)
class Released:
    """A released model.

    Attributes:
      part: what the file is for `convert.convert`: separator, tagger or sed.
      file: the download.
      about: data, licence and published scores, for the model card.
    """

    part: str
    file: Remote
    about: str


_PANNS = "https://zenodo.org/record/3987831/files/"
_USS = "https://huggingface.co/RSNuts/Universal_Source_Separation/resolve/main/uss_material/"
_PANNS_ABOUT = (
    "PANNs (Kong et al., arXiv 1912.10211), trained on AudioSet; licence of the weights: CC BY 4.0 (Zenodo record"
    " 3987831)."
)
_USS_ABOUT = (
    "Universal Source Separation with Weakly Labelled Data (Kong et al., arXiv 2305.07447), trained on AudioSet;"
    " the reference's code is under Apache-2.0."
)
RELEASED = {
    "at_soft": Released(
        "separator",
        Remote(
            _USS + "ss_model%3Dresunet30%2Cquerynet%3Dat_soft%2Cdata%3Dfull%2Cdevices%3D8%2Cstep%3D1000000.ckpt",
            size=1_121_024_828,
        ),
        _USS_ABOUT,
    ),
    "emb": Released(
        "separator",
        Remote(_USS + "ss_model%3Dresunet30%2Cquerynet%3Demb%2Cdata%3Dbalanced%2Cdevices%3D1%2Csteps%3D1000000.ckpt"),
        _USS_ABOUT,
    ),
    "cnn14": Released(
        "tagger",
        Remote(
            _PANNS + "Cnn14_mAP%3D0.431.pth",
            size=327_428_481,
            sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
        ),
        _PANNS_ABOUT,
    ),
    "cnn14_sed": Released(
        "sed",
        Remote(
            _PANNS + "Cnn14_DecisionLevelMax_mAP%3D0.385.pth",
            size=327_428_481,
            sha256="dd3b4043a87d4ec13df8082c0fcfee3fb5084151808e47e060987a95eabdd142",
        ),
        _PANNS_ABOUT,
    ),
}


def fetch(name: str, downloads: Path) -> tuple[Networks, str]:
    """Downloads a released model and converts it.

    Args:
      name: one of `RELEASED`.
      downloads: folder for the downloaded file.

    Returns:
      The model and its card.

    Raises:
      ValueError: it cannot be downloaded, or is not what it should be.
    """
    released = RELEASED[name]
    path = download(released.file, downloads)
    parts = {"separator": None, "tagger": None, "sed": None} | {released.part: path}
    try:
        networks = convert.convert(name, **parts)
    except ValueError as error:
        if released.file.sha256 is not None:
            raise
        path.unlink()  # nothing says that it is the right file, so the next call gets it anew
        raise ValueError(f"{error}; the file was removed") from error
    about = f"{released.about} From <{released.file.url}>."
    return networks, convert.model_card(networks, {released.part: path}, about)


def download(remote: Remote, folder: Path) -> Path:
    """The file in the folder, downloaded unless it is there; what an earlier call left half done is gone on with.

    Raises:
      ValueError: the server cannot be reached or has no such file, or what it sent is not what it should be.
    """
    path = folder / remote.name
    files.make_folder(folder)
    if not path.is_file():
        _download(remote, folder / f"{remote.name}.part")
        (folder / f"{remote.name}.part").replace(path)
        (folder / f"{remote.name}.part.etag").unlink(missing_ok=True)
    found = path.stat().st_size
    if remote.size is not None and found != remote.size:
        path.unlink()
        raise ValueError(f"{path}: has {found} bytes, expected {remote.size}; it was removed")
    if remote.sha256 is not None and (digest := convert.sha256(path)) != remote.sha256:
        path.unlink()
        raise ValueError(f"{path}: has SHA-256 {digest}, expected {remote.sha256}; it was removed")
    return path


def _download(remote: Remote, part: Path) -> None:
    """Receives until the file is complete; a cut connection is taken up again where it ended."""
    failures, most = 0, _size(part)
    with progress.download(remote.name, remote.size) as show:
        while True:
            try:
                return _receive(remote, part, show)
            except (OSError, http.client.HTTPException) as error:
                failures = 0 if _size(part) > most else failures + 1
                most = max(most, _size(part))
                if failures >= TRIES or (failures and isinstance(error, urllib.error.URLError)):
                    reason = getattr(error, "reason", error)
                    if isinstance(error, urllib.error.HTTPError):
                        reason = f"the server answers {error.code} {error.reason}"
                    kept = f"; the {_size(part)} bytes so far are kept, the same command goes on" if _size(part) else ""
                    raise ValueError(f"{remote.url}: cannot be downloaded ({reason}){kept}") from error


def _receive(remote: Remote, part: Path, show: Callable[[int, int | None], None]) -> None:
    """Asks for what is missing and writes it. Raises OSError or HTTPException where not all of it comes."""
    version = part.with_name(f"{part.name}.etag")  # of the file that the bytes so far are of
    start = _size(part)
    if start and start == remote.size:
        return
    tag = version.read_text(encoding="utf-8") if start and version.is_file() else ""
    headers = {"User-Agent": "uss_jax"} | ({"Range": f"bytes={start}-", "If-Range": tag} if tag else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if not tag or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        version.unlink()  # there is nothing after what is here, or it is of another file
        if error.headers.get("Content-Range", "") == f"bytes */{start}":
            return
        raise ConnectionError("the file on the server has changed") from error
    with response:
        answer = response.headers
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if goes_on and (answer.get("ETag") != tag or not answer.get("Content-Range", "").startswith(f"bytes {start}-")):
            version.unlink()  # so that the next request is for all of it
            raise ConnectionError("the file on the server has changed")
        start = start if goes_on else 0
        length = answer.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else remote.size
        if remote.size is not None and total != remote.size:
            raise ValueError(f"{remote.url}: the server offers {total} bytes, expected {remote.size}")
        with part.open("ab" if start else "wb") as file:
            if (tag := answer.get("ETag", "")) and not tag.startswith("W/"):  # a weak one promises no equal bytes
                version.write_text(tag, encoding="utf-8")
            else:
                version.unlink(missing_ok=True)
            while chunk := response.read1(CHUNK_BYTES):
                file.write(chunk)
                show(file.tell(), total)
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
