"""The first tab of the page: what happens to a face and a voice that were dropped there. It knows no Gradio."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from talkingface.errors import OutputError
from talkingface.serving.folder import remove
from talkingface.serving.job import ENDED, Job
from talkingface.serving.service import Busy, Service, Unfit

_LOOK_SECONDS = 0.25


class NotMade(Exception):
    """Why there is no video, in words for whoever sits before the page."""


class Step(NamedTuple):
    """How far a video is: the share that is made, words, and its file once it is there."""

    share: float
    words: str
    video: Path | None = None


def speak(
    service: Service, model: str | None, face: str | None, voice: str | None, visible_mark: bool
) -> Iterator[Step]:
    """Make a video; whoever stops listening ends the job.

    Args:
        service: what does the work.
        model: served name.
        face: file that was dropped.
        voice: file that was dropped or recorded.
        visible_mark: write SYNTHETIC into the frames.

    Raises:
        NotMade: with the reason.
    """
    if not face:
        raise NotMade("There is no face yet: drop a video or a picture of one.")
    if not voice:
        raise NotMade("There is no voice yet: drop a sound file or record one.")
    job = _submitted(service, model, Path(face), Path(voice), visible_mark)
    try:
        while job.state not in ENDED:
            yield _waiting(service, job)
            time.sleep(_LOOK_SECONDS)
            job = service.find(job.id) or job
    finally:
        if job.state not in ENDED:
            service.remove(job)
    if job.state != "done":
        raise NotMade(_in_words(job.error or f"the job is {job.state}"))
    yield Step(1.0, f"Done: {job.frames} frames.", service.result(job))


def _submitted(service: Service, model: str | None, face: Path, voice: Path, visible_mark: bool) -> Job:
    kept: list[Path] = []
    try:
        for each in (face, voice):
            kept.append(service.folder.new_upload())
            shutil.copyfile(each, kept[-1])
        return service.submit(model, *kept, visible_mark=visible_mark)
    except Unfit as error:
        raise NotMade(_in_words(str(error))) from None
    except Busy as busy:
        raise NotMade(f"Too many videos are waiting; try again in {busy.seconds:.0f} seconds.") from None
    except (OSError, OutputError):
        for path in kept:
            remove(path)
        raise NotMade("The server cannot store anything now; tell whoever runs it that its disk may be full.") from None


def _waiting(service: Service, job: Job) -> Step:
    left = service.dispatcher.seconds_left(job)
    about = "" if left is None else f", about {left:.0f} s left"
    if job.state == "queued":
        ahead = len(service.store.ahead(job.id))
        return Step(0.0, f"Waiting, {ahead} before it{about}" if ahead else f"Waiting for the video before it{about}")
    progress = service.dispatcher.running.get(job.id)
    if progress is None or not progress.done:
        return Step(0.0, f"Looking at the face{about}")
    return Step(progress.done / max(1, progress.total), f"Frame {progress.done} of {progress.total}{about}")


def _in_words(error: str) -> str:
    """An error of the server, which speaks of the fields of a request, for the page."""
    for field, words in (("source: ", "The face: "), ("audio: ", "The voice: ")):
        if error.startswith(field):
            return words + error.removeprefix(field)
    return error[:1].upper() + error[1:]
