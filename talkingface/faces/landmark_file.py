"""Landmarks that people bring along, as CSV or as the npz file of a `LandmarkTrack`; the format: docs/data_layout.md.

The CSV is what OpenFace writes: columns `frame` (from 1), `x_0, x_1, ...` and `y_0, y_1, ...` in pixels of the video,
optionally `success` and `confidence`, which tells the surest of several faces in a frame. Other columns are ignored.
`write_landmarks` makes such a file from any track.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from talkingface.errors import DataError
from talkingface.faces import mesh as facemesh
from talkingface.faces.gaps import bridge_gaps
from talkingface.faces.track import LandmarkTrack, Layout, fill_gaps
from talkingface.files import atomic_output

SUFFIXES = (".landmarks.csv", ".landmarks.npz")

LAYOUTS: dict[int, Layout] = {2: "box", 68: "ibug68", facemesh.N_POINTS: "mediapipe478"}
"""What the points mean, by their number."""

_COORDINATE = re.compile(r"([xyz])_(\d+)")


class MisfitError(DataError):
    """A sound file of another video, or of none.

    Attributes:
        measured: frames with a face, or the last of them, as the file has it.
        limit: what the video allows.
    """

    def __init__(self, message: str, measured: int, limit: int) -> None:
        super().__init__(message)
        self.measured, self.limit = measured, limit


def landmarks_beside(video: Path) -> Path | None:
    """The landmark file next to a video, `<clip>.landmarks.csv` or `.npz`, when there is one."""
    return next((path for suffix in SUFFIXES if os.path.isfile(path := video.with_suffix(suffix))), None)


def read_landmarks(
    path: str | Path,
    frames: int,
    size: tuple[int, int],
    max_gap: int = 12,
    rate: float = 25.0,
    pictures: Iterable[np.ndarray] | None = None,
) -> LandmarkTrack:
    """The landmarks of a video from a file.

    Args:
        path: the file; `.npz` is what `LandmarkTrack.save` wrote, anything else a CSV.
        frames: number of frames of the video at `rate`. A file may end early, or one frame late.
        size: height and width of the video.
        max_gap: longest run of frames without landmarks that is bridged.
        rate: frames per second at which the rows count, for messages.
        pictures: the video's frames, (H, W, 3) uint8 RGB: gaps are then bridged only where the picture goes on. They
            are not read where there is no gap.

    Returns:
        A track of `frames` frames. Its provider is `file`, its version the file's name.

    Raises:
        DataError: the file cannot be read, or is damaged; one line names the file and the row.
        MisfitError: it holds no face, or ends behind the video.
    """
    path = Path(path)
    stored = _read_npz(path, size) if path.suffix.lower() == ".npz" else _read_csv(path)
    # By one frame more or less, programs count differently.
    if stored.last > frames + 1:
        raise MisfitError(
            f"{path}: has landmarks of frame {stored.last}, but the video has {frames} at {rate:g} frames per second;"
            f" make them from the video at {rate:g} frames per second",
            stored.last,
            frames + 1,
        )
    points, found, depth = stored.arrays(frames)
    if not found.any():
        raise MisfitError(f"{path}: has no frame with a face", 0, 1)
    _check_pixels(path, points, found, size)
    whole = points if depth is None else np.concatenate([points, depth[..., None]], axis=2)
    if pictures is None:
        valid = fill_gaps(whole, found, max_gap)
    else:
        valid = bridge_gaps(whole, found, max_gap, pictures)
    return LandmarkTrack(
        points_px=np.ascontiguousarray(whole[..., :2]),
        found=found,
        valid=valid,
        size=size,
        layout=LAYOUTS[points.shape[1]],
        provider="file",
        version=path.name,
        depth_px=None if depth is None else np.ascontiguousarray(whole[..., 2]),
    )


def write_landmarks(track: LandmarkTrack, path: str | Path) -> Path:
    """Write the frames of a track in which a face was detected; bridged ones are bridged again by whoever reads it.

    Args:
        track: any track; depth becomes columns `z_0, ...`.
        path: `<clip>.landmarks.csv` beside the video is found by itself; a suffix `.npz` writes `LandmarkTrack`'s own.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    with atomic_output(path) as temporary:
        if path.suffix.lower() == ".npz":
            track.save(temporary)
            return path
        axes = [track.points_px[..., 0], track.points_px[..., 1]]
        axes += [] if track.depth_px is None else [track.depth_px]
        names = [f"{axis}_{k}" for axis in "xyz"[: len(axes)] for k in range(track.points_px.shape[1])]
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["frame", *names])
            for index in np.flatnonzero(track.found):
                values = np.concatenate([axis[index] for axis in axes]).astype(np.float32)
                writer.writerow([index + 1, *map(str, values)])  # the shortest text that reads back as the same number
    return path


