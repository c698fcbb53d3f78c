"""`clip.json`: what preprocessing notes of a clip, and the one reader of it.

Everything that is read of a clip hangs on this file, and people edit it, copy it, and pass it on. So its values are
checked here, once: whoever reads them later need not ask for their types.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # Python's own serves pydantic from 3.12 on

from talkingface.errors import DataError
from talkingface.stored.jsons import read_json

META_FILE = "clip.json"
FORMAT = 1
_MOST_FRAMES = 2**31 - 1  # a year and more of film; all that is computed from it stays far from overflow
_LONGEST_PATH = 4096
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

_SHOWN = ("clip_id", "speaker", "reason", "imported")


def _plain_name(name: str) -> str:
    """The name of a file in the clip's folder itself: a path could lead anywhere."""
    if not name or name in (".", "..") or re.search(r"[/\\]", name) or _UNPRINTABLE.search(name):
        raise ValueError("must be the plain name of a file in the clip's folder")
    return name


# What is known here is checked, what later versions and plug-ins add is left alone. Typed dictionaries, since pydantic
# checks them in a fraction of the time of models, and tens of thousands of clips are looked at when training starts.
_PART = ConfigDict(strict=True, extra="allow")


class _Record(TypedDict, total=False):
    __pydantic_config__ = _PART  # type: ignore[misc]

    files: list[Annotated[str, Field(max_length=255), AfterValidator(_plain_name)]]
    params: dict[str, Any]
    facts: dict[str, Any]
    fingerprint: str
    serves: str


def _path(value: Any) -> Any:
    """A path as text. It may hold bytes that are no UTF-8 (`files.write_text`), which pydantic's text may not."""
    if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST_PATH:
        raise ValueError("must be a path")
    return value


class _Source(TypedDict, total=False):
    __pydantic_config__ = _PART  # type: ignore[misc]

    path: Annotated[Any, AfterValidator(_path)]


class _Verdict(TypedDict, total=False):
    __pydantic_config__ = _PART  # type: ignore[misc]

    artefact: str
    fingerprint: str
    limits: dict[str, Any]


class _Meta(TypedDict, total=False):
    __pydantic_config__ = _PART  # type: ignore[misc]

    clip_id: Annotated[str, Field(min_length=1, max_length=_LONGEST_PATH)]
    speaker: str
    status: Literal["", "ok", "rejected", "failed"]
    reason: str
    imported: str | bool  # earlier versions only noted that it was
    frames: Annotated[int, Field(ge=0, le=_MOST_FRAMES)]
    fps: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
    source: _Source
    steps: dict[str, _Record]
    rejected_by: _Verdict
    made_from: str
    without: dict[str, dict[str, Any]]


_CHECKER: TypeAdapter[_Meta] = TypeAdapter(_Meta)


def load_meta(folder: Path) -> dict[str, Any]:
    """Content of a clip's `clip.json`, checked; empty where there is none.

    Raises:
        DataError: it is damaged, of another format, or holds a value that cannot be right; one line says which.
    """
    path = folder / META_FILE
    if not os.path.lexists(path):
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold an object, not {type(content).__name__}; preprocess this clip again")
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: is not of format {FORMAT}; preprocess this clip again")
    try:
        _CHECKER.validate_python(content)
    except ValidationError as error:
        raise DataError(f"{path}: {_first(error)}; preprocess this clip again") from None
    return content | {key: _printable(str(content[key])) for key in _SHOWN if content.get(key)}


def read_meta(folder: Path) -> dict[str, Any]:
    """The same for those who make a clip anew where its `clip.json` is missing, damaged or cut off by a crash."""
    try:
        return load_meta(folder)
    except DataError:
        return {}


def _printable(text: str) -> str:
    """Text for the terminal and for tables, which control characters would spoil."""
    escaped = _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")  # halves of a character, which JSON may hold


def clip_file(folder: Path, name: str) -> Path:
    """A file in a clip's folder; a link may lead to another file of that folder, not out of it.

    Raises:
        DataError: it is missing, no file, or a link that leads elsewhere.
    """
    path = folder / name
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if stat.S_ISLNK(mode) and not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        raise DataError(f"{path}: is a link that leads out of the clip's folder; copy the file instead")
    if not os.path.isfile(path):
        raise DataError(f"{path}: is not a file")
    return path


def number(values: Mapping[str, Any], name: str, default: float) -> float:
    """A number among free values, say the facts of a step; the default where there is none.

    Raises:
        ValueError: it is something else, or not finite.
    """
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**31:
        raise ValueError(f"'{name}' must be a number, not {str(value)[:40]}")
    return value


def _first(error: ValidationError) -> str:
    """The first of the problems that pydantic found, in a line."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part)[:60] for part in problem["loc"])
    value = _printable(repr(problem["input"])[:60])
    return _printable(f"{where}: {problem['msg'].removeprefix('Value error, ')}, not {value}")
