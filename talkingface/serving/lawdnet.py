"""The routes of the earlier LawDNet server, for clients that were written for it: a sound comes in, a video goes out.

Routes, fields and answers are its own; what it did with them is not: uploads get names of ours, templates are named by
the server, every request is a job in the bounded queue, errors are JSON, and the video has sound unless `?mute=1`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from talkingface.serving.api import Intake
from talkingface.serving.guard import refusal
from talkingface.serving.job import ENDED, Job
from talkingface.serving.schemas import problems
from talkingface.serving.service import Service

UPLOADS = ("/upload-audio", "/generate_video", "/generate-video")
"""Paths where sounds are posted."""

_LOOK_SECONDS = 0.2  # between two looks whether the video is done

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}, "description": "the video"},
    400: {"description": "there is no file"},
    500: {"description": "the video could not be made; the text says why"},
    **problems(404, 413, 422, 429, 503),
}

Template = Annotated[
    str | None, Form(description="name of a template of the server; the first one where none is given")
]
Model = Annotated[str | None, Form(description="name of a model, see /v1/models")]
Mute = Annotated[bool, Query(description="a video without sound")]


def lawdnet_routes(service: Service) -> APIRouter:
    """`/upload-audio` of its first server, `/generate_video` and `/generate-video` of the later ones, `/health`.

    Args:
        service: what does the work; its templates are made to speak, the first one for a client who names none.
    """
    router, intake = APIRouter(tags=["LawDNet"]), Intake(service)

    async def made(
        request: Request, sound: UploadFile | None, model: str | None, template: str | None, mute: bool
    ) -> Response:
        if sound is None:
            return refusal(400, "No file part")
        if not sound.filename:
            return refusal(400, "No selected file")
        templates = service.templates
        source = templates.get(template) if template else next(iter(templates.values()), None)
        if source is None:
            return refusal(404, "Video not found")
        job = await intake.take(request, model, source, sound, mute=mute)
        return await _answer(request, service, job)

    @router.post("/upload-audio", response_class=FileResponse, responses=_ANSWERS)
    async def upload_audio(
        request: Request,
        file: Annotated[UploadFile | None, File()] = None,
        model: Model = None,
        template: Template = None,
        mute: Mute = False,
    ) -> Response:
        """A template says what is heard in `file`."""
        return await made(request, file, model, template, mute)

    @router.post("/generate-video", response_class=FileResponse, responses=_ANSWERS, include_in_schema=False)
    @router.post("/generate_video", response_class=FileResponse, responses=_ANSWERS)
    async def generate_video(
        request: Request,
        audio: Annotated[UploadFile | None, File()] = None,
        model: Model = None,
        template: Template = None,
        mute: Mute = False,
    ) -> Response:
        """A template says what is heard in `audio`."""
        return await made(request, audio, model, template, mute)

    @router.get("/health")
    def health() -> dict[str, str]:
        """Whether the server works."""
        return {"status": "ok" if service.dispatcher.healthy else "ill"}

    return router


async def _answer(request: Request, service: Service, job: Job) -> Response:
    """The video of a job once it is done; one whose client has gone is dropped."""
    while job.state not in ENDED:
        await asyncio.sleep(_LOOK_SECONDS)
        if await request.is_disconnected():
            await to_thread.run_sync(service.remove, job)
            raise HTTPException(499, "the client has gone")
        job = await to_thread.run_sync(service.find, job.id) or job
    if job.state != "done":
        return refusal(500, job.error or f"the job is {job.state}")
    # Nobody knows its name, so it is of no use afterwards.
    forget = BackgroundTask(service.remove, job)
    return FileResponse(service.result(job), media_type="video/mp4", filename="generated.mp4", background=forget)
