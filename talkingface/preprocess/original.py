"""The source files of a clip: recorded with its artefacts, so that a changed file is noticed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkingface.clips.layouts import ClipItem
from talkingface.errors import MediaError
from talkingface.files import file_sha256


def describe_source(item: ClipItem, folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Path, size, time and hash of the source files; the stored hashes are taken over while sizes and times agree.

    Raises:
        MediaError: a source file is missing or empty.
    """
    for path in _files(item).values():
        if path is not None and not path.is_file():
            raise MediaError(f"{path}: the file does not exist")
        if path is not None and path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty")
    if known.get("sha256") and same_stat(item, known):
        return {**known, "path": _relative(item.video, folder)}
    source: dict[str, Any] = {}
    for prefix, path in _files(item).items():
        if path is None:
            continue
        stat = path.stat()
        source |= {
            prefix.rstrip("_") or "path": _relative(path, folder),
            f"{prefix}size": stat.st_size,
            f"{prefix}mtime_ns": stat.st_mtime_ns,
            f"{prefix}sha256": file_sha256(path),
        }
    return source


def same_stat(item: ClipItem, source: Mapping[str, Any]) -> bool:
    """Whether size and modification time of the source files are the stored ones."""
    return all(_same(path, prefix, source) for prefix, path in _files(item).items())


def _same(path: Path | None, prefix: str, source: Mapping[str, Any]) -> bool:
    if path is None:
        return f"{prefix}size" not in source
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (source.get(f"{prefix}size"), source.get(f"{prefix}mtime_ns"))


def _files(item: ClipItem) -> dict[str, Path | None]:
    """The files of a clip by the front of their keys in `source` of `clip.json`."""
    return {"": item.video, "audio_": item.audio, "landmarks_": item.landmarks}


def _relative(path: Path, folder: Path) -> str:
    """Path of a source as seen from its clip folder, so that a data set can be moved as a whole."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
