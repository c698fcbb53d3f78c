"""The REST routes: jobs, models, health, figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

from talkingface.files import writing
from talkingface.serving.folder import remove
from talkingface.serving.guard import refusal
from talkingface.serving.job import Job
from talkingface.serving.metrics import Metrics
from talkingface.serving.schemas import Health, JobAnswer, Links, ModelAnswer, problems
from talkingface.serving.service import Service, Template

UPLOADS = "/v1/jobs"
"""Where jobs are posted."""

T = TypeVar("T")
_AT_ONCE = 8  # uploads that are copied or looked at; others wait without a thread of their own


def rest_routes(service: Service, metrics: Metrics) -> APIRouter:
    """The routes below `/v1`, `/healthz` and `/metrics`."""
    router = APIRouter()
    intake = Intake(service)

    @router.post(
        "/v1/jobs",
        status_code=202,
        response_model=JobAnswer,
        tags=["jobs"],
        responses=problems(401, 408, 413, 422, 429, 503),
    )
    async def post_job(
        request: Request,
        response: Response,
        source: Annotated[UploadFile, File(description="video or picture of a face")],
        audio: Annotated[UploadFile, File(description="sound or video file with a voice")],
        model: Annotated[str | None, Form(description="name of a model, see /v1/models", examples=["IPLAP"])] = None,
        visible_mark: Annotated[bool, Form(description="write SYNTHETIC into the frames")] = False,
        mute: Annotated[bool, Form(description="a video without sound")] = False,
    ) -> JobAnswer:
        """Ask for a video in which the face of `source` says what is heard in `audio`."""
        job = await intake.take(request, model, source, audio, visible_mark, mute)
        response.headers["Location"] = f"{prefix_of(request)}/v1/jobs/{job.id}"
        return shown(service, job, request)

    @router.get("/v1/jobs/{job_id}", response_model=JobAnswer, tags=["jobs"], responses=problems(401, 404))
    def get_job(job_id: str, request: Request) -> JobAnswer:
        """How far a job is."""
        return shown(service, found(service, job_id), request)

    @router.head("/v1/jobs/{job_id}/result", include_in_schema=False)
    @router.get(
        "/v1/jobs/{job_id}/result",
        tags=["jobs"],
        response_class=FileResponse,
        responses={200: {"content": {"video/mp4": {}}, "description": "the video"}, **problems(401, 404, 409, 410)},
    )
    def get_result(job_id: str) -> Response:
        """The video of a job that is done; parts of it with a Range header."""
        return result_of(service, found(service, job_id))

    @router.delete("/v1/jobs/{job_id}", response_model=JobAnswer, tags=["jobs"], responses=problems(401, 404))
    def delete_job(job_id: str, request: Request) -> JobAnswer:
        """End a job, or remove its video."""
        service.remove(found(service, job_id))
        return shown(service, found(service, job_id), request)

    @router.get("/v1/models", response_model=list[ModelAnswer], tags=["models"], responses=problems(401))
    def get_models() -> list[ModelAnswer]:
        """The models that can be asked for."""
        first = service.model(None)
        return [
            ModelAnswer(
                name=each.name,
                model=each.model,
                stage=each.stage,
                accepts=list(each.accepts),
                licence=each.licence,
                default=each is first,
            )
            for each in service.models.values()
        ]

    @router.get("/healthz", response_model=Health, tags=["server"], responses={503: {"model": Health}})
    def healthz() -> Response:
        """Whether the server can work; for whoever watches it."""
        well, counts = service.dispatcher.healthy, service.store.counts()
        health = Health(
            status="ok" if well else "ill",
            workers=len(service.workers),
            queued=counts.get("queued", 0),
            running=counts.get("running", 0),
        )
        return JSONResponse(health.model_dump(), 200 if well else 503)

    @router.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=problems(401))
    def get_metrics() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


class Intake:
    """Takes uploads into the private folder, a few at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limiter: CapacityLimiter | None = None

    async def take(
        self,
        request: Request,
        model: str | None,
        source: UploadFile | Template,
        audio: UploadFile,
        visible_mark: bool = False,
        mute: bool = False,
    ) -> Job:
        """Make a job of what was uploaded, or of a template and a voice.

        Raises:
            Unfit, Busy: it is not taken.
            HTTPException: the client has gone meanwhile.
        """
        job = await self.run(request, self._submit, model, source, audio, visible_mark, mute)
        if await request.is_disconnected():  # nobody knows its name
            await to_thread.run_sync(self._service.remove, job)
        return job

    async def run(self, request: Request, work: Callable[..., T], *given: Any) -> T:
        """Call what copies uploads and looks at them, in a thread.

        Raises:
            HTTPException: the client has gone meanwhile.
        """
        if self._limiter is None:
            self._limiter = CapacityLimiter(_AT_ONCE)  # belongs to the event loop, which runs by now
        async with self._limiter:
            if await request.is_disconnected():
                raise HTTPException(499, "the client has gone")
            return await to_thread.run_sync(work, *given)

    def _submit(
        self, model: str | None, source: UploadFile | Template, audio: UploadFile, visible_mark: bool, mute: bool
    ) -> Job:
        given, kind = source if isinstance(source, Template) else (source, None)
        kept = [self.keep(given)]
        try:
            kept.append(self.keep(audio))
        except BaseException:
            remove(kept[0])
            raise
        return self._service.submit(model, *kept, visible_mark=visible_mark, mute=mute, kind=kind)

    def keep(self, upload: UploadFile | Path) -> Path:
        """Copy an upload, or a file of the server itself, into a file whose name is ours.

        Raises:
            OutputError: the disk is full.
        """
        path = self._service.folder.new_upload()
        try:
            given = upload.open("rb") if isinstance(upload, Path) else nullcontext(upload.file)
            with given as source, writing(path), path.open("wb") as file:
                shutil.copyfileobj(source, file, 2**20)
        except BaseException:
            remove(path)
            raise
        return path


