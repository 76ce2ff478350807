"""A file and what is to be taken out of it, as they arrive in a form."""

import contextlib
import dataclasses
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from uss_jax import targets

FIELD_BYTES = 100_000  # of a form, beside the file
FIELDS = 64
LONGEST_TITLE = 200


class TooLargeError(ValueError):
    """A file has more bytes than are taken."""


@dataclasses.dataclass(frozen=True)
class Upload:
    """What a form says beside the file.

    Attributes:
      title: the user's name of the file, to be shown.
      levels, classes: that are asked for, one of them empty.
    """

    title: str
    levels: tuple[int, ...]
    classes: tuple[str, ...]


async def receive(request: Request, path: Path, most_bytes: int) -> Upload:
    """Stores the `file` of a form under a path, and returns its `levels` or `classes` and its `title`.

    Raises:
      TooLargeError: the file has more bytes.
      ValueError: the form has no file, or asks for what there is not.
    """
    async with _form(request, most_bytes) as form:
        levels, classes = wanted(form)
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ValueError("the form holds no file")
        await run_in_threadpool(_store, file.file, path)
        return Upload(shown(str(form.get("title", file.filename))), levels, classes)


def wanted(form: FormData) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The levels and classes that a form asks for, one of them empty.

    Raises:
      ValueError: it asks for both, or for what there is not.
    """
    levels = [str(level) for level in form.getlist("levels")]
    classes = [str(name) for name in form.getlist("classes")]
    if classes and levels:
        raise ValueError("ask for levels or for classes")
    if classes:
        return (), tuple(target.name for target in targets.of_classes(classes))
    wrong = [level for level in levels if not level.isdecimal()]
    if wrong:
        raise ValueError(f"level {wrong[0]!r}: expected a number")
    numbers = tuple(int(level) for level in levels) or (1, 2, 3)
    targets.of_levels(numbers)
    return numbers, ()


def shown(name: str) -> str:
    """A file's name as it is shown: without folders, controls, and no longer than a title may be."""
    printable = "".join(character for character in name if character.isprintable())
    return PurePosixPath(printable.replace("\\", "/")).name[:LONGEST_TITLE] or "recording"


@contextlib.asynccontextmanager
async def _form(request: Request, most_bytes: int) -> AsyncIterator[FormData]:
    """The form of a request. Its bytes are counted as they come, for what a request says of its length may be wrong."""

    async def counted() -> AsyncGenerator[bytes, None]:
        count = 0
        async for piece in request.stream():
            count += len(piece)
            if count > most_bytes + FIELD_BYTES:
                raise TooLargeError(f"the file is larger than {most_bytes / 1e6:g} MB, the most taken here")
            yield piece

    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ValueError("expected a form with a file (multipart/form-data)")
    try:
        form = await MultiPartParser(request.headers, counted(), max_files=1, max_fields=FIELDS).parse()
    except MultiPartException as error:
        raise ValueError(f"the form is not readable ({error.message.rstrip('.')})") from error
    try:
        yield form
    finally:
        await form.close()


def _store(file: BinaryIO, path: Path) -> None:
    with path.open("wb") as stored:
        shutil.copyfileobj(file, stored)
