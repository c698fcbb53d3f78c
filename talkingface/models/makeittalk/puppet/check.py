"""What is wrong with the files of a puppet, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from talkingface.errors import TalkingFaceError
from talkingface.faces.ibug68 import INNER_LIP_PAIRS, POINTS
from talkingface.faces.warp import signed_areas
from talkingface.media import read_image
from talkingface.models.makeittalk.puppet.mesh import LAYOUTS, SLIVER, mouth_gap, vertices
from talkingface.models.makeittalk.puppet.puppet import (
    MOST_APART,
    PuppetFiles,
    drawn_points,
    needed_puppet,
    read_placement,
    read_triangles,
    rigid_distance,
)
from talkingface.models.makeittalk.puppet.text import read_rows
from talkingface.models.makeittalk.puppet.warp import OPEN
from talkingface.models.makeittalk.space import Placement

_EQUAL = 0.05  # pixels
_CLOSED_LIPS = set(zip(*INNER_LIP_PAIRS, strict=True))  # of a drawing whose mouth is closed
_MOST = 10  # lines of one kind


def check_puppet(path: Path) -> list[str]:
    """Faults of a puppet; empty for a good one.

    Raises:
        DataError: it is none.
        MediaError: its picture is damaged.
    """
    files = needed_puppet(path)
    size = read_image(files.picture).shape[:2]
    try:
        points, edited = drawn_points(files)
    except TalkingFaceError as error:
        return [str(error)]
    faults = [f"{files.edited.name}: was edited; run `puppet new {files.picture}`"] if edited else []
    faults += _points_at_fault(files, points, size)
    closed = None
    try:
        closed = _closed(files, points, faults)
        faults += _triangles_at_fault(files, points, closed, size)
    except TalkingFaceError as error:
        faults.append(str(error))
    return faults


def _points_at_fault(files: PuppetFiles, points: np.ndarray, size: tuple[int, int]) -> list[str]:
    """Points outside of the picture, and equal ones."""
    height, width = size
    outside, name = (points < 0) | (points > [width - 1, height - 1]), files.open_mouth.name
    found = [
        f"{name}: point {k} ({x:.1f}, {y:.1f}) lies outside the picture of {width} x {height} pixels"
        for k, (x, y) in enumerate(points)
        if outside[k].any()
    ]
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    pairs = zip(*(each.tolist() for each in np.nonzero(np.triu(apart < _EQUAL, k=1))), strict=True)
    found += [f"{name}: points {a} and {b} are equal" for a, b in pairs if (a, b) not in _CLOSED_LIPS]
    return found[:_MOST]


def _closed(files: PuppetFiles, points: np.ndarray, faults: list[str]) -> np.ndarray | None:
    """The face at rest in pixels (68, 2), None without a file; adds what is wrong with it."""
    missing = [file.name for file in files[1:6] if not file.is_file()]
    faults += [f"{name}: is not there, and is computed at each use; `puppet new` writes it" for name in missing]
    placement = read_placement(files.scale_shift) or Placement.of(points)
    if not files.closed_mouth.is_file():
        return None
    face = read_rows(files.closed_mouth, (3,), POINTS)
    apart = rigid_distance(points, face, placement)
    if apart > MOST_APART:
        faults.append(
            f"{files.closed_mouth.name}: lies {apart:.0f} pixels beside the face of {files.open_mouth.name}, and is not"
            " used"
        )
        return None
    if (gap := mouth_gap(face)) > OPEN:
        faults.append(f"{files.closed_mouth.name}: its mouth is open, by {100 * gap:.0f} % of its width")
    return placement.denormalise(face)[:, :2]


def _triangles_at_fault(
    files: PuppetFiles, points: np.ndarray, closed: np.ndarray | None, size: tuple[int, int]
) -> list[str]:
    """Triangles that are turned over in the drawing or at rest, and parts of the picture without any."""
    triangles = read_triangles(files.triangles)
    if triangles is None:
        return []
    layout = LAYOUTS[int(triangles.max()) + 1]
    drawn = signed_areas(vertices(points, size, layout), triangles)
    found = list(_turned(files, "the drawing", triangles, drawn, np.sign(np.median(drawn))))
    covered = np.abs(drawn).sum() / 2 / ((size[0] - 1) * (size[1] - 1))
    if not found and abs(covered - 1) > 1e-3:
        found.append(f"{files.triangles.name}: the triangles cover {100 * covered:.1f} % of the picture")
    if closed is not None and not found:
        rest = signed_areas(vertices(closed, size, layout), triangles)
        found += _turned(files, "the closed face", triangles, rest, np.sign(drawn))
    return found[:_MOST]


def _turned(
    files: PuppetFiles, where: str, triangles: np.ndarray, areas: np.ndarray, wanted: np.ndarray | float
) -> Iterator[str]:
    # Lips that lie on each other have triangles without any area between them.
    for number in np.flatnonzero((np.sign(areas) * wanted < 0) & (np.abs(areas) > SLIVER)):
        corners = " ".join(map(str, triangles[number]))
        yield f"{files.triangles.name}: triangle {number + 1} ({corners}) is crossed in {where}"
