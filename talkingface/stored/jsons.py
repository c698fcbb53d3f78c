"""JSON that somebody may have changed by hand, or made to do harm."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from talkingface.errors import DataError
from talkingface.stored.regular import read_bytes

MOST_BYTES = 16 * 2**20
"""Of a file; what we write has some kilobytes."""

_DEEPEST = 64  # levels; writing it again, and comparing it, need a few levels of Python's stack for each


def read_json(path: str | os.PathLike[str], most: int = MOST_BYTES) -> Any:
    """Content of a JSON file.

    Raises:
        DataError: it is missing, too large, or no JSON; one line says what is wrong with it.
    """
    data = read_bytes(path, most)
    try:
        return parse_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error})") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, names a key twice, is nested without end, or holds a number without end.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level, depth = [value], 0
    while level := [part for each in level for part in _parts(each)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
    return value


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice[:60]}' stands there twice")
    return content
