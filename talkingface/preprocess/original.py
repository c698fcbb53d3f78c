"""The source files of a clip: recorded with its artefacts, so that a changed file is noticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from talkingface.clips.layouts import ClipItem
from talkingface.errors import MediaError
from talkingface.files import file_sha256


def describe_source(item: ClipItem, folder: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Path, size, time and hash of the source; the stored hash is taken over while size and time agree.

    Raises:
        MediaError: a source file is missing or empty.
    """
    for path in filter(None, (item.video, item.audio)):
        if not path.is_file():
            raise MediaError(f"{path}: the file does not exist")
        if path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty")
    if known.get("sha256") and same_stat(item, known):
        return {**known, "path": _relative(item.video, folder)}
    stat = item.video.stat()
    source = {
        "path": _relative(item.video, folder),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_sha256(item.video),
    }
    if item.audio is not None:
        sound = item.audio.stat()
        source |= {
            "audio": _relative(item.audio, folder),
            "audio_size": sound.st_size,
            "audio_mtime_ns": sound.st_mtime_ns,
            "audio_sha256": file_sha256(item.audio),
        }
    return source


def same_stat(item: ClipItem, source: dict[str, Any]) -> bool:
    """Whether size and modification time of the source files are the stored ones."""

    def same(path: Path | None, prefix: str) -> bool:
        if path is None:
            return f"{prefix}size" not in source
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (source.get(f"{prefix}size"), source.get(f"{prefix}mtime_ns"))

    return same(item.video, "") and same(item.audio, "audio_")


def _relative(path: Path, folder: Path) -> str:
    """Path of a source as seen from its clip folder, so that a data set can be moved as a whole."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
