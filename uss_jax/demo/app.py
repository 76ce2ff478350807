"""The page and what it asks the server for, as a FastAPI application."""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import hashlib
import importlib.resources
import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from uss_jax import audioset, results
from uss_jax.demo import outcome
from uss_jax.demo.guard import Guard
from uss_jax.demo.jobs import FullError, Job, Jobs, UnknownError
from uss_jax.demo.upload import TooLargeError, receive

SWEEP_S = 10.0
REPORT_CSP = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:; media-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


STATUS = {FullError: 503, UnknownError: 404, TooLargeError: 413, ValueError: 400}


def make_app(jobs: Jobs, model_name: str, host: str) -> FastAPI:
    """The application; its lifespan starts the jobs and closes them.

    Args:
      jobs: not yet started.
      model_name: shown.
      host: that the server listens on, the only one that requests may be for, beside this machine itself.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        jobs.start()
        sweeping = asyncio.create_task(_sweep(jobs))
        yield
        sweeping.cancel()
        await run_in_threadpool(jobs.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_middleware(Guard, host=host)
    for error, code in STATUS.items():
        app.add_exception_handler(error, functools.partial(_sentence, code))
    app.add_exception_handler(RequestValidationError, lambda request, error: _sentence(400, request, "not understood"))
    app.add_exception_handler(HTTPException, _http_sentence)
    page = importlib.resources.files("uss_jax.demo").joinpath("page.html").read_text(encoding="utf-8")
    page_headers = {"Content-Security-Policy": page_csp(page)}

    @app.get("/")
    def index() -> Response:
        return HTMLResponse(page, headers=page_headers)

    @app.get("/about")
    def about() -> dict[str, Any]:
        names = [sound.name for sound in audioset.classes()]
        return {"model": model_name, "limits": dataclasses.asdict(jobs.limits), "classes": names}

    @app.get("/class")
    def find_class(name: str) -> dict[str, Any]:
        return dataclasses.asdict(audioset.find_class(name))

    @app.post("/jobs", status_code=201)
    async def create(request: Request) -> Response:
        job = jobs.open()
        try:
            async with asyncio.timeout(jobs.limits.upload_s):
                upload = await receive(request, job.upload, jobs.limits.upload_bytes)
        except TimeoutError as error:
            jobs.remove(job)
            raise ValueError(f"the file had not arrived after {jobs.limits.upload_s / 60:g} minutes") from error
        except ClientDisconnect:
            jobs.remove(job)
            return Response(status_code=400)
        except BaseException:
            jobs.remove(job)
            raise
        job.title = upload.title
        jobs.submit(job, upload.levels, upload.classes)
        return JSONResponse(status_of(jobs, job), 201)

    @app.get("/jobs/{token}")
    def status(token: str) -> dict[str, Any]:
        return status_of(jobs, jobs.get(token))

    @app.delete("/jobs/{token}", status_code=204)
    def remove(token: str) -> None:
        jobs.remove(jobs.get(token))

    @app.get("/jobs/{token}/sounds")
    def sounds(token: str) -> dict[str, Any]:
        job = jobs.get(token)
        if job.outcome is None:
            return {"rows": outcome.rows(job.events), "seconds": None, "residual": None}
        stems = job.outcome.stems[:-1]
        return {
            "rows": outcome.rows(job.outcome.events, stems),
            "seconds": job.outcome.seconds,
            "residual": len(stems),
        }

    @app.get("/jobs/{token}/stems/{number}")
    def stem(token: str, number: int) -> Response:
        job = jobs.get(token)
        stems = _done(job).stems
        if number not in range(len(stems)):
            raise UnknownError(f"there is no stem {number}")
        name = results.file_name(f"{base_name(job)} - {stems[number].name}", ".wav")
        return FileResponse(
            stems[number].path, media_type="audio/wav", filename=name, content_disposition_type="inline"
        )

    @app.get("/jobs/{token}/stems.zip")
    def stems_zip(token: str) -> Response:
        job = jobs.get(token)
        _done(job)
        with job.zipping:
            if not job.zip.exists():
                outcome.archive(job.results, job.zip, base_name(job))
        return FileResponse(job.zip, media_type="application/zip", filename=f"{base_name(job)}.zip")

    @app.get("/jobs/{token}/report")
    def report(token: str) -> Response:
        job = jobs.get(token)
        _done(job)
        # A page of its own that can reach nothing here, for it shows what strangers wrote. In a sandbox, browsers
        # refuse what wants to keep its opener away; its opener is not told to the report anyway.
        headers = {"Content-Security-Policy": REPORT_CSP, "Cross-Origin-Opener-Policy": "unsafe-none"}
        return FileResponse(job.results / "report.html", media_type="text/html", headers=headers)

    return app


def page_csp(page: str) -> str:
    """The policy of the page: its own script and style, told by their digests, and this server."""

    def source(tag: str) -> str:
        match = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert match is not None
        return f"'sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {source('script')}; style-src {source('style')}; img-src data:;"
        " media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def status_of(jobs: Jobs, job: Job) -> dict[str, Any]:
    """What the page is told about a job again and again."""
    return {
        "id": job.token,
        "title": job.title,
        "state": job.state,
        "ahead": jobs.ahead(job),
        "share": job.share,
        "seconds_in_state": jobs.seconds_in_state(job),
        "heard": bool(job.events),
        "error": job.error,
    }


def base_name(job: Job) -> str:
    """The user's name of the file as a safe one, without its extension."""
    return results.file_name(PurePosixPath(job.title).stem)


def _done(job: Job) -> outcome.Outcome:
    if job.outcome is None:
        raise UnknownError("this is not separated yet")
    return job.outcome


def _sentence(code: int, request: Request, error: Any) -> Response:
    return JSONResponse({"error": str(error)}, code)


def _http_sentence(request: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _sweep(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await run_in_threadpool(jobs.sweep)
