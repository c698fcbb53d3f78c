"""What goes over the wire, with examples for OpenAPI."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_EXAMPLE_ID = "3f2a7c0c5c1b4c0f9a3a0e6b7d1c2e4f"


class Links(BaseModel):
    """Where the parts of a job are."""

    self: str = Field(description="the job itself")
    result: str | None = Field(None, description="its video, once it is done")


class JobAnswer(BaseModel):
    """A job and how far it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _EXAMPLE_ID,
                    "model": "IPLAP",
                    "state": "running",
                    "progress": 0.4,
                    "frames": 100,
                    "position": 0,
                    "seconds_left": 12.5,
                    "created": "2026-11-28T12:00:00+00:00",
                    "expires": None,
                    "error": None,
                    "links": {"self": f"/v1/jobs/{_EXAMPLE_ID}", "result": None},
                }
            ]
        }
    )

    id: str
    model: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "expired"]
    progress: float = Field(description="share of the frames that are made, 0 to 1")
    frames: int = Field(description="of the whole video")
    position: int = Field(description="jobs that wait before this one; 0 for one that does not wait")
    seconds_left: float | None = Field(description="estimate; null as long as nothing was made with this model")
    created: str = Field(description="ISO 8601, UTC")
    expires: str | None = Field(description="when the video of a job that is done goes, at the latest")
    error: str | None = Field(description="why it failed")
    links: Links


class AvatarAnswer(BaseModel):
    """A face that is kept for streams."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _EXAMPLE_ID,
                    "model": "IPLAP",
                    "kind": "video",
                    "links": {"self": f"/v1/avatars/{_EXAMPLE_ID}", "speech": f"/v1/avatars/{_EXAMPLE_ID}/speech"},
                }
            ]
        }
    )

    id: str
    model: str
    kind: str = Field(description="video or picture")
    links: dict[str, str] = Field(description="the face itself, and where its speech is posted")


class ModelAnswer(BaseModel):
    """A model that can be asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "IPLAP",
                    "model": "IPLAP",
                    "stage": "render",
                    "accepts": ["video", "picture"],
                    "licence": "",
                    "default": True,
                }
            ]
        }
    )

    name: str = Field(description="by which it is asked for")
    model: str = Field(description="which kind of model it is")
    stage: str = Field(description="stage of training that its weights come from")
    accepts: list[str] = Field(description="kinds of sources")
    licence: str = Field(description="what limits the use of what it makes; empty: nothing known")
    default: bool = Field(description="whether it is taken where none is named")


class Health(BaseModel):
    """Whether the server can work."""

    status: Literal["ok", "ill"]
    workers: int
    queued: int
    running: int


class Problem(BaseModel):
    """Why something was refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "audio: lasts 600.0 s; 120 s are the most"}]})

    error: str


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for OpenAPI."""
    about = {
        401: "the bearer token is missing or wrong",
        404: "there is no such job",
        408: "the upload took too long",
        409: "the job is not done",
        410: "the video is no longer there",
        413: "the upload is larger than this server takes",
        422: "a file is damaged, of the wrong kind or beyond a limit; the text names the field",
        429: "the queue is full; Retry-After says when to ask again",
        503: "the server cannot work now; Retry-After says when to ask again",
    }
    return {code: {"model": Problem, "description": about[code]} for code in codes}
