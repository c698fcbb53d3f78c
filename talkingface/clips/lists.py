r"""File lists: one clip per line, brought to one form whoever wrote it.

People make lists by hand, with `find`, on Windows. `spk1/00001`, `./spk1/00001`, `spk1//00001`, `spk1\00001` and
`spk1/00001.mp4` are one clip: were they several, a clip could stand in the training and in the test list unnoticed, and
everybody would speak in the folder `.`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from talkingface.clips.held_out import warn_once
from talkingface.errors import DataError
from talkingface.stored.regular import read_bytes

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".ts")
_LONGEST_NAME = 255  # bytes of a file or folder name, on all common file systems
_LONGEST_PATH = 1024  # bytes of a name with its folders: with the root before it, what every system can take
_MOST_BYTES = 2**28  # of a list: ten million clips
_SHOWN = 5  # lines left out that are named one by one; a binary file has thousands
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

log = logging.getLogger("talkingface")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines of a list with their numbers, without blank ones and comments (`#`); any line ends, with or without a BOM.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        # A byte order mark, which Windows programs write, would become part of the first clip's name.
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot read this file list: it is not UTF-8 text (byte {error.start})") from None
    # Not `splitlines`, which also breaks at characters that names may hold.
    lines = ((number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def canonical(name: str, prefixes: tuple[str, ...] = ()) -> str:
    """A path below the data root in its one form: forward slashes, no empty or `.` parts.

    Args:
        name: as somebody wrote it.
        prefixes: folders of the layout, which do not belong to the names of clips: dropped from the front of names that
            have enough parts without them.

    Raises:
        ValueError: it names no file below the data root; the message says why.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or re.match(r"[A-Za-z]:/", name.replace("\\", "/")):
        raise ValueError("is not a clip name below the data root")
    if not parts:
        raise ValueError("names no clip")
    if _UNPRINTABLE.search(name):
        raise ValueError("holds control characters")
    if any(len(_bytes(part)) > _LONGEST_NAME for part in parts) or len(_bytes(name)) > _LONGEST_PATH:
        raise ValueError("is longer than a file name can be")
    if len(parts) > 2 and parts[0] in prefixes:
        parts = parts[1:]
    return "/".join(parts)


def split_suffix(name: str) -> tuple[str, str]:
    """A name without the suffix of a video, and the suffix as written; names may hold other dots."""
    stem, suffix = os.path.splitext(name)
    return (stem, suffix) if suffix.lower() in VIDEO_SUFFIXES else (name, "")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def leave_out(path: Path, lines: Sequence[tuple[int, str, str]]) -> None:
    """Say that lines were left out; the others are used.

    Args:
        path: the list.
        lines: their numbers, what stands there, and the reasons.
    """
    for number, name, reason in lines[:_SHOWN]:
        shown = _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", name)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        warn_once(f"{path}:{number}: left out, '{shown}' {reason}")
    if len(lines) > _SHOWN:
        warn_once(f"{path}: {len(lines) - _SHOWN} further lines are left out, which name no clip")
