"""The application: guard, routes, page, and how errors are answered."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from talkingface.errors import OutputError
from talkingface.files import is_unwritable
from talkingface.serving import api, lawdnet, live
from talkingface.serving.guard import PAGE, Guard, busy_answer, refusal
from talkingface.serving.metrics import Metrics
from talkingface.serving.page.examples import Examples
from talkingface.serving.service import Busy, Service, Unfit
from talkingface.version import __version__

_ABOUT = """Makes a face (a video or a picture) say what is heard in a sound file. Every video carries a mark in its
metadata that it is synthetic."""


class Page(NamedTuple):
    """What the page shows beside the service: inputs to try it with, and the folder of runs."""

    examples: Examples
    saved: Path


def make_app(
    service: Service,
    token: str | None = None,
    root_path: str = "",
    page: Page | None = None,
    loopback: bool = False,
) -> FastAPI:
    """The application around a service that runs.

    Args:
        service: what does the work.
        token: that clients must show; None: nobody is asked.
        root_path: prefix of all paths, where a proxy stands in front.
        page: what the page shows beside the service; None: there is no page.
        loopback: whether only this machine reaches the server.
    """
    metrics = Metrics(service)
    # The pages /docs and /redoc would load their scripts from a server on the internet.
    app = FastAPI(
        title="talkingface",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(api.rest_routes(service, metrics))
    app.include_router(live.live_routes(service))
    app.include_router(lawdnet.lawdnet_routes(service))
    if page is not None:
        app = _with_page(app, service, page, token, root_path)
    answer_errors(app)
    app.add_middleware(
        Guard,
        settings=service.settings,
        token=token,
        check_room=service.check_room,
        uploads=(api.UPLOADS, *lawdnet.UPLOADS),
        streams=live.STREAMS,
        prefix=root_path,
        loopback=loopback,
        answered=metrics.answered,
    )
    return app


def _with_page(app: FastAPI, service: Service, page: Page, token: str | None, root_path: str) -> FastAPI:
    """The application with the page, to which its root leads."""
    from talkingface.serving.page.build import mount_page  # Gradio takes seconds to import

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        return RedirectResponse(f"{api.prefix_of(request)}{PAGE}/")

    return mount_page(app, service, page.examples, page.saved, token, root_path)


def answer_errors(app: FastAPI) -> None:
    """Every error becomes `{"error": "one line"}` with a code that says whose fault it is."""

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        # FastAPI calls it the client's fault when its upload cannot be stored while it arrives.
        if isinstance(error.__cause__, OSError) and is_unwritable(error.__cause__):
            return await of_disk(request, error)
        return refusal(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def of_fields(request: Request, error: RequestValidationError) -> Response:
        wrong = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg'].lower()}" for each in error.errors()]
        return refusal(422, "; ".join(wrong))

    @app.exception_handler(Unfit)
    async def of_files(request: Request, error: Unfit) -> Response:
        return refusal(422, str(error))

    @app.exception_handler(Busy)
    async def of_queue(request: Request, error: Busy) -> Response:
        return busy_answer(error)

    @app.exception_handler(OutputError)
    async def of_disk(request: Request, error: Exception) -> Response:
        return refusal(503, "the server cannot store anything now", {"Retry-After": "60"})

    @app.exception_handler(Exception)
    async def of_ours(request: Request, error: Exception) -> Response:
        return refusal(500, "the server has failed at this request; its log says where")
