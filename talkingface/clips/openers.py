"""One opener for whatever is to speak: a video, a picture, or what a model has registered, a cartoon puppet say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from talkingface.clips.source import Source
from talkingface.errors import DataError, MediaError
from talkingface.media.info import MediaInfo
from talkingface.media.probe import probe


class SourceKind(NamedTuple):
    """A kind of sources of a model's own.

    Attributes:
        name: what `accepts` of the model lists.
        what: for messages: what the user gives.
        belongs: whether a path, of a file or folder that is there, is one.
        picture: its picture, whose size and rate count.
        opened: the source, for a path and a rate.
    """

    name: str
    what: str
    belongs: Callable[[Path], bool]
    picture: Callable[[Path], Path]
    opened: Callable[[Path, float], Source]


KINDS: dict[str, SourceKind] = {}
"""Registered kinds by name."""


def register_source(kind: SourceKind) -> SourceKind:
    """Make a kind of sources known; whoever registers it again replaces it."""
    KINDS[kind.name] = kind
    return kind


def open_source(
    path: Path,
    accepts: Sequence[str],
    rate: Callable[[MediaInfo], float],
    name: str,
    landmarks: Path | None = None,
) -> Source:
    """Open whatever a model takes.

    Args:
        path: video, picture, or what one of its own kinds is made of.
        accepts: kinds that it takes.
        rate: at how many frames per second it answers, given what its picture or video is.
        name: of the model, for messages.
        landmarks: landmark file of a video or picture.

    Raises:
        MediaError: missing, damaged, or without a picture.
        DataError: a kind that the model does not take, or one that needs no landmark file.
    """
    own = [KINDS[kind] for kind in accepts if kind in KINDS]
    for kind in own if path.exists() else ():
        if kind.belongs(path):
            if landmarks is not None:
                raise DataError(f"{landmarks}: {path} is a {kind.name} and has its points; leave out --landmarks")
            return kind.opened(path, rate(probe(kind.picture(path))))
    if path.is_dir() and own:
        raise MediaError(f"{path}: is a folder; give a video, a picture, or {' or '.join(kind.what for kind in own)}")
    info = probe(path)
    found = "picture" if info.is_image else "video"
    if info.has_video and found not in accepts:
        raise DataError(f"{path}: is a {found}; {name} takes a {' or a '.join(accepts)}")
    return Source.from_path(path, rate(info), landmarks)
