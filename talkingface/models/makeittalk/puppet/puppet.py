"""A puppet as it lies on the disk: the picture `N.png` and the files beside it.

| file | content |
|---|---|
| `N_face_open_mouth.txt` | landmarks of the drawing in pixels, 68 lines |
| `N_face_open_mouth_norm.txt`, `N_face_close_mouth.txt` | normalised; the second is the face at rest |
| `N_scale_shift.txt` | how they were normalised: scale, shift in x and in y |
| `N_delauney_tri.txt` | triangles, in the order in which they are drawn |
| `N_bg.*` | what stands behind it |
| `N_puppet.json` | landmarks of the drawing, to be edited; those made by `puppet new` have it |

Whatever is missing or contradicts the drawing's landmarks is computed from these. Format: published puppets of
MakeItTalk.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from talkingface.errors import DataError
from talkingface.faces.ibug68 import POINTS
from talkingface.media import read_image
from talkingface.media.info import IMAGE_SUFFIXES
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.mouth import close_portrait
from talkingface.models.makeittalk.puppet.mesh import LAYOUTS, Layout, lips_turned, triangulated
from talkingface.models.makeittalk.puppet.text import read_points, read_rows
from talkingface.models.makeittalk.space import PUPPET_DEPTH, Placement

log = logging.getLogger("talkingface")

MOST_APART = 1.0
"""Pixels by which the files of one puppet may disagree about points that are no lips."""

_LEAST_SCALE = 1e-6  # units per pixel: of a jaw of a million pixels
_EDITED = 0.01  # pixels: the text files are that precise
_RIGID = slice(0, 48)  # what closing the mouth does not move
_SIDES = (0.7, 0.5, 0.35, 0.2, 0.1, 0.0)  # shares of the way that lips next to the corners close


class PuppetFiles(NamedTuple):
    """Where the files of a puppet lie; the picture is there, others need not be."""

    picture: Path
    open_mouth: Path
    normalised: Path
    closed_mouth: Path
    scale_shift: Path
    triangles: Path
    edited: Path
    mesh: Path

    @classmethod
    def beside(cls, picture: Path) -> PuppetFiles:
        """The files beside a picture."""
        names = ("face_open_mouth.txt", "face_open_mouth_norm.txt", "face_close_mouth.txt", "scale_shift.txt")
        names = (*names, "delauney_tri.txt", "puppet.json", "mesh.png")
        return cls(picture, *(picture.with_name(f"{picture.stem}_{name}") for name in names))

    @property
    def there(self) -> bool:
        """Whether this is a puppet: the landmarks of the drawing are there."""
        return self.open_mouth.is_file() or self.edited.is_file()

    @property
    def background(self) -> Path | None:
        """What stands behind it."""
        found = [path for path in _pictures(self.picture.parent) if path.stem == f"{self.picture.stem}_bg"]
        return found[0] if found else None


@dataclass(frozen=True)
class Puppet:
    """A puppet.

    Attributes:
        files: where it lies.
        shown: (H, W, 3) uint8 RGB, the drawing as seen on white.
        opacity: (H, W) uint8.
        points: (68, 2) landmarks of the drawing, in pixels.
        closed: (68, 3) the face at rest, normalised.
        placement: between the two.
        triangles: (T, 3), in the order in which they are drawn.
    """

    files: PuppetFiles
    shown: np.ndarray
    opacity: np.ndarray
    points: np.ndarray
    closed: np.ndarray
    placement: Placement
    triangles: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shown.shape[:2]

    @property
    def layout(self) -> Layout:
        """Which points the mesh has."""
        return LAYOUTS[int(self.triangles.max()) + 1]


def find_puppet(path: Path) -> PuppetFiles | None:
    """The puppet that a picture, or a folder with one puppet in it, is; None for anything else.

    Raises:
        DataError: there are several in the folder.
    """
    if not path.is_dir():
        files = PuppetFiles.beside(path)
        return files if path.suffix.lower() in IMAGE_SUFFIXES and files.there else None
    found = [files for files in map(PuppetFiles.beside, _pictures(path)) if files.there]
    if len(found) > 1:
        names = ", ".join(files.picture.name for files in found[:5])
        raise DataError(f"{path}: holds {len(found)} puppets; give the picture of one of them ({names})")
    return found[0] if found else None


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def needed_puppet(path: Path) -> PuppetFiles:
    """The same; there must be one.

    Raises:
        DataError: nothing is there, it is no puppet, or there are several.
    """
    files = find_puppet(path)
    if files is None:
        reason = "no puppet; `puppet new PICTURE` makes the files beside a picture" if path.exists() else "no such file"
        raise DataError(f"{path}: {reason}")
    return files


def load_puppet(path: Path) -> Puppet:
    """Read a puppet; what is missing is computed, and what contradicts the landmarks of the drawing is told of.

    Raises:
        DataError: it is none, or a file of it is damaged.
        MediaError: the picture is damaged.
    """
    files = needed_puppet(path)
    picture = read_image(files.picture, opacity=True)
    points, edited = drawn_points(files)
    if abs(points[16, 0] - points[0, 0]) < 1:
        raise DataError(f"{files.open_mouth}: both ends of the jaw have the same x; place the points anew")
    triangles = None if edited else read_triangles(files.triangles)
    closed, placement = _at_rest(files, points, edited)
    if triangles is None:
        triangles = triangulated(points, picture.shape[:2])
    shown, opacity = np.ascontiguousarray(picture[..., :3]), np.ascontiguousarray(picture[..., 3])
    return Puppet(files, shown, opacity, points, closed, placement, triangles)


def drawn_points(files: PuppetFiles) -> tuple[np.ndarray, bool]:
    """Landmarks (68, 2) of the drawing, and whether they were edited since the other files were made.

    Raises:
        DataError: a file is damaged.
    """
    stored = read_rows(files.open_mouth, (2, 3), POINTS)[:, :2] if files.open_mouth.is_file() else None
    if not files.edited.is_file():
        assert stored is not None, "a puppet has one of both"
        return stored, False
    points = read_points(files.edited)
    edited = stored is None or bool(np.abs(points - stored).max() > _EDITED)
    if edited:
        log.warning(
            "%s: was edited; the files beside it are not used until `puppet new %s` has made them anew",
            files.edited, files.picture,
        )  # fmt: skip
    return points, edited


def read_triangles(path: Path) -> np.ndarray | None:
    """Triangles (T, 3); None where there is no file.

    Raises:
        DataError: it is damaged, or has another number of vertices than puppets have.
    """
    if not path.is_file():
        return None
    table = read_rows(path, (3,))
    triangles = table.astype(np.int64)
    if (triangles != table).any() or triangles.min() < 0 or int(triangles.max()) + 1 not in LAYOUTS:
        known = ", ".join(f"{count} ({len(made.points)} + {made.border})" for count, made in LAYOUTS.items())
        raise DataError(
            f"{path}: has {table.max() + 1:g} vertices; puppets have {known}: landmarks, with or without the outer"
            " lips, and points on the border"
        )
    return triangles


def _at_rest(files: PuppetFiles, points: np.ndarray, edited: bool) -> tuple[np.ndarray, Placement]:
    """The face at rest (68, 3), normalised, and how."""
    placement = read_placement(files.scale_shift) if not edited else None
    if edited or not files.closed_mouth.is_file():
        placement = placement or Placement.of(points)
        return closed_face(points, placement), placement
    placement = placement or Placement.of(points)
    closed = read_rows(files.closed_mouth, (3,), POINTS)
    apart = rigid_distance(points, closed, placement)
    if apart > MOST_APART:
        log.warning(
            "%s: lies %.0f pixels beside the face of %s; the closed mouth is made from that one",
            files.closed_mouth, apart, files.open_mouth.name,
        )  # fmt: skip
        placement = Placement.of(points)
        return closed_face(points, placement), placement
    return closed, placement


def rigid_distance(points: np.ndarray, closed: np.ndarray, placement: Placement) -> float:
    """Largest distance in pixels between the drawing (68, 2) and the face at rest (68, 3), lips left out."""
    there = placement.denormalise(closed)[_RIGID, :2]
    return float(np.linalg.norm(there - points[_RIGID], axis=1).max())


def read_placement(path: Path) -> Placement | None:
    """How the faces of a puppet were normalised; None where there is no file.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    scale, shift_x, shift_y = read_rows(path, (1,), 3)[:, 0]
    if not _LEAST_SCALE <= abs(scale) <= 1:
        raise DataError(f"{path}: {scale:g} is no scale of a face; remove the file, it is then computed")
    return Placement(float(scale), (float(shift_x), float(shift_y)))


def closed_face(points: np.ndarray, placement: Placement) -> np.ndarray:
    """The face at rest (68, 3), normalised: the drawing's landmarks (68, 2) with their mouth closed.

    Outer lips next to the corners follow as far as they can without crossing the inner ones.
    """
    face = placement.normalise(points, PUPPET_DEPTH * canonical_face()[:, 2])
    drawn = lips_turned(face)
    for side in _SIDES:
        closed = close_portrait(face, 1.0, side)
        if not (lips_turned(closed) * drawn < 0).any():
            break
    return closed