class _Stored(NamedTuple):
    """What a file says: coordinates (2 or 3, K) by frame number, from 0; other frames have no face."""

    faces: Mapping[int, np.ndarray]
    points: int
    axes: int

    @property
    def last(self) -> int:
        """The last frame with a face, counted from 1; 0 without any."""
        return max(self.faces, default=-1) + 1

    def arrays(self, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Points (F, K, 2), found (F,), and depth (F, K) or None of so many frames."""
        values = np.full((frames, self.points, self.axes), np.nan, np.float32)
        found = np.zeros(frames, bool)
        for frame, face in self.faces.items():
            if frame < frames:
                values[frame], found[frame] = face.T, True
        depth = np.ascontiguousarray(values[..., 2]) if self.axes > 2 else None
        return np.ascontiguousarray(values[..., :2]), found, depth


def _read_npz(path: Path, size: tuple[int, int]) -> _Stored:
    track = LandmarkTrack.load(path)
    if LAYOUTS.get(track.points_px.shape[1]) != track.layout:
        raise DataError(f"{path}: {track.points_px.shape[1]} points are not '{track.layout}'")
    if track.size != size:
        shapes = [f"{width} x {height}" for height, width in (track.size, size)]
        raise DataError(f"{path}: landmarks of a video of {shapes[0]} pixels, but this one has {shapes[1]}")
    columns = [track.points_px] if track.depth_px is None else [track.points_px, track.depth_px[..., None]]
    values = np.concatenate(columns, axis=-1)
    faces = {int(frame): values[frame].T for frame in np.flatnonzero(track.found)}
    return _Stored(faces, values.shape[1], values.shape[2])


def _read_csv(path: Path) -> _Stored:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream, skipinitialspace=True)  # OpenFace writes a blank after each comma
            columns = _columns(path, [name.strip() for name in next(lines, [])])
            faces: dict[int, np.ndarray] = {}
            surest: dict[int, float] = {}
            for number, frame, sure, face in _rows(path, lines, columns):
                if frame in faces and columns.confidence is None:
                    raise DataError(
                        f"{path}: line {number}: frame {frame + 1} stands there twice; keep one face of each, or name"
                        " a column 'confidence'"
                    )
                if sure > surest.get(frame, -math.inf):
                    faces[frame], surest[frame] = face, sure
    except OSError as error:
        raise DataError(f"{path}: cannot read these landmarks ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None
    return _Stored(faces, columns.points, len(columns.axes))


class _Columns(NamedTuple):
    """Where things stand in a row: frame, success and confidence (or None), coordinates of x, y and perhaps z."""

    frame: int
    success: int | None
    confidence: int | None
    axes: Sequence[Sequence[int]]
    points: int


def _columns(path: Path, names: list[str]) -> _Columns:
    """Find the columns by the header.

    Raises:
        DataError: one of them is missing.
    """
    place = {name: index for index, name in enumerate(names)}
    if "frame" not in place:
        raise DataError(f"{path}: has no column 'frame'; the first line must name frame, x_0, x_1, ..., y_0, y_1, ...")
    found = [match for name in names if (match := _COORDINATE.fullmatch(name))]
    numbers = {axis: sorted(int(match[2]) for match in found if match[1] == axis) for axis in "xyz"}
    count = len(numbers["x"])
    if count not in LAYOUTS or numbers["x"] != list(range(count)):
        known = ", ".join(f"{number} ({layout})" for number, layout in LAYOUTS.items())
        raise DataError(f"{path}: has {count} columns x_0, x_1, ...; known numbers of points: {known}")
    if numbers["y"] != numbers["x"]:
        raise DataError(f"{path}: has {count} columns x_0, x_1, ..., but {len(numbers['y'])} columns y_0, y_1, ...")
    axes = "xyz" if numbers["z"] == numbers["x"] else "xy"
    return _Columns(
        frame=place["frame"],
        success=place.get("success"),
        confidence=place.get("confidence"),
        axes=[[place[f"{axis}_{k}"] for k in range(count)] for axis in axes],
        points=count,
    )


def _rows(path: Path, lines: Iterable[list[str]], columns: _Columns) -> Iterator[tuple[int, int, float, np.ndarray]]:
    """Number of the line, frame from 0, confidence, and coordinates (2 or 3, K) of every row that has a face.

    Raises:
        DataError: a row is damaged; the message names its line.
    """
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            frame = int(cells[columns.frame])
            lost = columns.success is not None and float(cells[columns.success]) == 0
            texts = [[cells[place].strip() for place in places] for places in columns.axes]
            if lost or not any(text for axis in texts for text in axis):
                continue
            sure = 1.0 if columns.confidence is None else float(cells[columns.confidence])
            face = np.array(texts, dtype=np.float64)
        except IndexError:
            raise DataError(f"{path}: line {number} has {len(cells)} columns, the header more") from None
        except ValueError as error:
            raise DataError(f"{path}: line {number}: {error}") from None
        if frame < 1:
            raise DataError(f"{path}: line {number}: frame {frame}; frames count from 1")
        if not np.isfinite(face).all():
            raise DataError(
                f"{path}: line {number}: frame {frame} lacks some of its points; leave out the row, or all its numbers"
            )
        if math.isfinite(sure):
            yield number, frame - 1, sure, face


def _check_pixels(path: Path, points: np.ndarray, found: np.ndarray, size: tuple[int, int]) -> None:
    """See that the numbers are pixels of a picture of this size; a face may stand out of it a little.

    Raises:
        DataError: they are not.
    """
    height, width = size
    seen = points[found]
    if np.abs(seen).max() <= 2:
        raise DataError(f"{path}: the numbers look like shares of the picture; pixels are needed ({width} x {height})")
    beyond = ((seen < [-width, -height]) | (seen > [2 * width, 2 * height])).any(axis=(1, 2))
    if beyond.any():
        frame = int(np.flatnonzero(found)[beyond.argmax()])
        raise DataError(
            f"{path}: frame {frame + 1} has points far outside the picture of {width} x {height} pixels; landmarks of"
            " another video, or of this one at another size?"
        )
