"""Asking a media file what it contains: header and first frame. The facts themselves are in `media.info`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.errors import MediaError
from talkingface.media.demux import first_frame
from talkingface.media.info import (
    _DAMAGED,
    _DECLARING_FORMATS,
    MediaInfo,
    audio_stream,
    check_complete,
    corrupt_image,
    declared_seconds,
    is_photo_container,
    is_still,
    open_media,
    source_fps,
    video_stream,
)
from talkingface.media.pixels import check_jpeg_end, read_photo
from talkingface.media.shape import shape_of

if TYPE_CHECKING:
    from av.container import InputContainer

LONGEST_SIDE = 32767
"""Pixels; MediaPipe ends the process at a picture with a longer one."""

MOST_PIXELS = 2**27
"""Of a picture: 400 MB as RGB, of which several copies are at work at once."""


def probe(path: str | Path) -> MediaInfo:
    """Read the header and the first frame of a file.

    Raises:
        MediaError: If the file is missing, empty, truncated, or holds neither picture nor sound.
    """
    path = Path(path)
    with open_media(path) as container:
        return describe(container, path)


def describe(container: InputContainer, path: Path) -> MediaInfo:
    """`probe` on an open container; reads up to the first video frame."""
    video, audio = video_stream(container), audio_stream(container)
    if video is None and audio is None:
        raise MediaError(f"{path}: holds neither picture nor sound; give a video, sound or image file")
    facts: dict[str, Any] = {"path": path, "is_image": video is not None and is_still(container)}
    if audio is not None:
        facts |= {"has_audio": True, "sample_rate": audio.codec_context.sample_rate or 0}
        facts |= {"channels": audio.codec_context.channels or 0, "duration": declared_seconds(container, audio)}
    if video is not None:
        frame = first_frame(container, path, video)
        if frame is None:
            raise corrupt_image(path) if facts["is_image"] else MediaError(f"{path}: {_DAMAGED}")
        _check_size(path, frame.height, frame.width)
        if is_photo_container(container):
            height, width = read_photo(container, path).shape[:2]
        else:
            height, width = shape_of(container, path, video, frame).size
        facts |= {"has_video": True, "width": width, "height": height}
        if facts["is_image"]:
            # Decoders fill up what is missing at the end of a JPEG with grey, and report nothing.
            check_jpeg_end(path)
        else:
            facts |= {"fps": source_fps(video), "duration": declared_seconds(container, video)}
            _check_index(container, video, path, facts["duration"])
    return MediaInfo(**facts)


def _check_size(path: Path, height: int, width: int) -> None:
    if max(height, width) > LONGEST_SIDE or height * width > MOST_PIXELS:
        raise MediaError(
            f"{path}: is {width} x {height} pixels; {LONGEST_SIDE} along a side and {MOST_PIXELS // 10**6} million in"
            " all are the most that can be worked on, so make it smaller"
        )


def _check_index(container: InputContainer, stream: Any, path: Path, seconds: float) -> None:
    """Find a file cut behind its index without reading it: the index points past the end."""
    entries = getattr(stream, "index_entries", None)
    if not entries or not _DECLARING_FORMATS & {"mov", "mp4"} & set(container.format.name.split(",")):
        return
    size = path.stat().st_size
    inside = sum(entry.pos + entry.size <= size for entry in entries)
    check_complete(container, path, seconds, seconds * inside / len(entries))