def prefix_of(request: Request) -> str:
    """What stands before all paths of this server."""
    return request.scope.get("root_path", "").rstrip("/")


def found(service: Service, job_id: str) -> Job:
    """A job by its name.

    Raises:
        HTTPException: 404.
    """
    job = service.find(job_id)
    if job is None:
        raise HTTPException(404, "there is no such job; what has long expired is forgotten")
    return job


def result_of(service: Service, job: Job) -> Response:
    """The video of a job, or why there is none."""
    path = service.result(job)
    if job.state == "done" and path.is_file():
        return FileResponse(path, media_type="video/mp4", filename=f"{job.id}.mp4")
    if job.state in ("done", "expired"):
        kept = f"{service.settings.keep_hours:g} hours, all of them in {service.settings.most_results_mb:g} MiB"
        return refusal(410, f"the video is no longer there; videos are kept for {kept}")
    if job.state == "failed":
        return refusal(409, f"the job failed: {job.error}")
    if job.state == "cancelled":
        return refusal(410, "the job was cancelled")
    return refusal(409, f"the job is {job.state}; ask again later", {"Retry-After": "1"})


def shown(service: Service, job: Job, request: Request) -> JobAnswer:
    """A job as clients see it."""
    job = service.find(job.id) or job
    progress = service.dispatcher.running.get(job.id)
    share = 1.0 if job.state in ("done", "expired") else progress.done / max(1, progress.total) if progress else 0.0
    here = f"{prefix_of(request)}/v1/jobs/{job.id}"
    left = service.dispatcher.seconds_left(job)
    expires = None if job.state != "done" or job.ended is None else job.ended + service.settings.keep_hours * 3600
    return JobAnswer(
        id=job.id,
        model=job.model,
        state=job.state,
        progress=round(share, 4),
        frames=job.frames,
        position=len(service.store.ahead(job.id)) if job.state == "queued" else 0,
        seconds_left=None if left is None else round(left, 1),
        created=_iso(job.created),
        expires=None if expires is None else _iso(expires),
        error=job.error or None,
        links=Links(self=here, result=f"{here}/result" if job.state == "done" else None),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
