"""A child that looks at uploads: whether they are what they should be, and within the limits of the server.

Somebody's file meets native code here for the first time; if that ends the process, the upload was no good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkingface.clips.source import Audio
from talkingface.errors import MediaError, TalkingFaceError
from talkingface.media import FPS, count_frames, probe
from talkingface.serving.child import Answer, Line

try:
    import resource
except ImportError:  # Windows
    resource = None

_MOST_MEMORY = 3 * 2**30
"""Bytes that decoding may take: hours of sound fit into a small file, and decoded they would not fit here."""

_ANY_SOURCE = {"least_pixels": 0, "most_pixels": math.inf, "most_source_seconds": math.inf}


def make_looker(limits: dict[str, Any]) -> Answer:
    """What the child answers with; `limits` are the keys of `ServeConfig`."""
    if resource is not None:
        with _as_may_be():
            resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))

    def answer(question: dict[str, Any], line: Line) -> dict[str, Any]:
        """Look at the `source`, the `audio`, or both; a source that is not `limited` is the server's own."""
        found: dict[str, Any] = {}
        if "source" in question:
            own = limits if question.get("limited", True) else _ANY_SOURCE
            found |= _named("source", question["source"], lambda path: look_at_source(path, own, question["accepts"]))
        if "audio" in question:
            found |= _named("audio", question["audio"], lambda path: look_at_audio(path, limits))
        return found

    return answer


@contextmanager
def _as_may_be() -> Iterator[None]:
    """Within: a limit that this system or whoever started us does not let be set stays as it is."""
    try:
        yield
    except (ValueError, OSError):
        return


def _named(field: str, path: str, look: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Look at a file, and speak of it by the name of its field: the client knows nothing of our folders."""
    try:
        return look(Path(path))
    except TalkingFaceError as error:
        raise MediaError(str(error).replace(path, field)) from None
    except MemoryError:
        raise MediaError(f"{field}: takes more memory than this server gives; send a shorter or smaller file") from None


def look_at_source(path: Path, limits: dict[str, Any], accepts: list[str]) -> dict[str, Any]:
    """Whether a face may be in this file, which is read to its end.

    Raises:
        MediaError: it is damaged, of another kind, too large, too small or too long.
    """
    info = probe(path)
    if not info.has_video:
        raise MediaError(f"{path}: has sound but no picture; send a video or a picture")
    kind = "picture" if info.is_image else "video"
    if kind not in accepts:
        raise MediaError(f"{path}: is a {kind}; this model takes a {' or a '.join(accepts)}")
    pixels = info.width * info.height
    if not limits["least_pixels"] <= pixels <= limits["most_pixels"]:
        raise MediaError(
            f"{path}: has {info.width} x {info.height} = {pixels} pixels; this server takes {limits['least_pixels']} to"
            f" {limits['most_pixels']}"
        )
    _check_seconds(path, info.duration, limits["most_source_seconds"])
    frames = count_frames(path, FPS)
    _check_seconds(path, frames / FPS, limits["most_source_seconds"])
    return {"kind": kind, "width": info.width, "height": info.height, "source_frames": frames}


def look_at_audio(path: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Whether a voice may be in this file, which is decoded to its end.

    Raises:
        MediaError: it is damaged, silent or too long.
    """
    info = probe(path)
    if info.has_audio:
        _check_seconds(path, info.duration, limits["most_audio_seconds"])
    audio = Audio.load(path)
    _check_seconds(path, audio.duration, limits["most_audio_seconds"])
    return {"seconds": audio.duration, "frames": audio.n_frames()}


def _check_seconds(path: Path, seconds: float, most: float) -> None:
    if seconds > most:
        raise MediaError(f"{path}: lasts {seconds:.1f} s; {most:g} s are the most that this server takes")
