"""What DINet's and LawDNet's data processing notes of a video: the training JSON, and features as text.

The JSON of all ages: `{video: {"video_clip_num": n, "clip_data_list": [{"frame_name_list": 9 names, "frame_path_list":
9 paths, "deep_speech_list": 9 rows[, "deep_speech_dp2_list": 9 rows]}]}}`; DINet and older LawDNet lack the last list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from talkingface.errors import DataError
from talkingface.stored.regular import read_bytes

LISTS = {"deep_speech_list": "deepspeech", "deep_speech_dp2_list": "deepspeech2"}
"""Rows of a clip, and which recogniser gave them."""

_MOST_BYTES = 2**32  # HDTF, 16 hours, has 0.8 GB
_MOST_TEXT = 2**29  # of one video's features; ten hours


class PictureName(NamedTuple):
    """A picture `<video>/<clip>/<frame>.jpg`."""

    video: str
    clip: int
    number: int

    @classmethod
    def of(cls, path: str, where: str | Path) -> PictureName:
        """The picture that a path names, of whatever folder and system.

        Raises:
            DataError: it names none.
        """
        parts = re.split(r"[/\\]", path)
        stem = parts[-1].rpartition(".")[0]
        if len(parts) < 3 or not (parts[-2].isdecimal() and stem.isdecimal()) or parts[-3] in ("", ".", ".."):
            raise DataError(f"{where}: '{path[:200]}' does not end in <video>/<clip>/<frame>.jpg")
        return cls(parts[-3], int(parts[-2]), int(stem))


class ListedClip(NamedTuple):
    """A clip of the JSON: its pictures with their paths, and the rows (n, width) of each recogniser."""

    pictures: dict[PictureName, str]
    rows: dict[str, np.ndarray]


class ListedVideo(NamedTuple):
    """A video of the JSON: its clips, and how many it says that there are."""

    clips: list[ListedClip]
    counted: int


def is_list(path: Path) -> bool:
    """Whether a JSON file looks like such a list, by its beginning."""
    with path.open("rb") as file:
        start = file.read(2**16)
    return b'"clip_data_list"' in start or b'"video_clip_num"' in start


def read_lists(path: Path) -> dict[str, ListedVideo]:
    """All videos of a training JSON, by name.

    Raises:
        DataError: it is no such file; the message names the video.
    """
    try:
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
        return {name: _video(content, f"{path}: {name}") for name, content in _entries(text)}
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(f"{path}: not a training JSON of DINet or LawDNet ({error})") from None


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """Names and values of the outermost object, one by one: all at once they would take several times the file.

    Raises:
        ValueError: the text is none.
    """
    read, place = json.JSONDecoder().raw_decode, _after(text, 0, "{")
    while text[_blank(text, place) :][:1] != "}":
        name, place = read(text, _blank(text, place))
        value, place = read(text, _blank(text, _after(text, place, ":")))
        yield str(name), value
        place = _blank(text, place)
        if text[place : place + 1] == "}":
            return
        place = _after(text, place, ",")


def _blank(text: str, place: int) -> int:
    """The next place that is no white space."""
    found = re.compile(r"\s*").match(text, place)
    return found.end() if found else place


def _after(text: str, place: int, mark: str) -> int:
    place = _blank(text, place)
    if text[place : place + 1] != mark:
        raise ValueError(f"'{mark}' is missing at character {place}")
    return place + 1


def _video(content: Any, where: str) -> ListedVideo:
    clips = content.get("clip_data_list") if isinstance(content, Mapping) else None
    if not isinstance(clips, list):
        raise DataError(f"{where}: has no clip_data_list")
    counted = content.get("video_clip_num", len(clips))
    return ListedVideo([_clip(clip, where) for clip in clips], counted if type(counted) is int else len(clips))


def _clip(content: Any, where: str) -> ListedClip:
    names = content.get("frame_name_list") if isinstance(content, Mapping) else None
    paths = content.get("frame_path_list", names) if names or isinstance(content, Mapping) else None
    names = names or paths
    if not isinstance(names, list) or not isinstance(paths, list) or len(paths) != len(names):
        raise DataError(f"{where}: a clip lacks its frame_name_list or frame_path_list")
    pictures = {PictureName.of(str(name), where): str(path) for name, path in zip(names, paths, strict=True)}
    rows = {kind: _rows(content[key], where) for key, kind in LISTS.items() if isinstance(content.get(key), list)}
    return ListedClip(pictures, rows)


def _rows(values: list[Any], where: str) -> np.ndarray:
    try:
        rows = np.array(values, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{where}: rows of features are no numbers, or differ in width") from None
    return rows if rows.ndim == 2 else rows.reshape(len(values), -1)


def read_rows(path: Path) -> np.ndarray:
    """Features of a video as text, (T, width) float32, 25 rows per second.

    Raises:
        DataError: the file is damaged.
    """
    try:
        lines = read_bytes(path, _MOST_TEXT).decode("ascii").split("\n")
        if not any(map(str.strip, lines)):
            raise ValueError("it is empty")
        return np.loadtxt(lines, np.float32, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: not rows of numbers ({error})") from None
