"""What a job is: a face and a voice that are to become a video, and how far that has come."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "expired")
"""States that do not change any more, but that what is done expires."""


def new_id() -> str:
    """A name that nobody can guess: whoever knows it may see, fetch and remove what it names."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Job:
    """A generation that was asked for.

    Attributes:
        model: the served name of its model.
        source: file name of the face below `uploads/`; a name of ours.
        audio: file name of the voice, likewise.
        frames: of the video that is to be made.
        id: its name.
        visible_mark: whether the frames say that they are synthetic.
        mute: whether the video has no sound.
        state: how far it is.
        created: seconds since 1970, as all times here.
        began: when work on it began, None before.
        ended: when it was done, failed or cancelled, None before.
        deaths: worker processes, and servers, that were ended while they worked on it.
        error: why it failed.
    """

    model: str
    source: str
    audio: str
    frames: int
    id: str = field(default_factory=new_id)
    visible_mark: bool = False
    mute: bool = False
    state: State = "queued"
    created: float = field(default_factory=time.time)
    began: float | None = None
    ended: float | None = None
    deaths: int = 0
    error: str = ""

    @property
    def result(self) -> str:
        """File name of its video below `results/`."""
        return f"{self.id}.mp4"
