"""Numbers in the text files of a puppet, and landmarks that people bring along.

The published format of MakeItTalk's puppets; `.pts` is that of the iBUG annotations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.errors import DataError
from talkingface.faces.ibug68 import POINTS
from talkingface.files import write_text
from talkingface.stored.jsons import read_json
from talkingface.stored.regular import read_bytes

_MOST_BYTES = 2**20
_LARGEST = 1e6
_AGAIN = "copy it again, or make it anew with `puppet new PICTURE --overwrite`"

PARTS: tuple[tuple[str, int], ...] = (
    ("jaw", 17),
    ("right_brow", 5),
    ("left_brow", 5),
    ("nose", 9),
    ("right_eye", 6),
    ("left_eye", 6),
    ("outer_lips", 12),
    ("inner_lips", 8),
)
"""Names of the parts of a face in the editable file, and their numbers of points; `right` is left in the picture."""


def read_rows(path: Path, columns: Sequence[int], rows: int | None = None) -> np.ndarray:
    """A table of finite numbers.

    Args:
        path: the file.
        columns: numbers of columns that it may have.
        rows: that it must have; None: any.

    Returns:
        (rows, columns) float64.

    Raises:
        DataError: missing, or something else.
    """
    lines = [line.replace(",", " ").split() for line in _text(path).splitlines() if line.strip()]
    return _table(path, lines, columns, rows)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text (byte {error.start}); {_AGAIN}") from None


def _table(path: Path, lines: Sequence[Sequence[Any]], columns: Sequence[int], rows: int | None) -> np.ndarray:
    widths = {len(line) for line in lines}
    if not lines or len(widths) > 1 or not widths <= set(columns) or rows not in (None, len(lines)):
        found = f"{len(lines)} lines of {' or '.join(map(str, sorted(widths))) or 'no'} numbers"
        wanted = f"{'' if rows is None else f'{rows} '}lines of {' or '.join(map(str, columns))}"
        raise DataError(f"{path}: has {found}, expected {wanted}; {_AGAIN}")
    try:
        table = np.array(lines, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}; {_AGAIN}") from None
    if not np.isfinite(table).all() or np.abs(table).max() > _LARGEST:
        raise DataError(f"{path}: some of its numbers are not finite, or larger than any picture; {_AGAIN}")
    return table


def write_rows(path: Path, rows: Iterable[Sequence[float]], form: str) -> None:
    """Write a table, every number in the same form.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(path, "".join(" ".join(format(value, form) for value in row) + "\n" for row in rows))


def read_points(path: Path) -> np.ndarray:
    """Landmarks (68, 2) in pixels, from our json, a plain list in json, a `.pts` file, or 68 lines of x and y.

    Raises:
        DataError: missing, or something else.
    """
    if path.suffix.lower() == ".json":
        return _json_points(path)
    if path.suffix.lower() == ".pts":
        _, _, body = _text(path).partition("{")
        lines = [line.split() for line in body.partition("}")[0].splitlines() if line.strip()]
        return _table(path, lines, (2,), POINTS)
    return read_rows(path, (2, 3), POINTS)[:, :2]


def _json_points(path: Path) -> np.ndarray:
    content = read_json(path)
    found = content.get("landmarks") if isinstance(content, Mapping) else content
    if isinstance(found, Mapping):
        for name, count in PARTS:
            if not isinstance(found.get(name), list) or len(found[name]) != count:
                raise DataError(f"{path}: landmarks.{name} must be a list of {count} points [x, y]")
        found = [point for name, _ in PARTS for point in found[name]]
    if not isinstance(found, list) or not all(isinstance(point, list) for point in found):
        raise DataError(f"{path}: expected `landmarks`, as `puppet new` writes them, or a list of 68 points [x, y]")
    return _table(path, found, (2, 3), POINTS)[:, :2]


def write_points(path: Path, picture: str, size: tuple[int, int], points: np.ndarray) -> None:
    """Write the editable file.

    Args:
        path: to write.
        picture: name of the picture.
        size: its height and width.
        points: (68, 2) pixels.

    Raises:
        OutputError: it cannot be written.
    """
    left, lines = np.asarray(points).round(2).tolist(), []
    for name, count in PARTS:
        part, left = left[:count], left[count:]
        lines.append(f'    "{name}": [\n' + ",\n".join(f"      {json.dumps(point)}" for point in part) + "\n    ]")
    head = f'  "picture": {json.dumps(picture)},\n  "width": {size[1]},\n  "height": {size[0]},\n'
    write_text(path, "{\n" + head + '  "landmarks": {\n' + ",\n".join(lines) + "\n  }\n}\n")
