"""Routes of streams: a face is uploaded once, then it says what it hears while that is still arriving."""

from __future__ import annotations

import asyncio
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, File, Form, HTTPException, Query, Request, Response, UploadFile
from starlette.types import Receive, Scope, Send

from talkingface.serving.api import Intake, prefix_of
from talkingface.serving.avatars import Avatar
from talkingface.serving.child import Refused, Stopped, TimeLimit
from talkingface.serving.folder import remove
from talkingface.serving.guard import busy_answer, refusal
from talkingface.serving.schemas import AvatarAnswer, problems
from talkingface.serving.service import Busy, Service
from talkingface.serving.session import Gone, Session
from talkingface.workers import WorkerDied

STREAMS = "/v1/avatars/"
"""Begin of paths whose bodies may take as long as somebody speaks."""

_LOOK_SECONDS = 0.05


def live_routes(service: Service) -> APIRouter:
    """The routes below `/v1/avatars`."""
    router, intake = APIRouter(tags=["streams"]), Intake(service)

    @router.post(
        "/v1/avatars", status_code=201, response_model=AvatarAnswer, responses=problems(401, 408, 413, 422, 503)
    )
    async def post_avatar(
        request: Request,
        source: Annotated[UploadFile, File(description="video or picture of a face")],
        model: Annotated[str | None, Form(description="name of a model, see /v1/models")] = None,
    ) -> AvatarAnswer:
        """Keep a face for streams."""
        avatar = await intake.run(request, _keep, service, intake, source, model)
        if await request.is_disconnected():  # nobody knows its name, and it would push out those of others
            service.avatars.remove(avatar)
        return _shown(avatar, request)

    @router.get("/v1/avatars/{avatar_id}", response_model=AvatarAnswer, responses=problems(401, 404))
    def get_avatar(avatar_id: str, request: Request) -> AvatarAnswer:
        """What is known of a face."""
        return _shown(_found(service, avatar_id), request)

    @router.delete("/v1/avatars/{avatar_id}", status_code=204, responses=problems(401, 404))
    def delete_avatar(avatar_id: str) -> None:
        """Remove a face."""
        service.avatars.remove(_found(service, avatar_id))

    @router.post(
        "/v1/avatars/{avatar_id}/speech",
        response_class=Response,
        responses={
            200: {"content": {"video/mp4": {}}, "description": "the film, in fragments"},
            **problems(401, 404, 422, 503),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "16-bit PCM, little-endian, mono; it may arrive while the answer is sent",
                "content": {"audio/pcm": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def post_speech(
        avatar_id: str,
        sample_rate: Annotated[int, Query(ge=8000, le=96000, description="of the sound, Hz")] = 16000,
        visible_mark: Annotated[bool, Query(description="write SYNTHETIC into the frames")] = False,
    ) -> Response:
        """The face says what it hears, with the first frames before the voice has ended."""
        avatar = await to_thread.run_sync(_found, service, avatar_id)
        return SpeechAnswer(service, avatar, sample_rate, visible_mark)

    return router


def _keep(service: Service, intake: Intake, source: UploadFile, model: str | None) -> Avatar:
    wanted = service.model(model)
    upload = intake.keep(source)
    try:
        found = service.look(source=str(upload.absolute()), accepts=list(wanted.accepts))
        return service.avatars.add(upload, wanted.name, found["kind"])
    finally:
        remove(upload)


def _found(service: Service, avatar_id: str) -> Avatar:
    avatar = service.avatars.find(avatar_id)
    if avatar is None or avatar.model not in service.models:
        raise HTTPException(404, "there is no such avatar; those that were not used for long have gone")
    return avatar


def _shown(avatar: Avatar, request: Request) -> AvatarAnswer:
    here = f"{prefix_of(request)}/v1/avatars/{avatar.id}"
    return AvatarAnswer(
        id=avatar.id, model=avatar.model, kind=avatar.kind, links={"self": here, "speech": f"{here}/speech"}
    )


class SpeechAnswer(Response):
    """Answers with a film while it still reads the sound that the film is made from.

    Starlette's own streams would read the rest of the request for themselves, to see whether the client has gone.
    """

    def __init__(self, service: Service, avatar: Avatar, sample_rate: int, visible_mark: bool) -> None:
        super().__init__(media_type="video/mp4")
        self._service, self._avatar = service, avatar
        self._sample_rate, self._visible_mark = sample_rate, visible_mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the film, or why there is none."""
        settings = self._service.settings
        session = Session(
            self._avatar.model,
            self._service.avatars.file(self._avatar),
            self._sample_rate,
            self._visible_mark,
            settings.most_audio_seconds,
            settings.stall_seconds,
        )
        feeding = asyncio.create_task(_feed(session, receive))
        try:
            refused = await self._send_film(session, send)
            if refused is not None:
                await refused(scope, receive, send)
        finally:
            session.leave()
            feeding.cancel()

    async def _send_film(self, session: Session, send: Send) -> Response | None:
        """Send it; or the answer where nothing of it can be sent."""
        begun = False
        try:
            await self._wait_for_worker(session)
            async for piece in session.pieces():
                if not begun:
                    begun = True
                    headers = [(b"content-type", b"video/mp4"), (b"cache-control", b"no-store")]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Gone:
            return None
        except Busy as busy:
            return busy_answer(busy, 503)
        except (Refused, Stopped, TimeLimit, WorkerDied) as error:
            if not begun:
                ours = not isinstance(error, Refused) or error.ours
                return refusal(
                    503 if ours else 422, str(error) or "the server ends", {"Retry-After": "10"} if ours else None
                )
            raise  # closes the connection in the middle of a chunk: the client sees that the film is not whole
        if not begun:
            return refusal(422, "no sound came")
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None

    async def _wait_for_worker(self, session: Session) -> None:
        """Wait for a free worker process.

        Raises:
            Busy: there is none for some time.
            Gone: nobody waits any more.
        """
        self._service.dispatcher.speak(session)
        seconds = self._service.settings.stall_seconds
        for _ in range(int(seconds / _LOOK_SECONDS)):
            if session.began.is_set():
                return
            if session.gone.is_set() and self._service.dispatcher.withdraw(session):
                raise Gone
            await asyncio.sleep(_LOOK_SECONDS)
        if not self._service.dispatcher.withdraw(session):
            return  # it began just now
        raise Busy("every device is at work; try again later", seconds)


async def _feed(session: Session, receive: Receive) -> None:
    """Hand the body of a request on while it arrives; a client that goes ends the stream."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            session.leave()
            return
        if sound := message.get("body", b""):
            await session.hear(sound)
        if not message.get("more_body", False):
            await session.hear(b"")
