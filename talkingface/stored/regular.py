"""The first question to any file: whether it is one, and how large it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from talkingface.errors import DataError

REMEDY = "delete it and preprocess again"


def size_of(path: str | os.PathLike[str]) -> int:
    """Bytes of a file.

    Raises:
        DataError: it is missing, or no file: opening a pipe would wait for ever, reading a device never end.
    """
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{path}: is not a file")
    return facts.st_size


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """Content of a file of at most `most` bytes.

    Raises:
        DataError: it is missing, larger, or cannot be read.
    """
    size = size_of(path)
    if size > most:
        raise DataError(f"{path}: {size:,} bytes are more than such a file can have ({most:,})")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
