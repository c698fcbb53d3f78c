"""A new puppet: landmarks of a drawing, and all files beside it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from talkingface.clips.source import Source
from talkingface.errors import DataError, NoFaceError, OutputError
from talkingface.faces.ibug68 import CURVES
from talkingface.files import writable_folder
from talkingface.media import read_image, write_image
from talkingface.media.info import IMAGE_SUFFIXES
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.puppet.cartoon import draw_cartoon
from talkingface.models.makeittalk.puppet.mesh import LAYOUTS, border, triangulated
from talkingface.models.makeittalk.puppet.puppet import PuppetFiles, closed_face
from talkingface.models.makeittalk.puppet.text import read_points, write_points, write_rows
from talkingface.models.makeittalk.space import PUPPET_DEPTH, Placement

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder

log = logging.getLogger("talkingface")

_MESH, _LINES, _POINT = (40, 160, 80), (30, 90, 220), (220, 30, 30)  # colours, RGB
_SHOWN_SIDE = 1000  # pixels that the picture of the mesh has at least
_FACE_SHARE = 0.3  # of the picture that the eyes of a face take which nobody has found


def new_puppet(
    picture: Path, landmarks: Path | None = None, out: Path | None = None, overwrite: bool = False
) -> PuppetFiles:
    """Write the files of a puppet.

    Args:
        picture: the drawing.
        landmarks: its landmarks, see `read_points`; None: those of the editable file, where it is there and has been
            filled in, otherwise they are looked for.
        out: folder for the puppet, and a copy of the picture; None: beside it.
        overwrite: also over files that somebody else has made, and over the editable file: landmarks are looked for
            anew.

    Raises:
        NoFaceError: no face was found; a file to place its points in by hand was written.
        DataError: landmarks that are damaged or lie outside.
        OutputError: files are there that this has not made.
    """
    shown = read_image(picture)
    if picture.suffix.lower() not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{picture}: a puppet has a picture of one of the kinds {known}; save it as png")
    files = PuppetFiles.beside(picture if out is None else out / picture.name)
    if files.there and not files.edited.is_file() and not overwrite:
        raise OutputError(f"{files.open_mouth}: is there already, from somebody else; --overwrite replaces it")
    if out is not None:
        writable_folder(out)
        if files.picture.resolve() != picture.resolve():
            shutil.copyfile(picture, files.picture)
    height, width = shown.shape[:2]
    if landmarks is None and not overwrite and _is_filled_in(files.edited, (height, width)):
        log.info("%s: its points are used; --overwrite looks for others", files.edited)
        landmarks = files.edited
    points = _found(picture, files, shown) if landmarks is None else read_points(landmarks)
    if not ((points >= 0) & (points <= [width - 1, height - 1])).all():
        raise DataError(f"{landmarks or picture}: points lie outside the picture of {width} x {height} pixels")
    if abs(points[16, 0] - points[0, 0]) < 1:
        raise DataError(f"{landmarks or picture}: both ends of the jaw have the same x; place the points anew")
    write_puppet(files, points, shown)
    return files


def _is_filled_in(edited: Path, size: tuple[int, int]) -> bool:
    """Whether the editable file of a picture (height, width) has points of its face, not those of the mean face.

    Raises:
        DataError: the file is damaged; what somebody has placed by hand in it is not given up for that.
    """
    return edited.is_file() and not np.array_equal(read_points(edited), _mean_face(size))


def _mean_face(size: tuple[int, int]) -> np.ndarray:
    """Landmarks (68, 2) in the middle of a picture (height, width), where nobody has found its face."""
    height, width = size
    return (canonical_face()[:, :2] * _FACE_SHARE * min(size) + [width / 2, height / 2]).round(2)


def _found(picture: Path, files: PuppetFiles, shown: np.ndarray) -> np.ndarray:
    """Landmarks (68, 2) that the detector sees.

    Raises:
        NoFaceError: it sees none.
    """
    try:
        return Source.from_path(picture).landmarks().ibug68()[0].astype(np.float64)
    except NoFaceError:
        size = shown.shape[:2]
        guess = _mean_face(size)
        write_points(files.edited, files.picture.name, size, guess)
        draw_mesh(files.mesh, shown, guess, np.zeros((0, 3), np.int64))
        raise NoFaceError(
            f"{picture}: no face was found. {files.edited} has the points of a mean face, which {files.mesh.name}"
            f" shows: move them onto the drawing, then `puppet new {files.picture}`"
        ) from None


def write_puppet(files: PuppetFiles, points: np.ndarray, shown: np.ndarray) -> None:
    """Write all files beside a picture.

    Args:
        files: where.
        points: (68, 2) landmarks of the drawing in pixels.
        shown: (H, W, 3) uint8 RGB, the drawing.

    Raises:
        OutputError: they cannot be written.
    """
    size = shown.shape[:2]
    points = np.asarray(points, np.float64).round(2)
    placement = Placement.of(points)
    normal = placement.normalise(points, PUPPET_DEPTH * canonical_face()[:, 2])
    triangles = triangulated(points, size)
    write_points(files.edited, files.picture.name, size, points)
    write_rows(files.open_mouth, [(x, y, 1.0) for x, y in points], ".4f")
    write_rows(files.normalised, normal, ".4f")
    write_rows(files.closed_mouth, closed_face(points, placement), ".4f")
    write_rows(files.scale_shift, [[placement.scale], *([each] for each in placement.shift)], ".10f")
    write_rows(files.triangles, triangles, "d")
    draw_mesh(files.mesh, shown, points, triangles)


def write_examples(clip: ClipFolder, folder: Path) -> list[Path]:
    """Write a picture of a clip's person, and a puppet of our own.

    Raises:
        MediaError: the video of the clip is damaged.
        OutputError: they cannot be written.
    """
    portrait, toon = folder / "portrait.png", folder / "cartoon.png"
    write_image(portrait, Source.from_clip(clip).read([0])[0])
    picture, points = draw_cartoon()
    write_image(toon, picture)
    write_puppet(PuppetFiles.beside(toon), points, read_image(toon))
    return [portrait, toon]


def draw_mesh(path: Path, shown: np.ndarray, points: np.ndarray, triangles: np.ndarray) -> None:
    """Write a picture of the drawing (H, W, 3) with its mesh and the numbers of its landmarks on it.

    Raises:
        OutputError: it cannot be written.
    """
    times = max(1, -(-_SHOWN_SIDE // max(shown.shape[:2])))
    canvas = cv2.resize(shown, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR)
    placed = np.concatenate([points, border(shown.shape[:2], LAYOUTS[80].border)])
    placed = np.rint((placed + 0.5) * times - 0.5).astype(np.int32)
    cv2.polylines(canvas, list(placed[triangles]), True, _MESH, 1, cv2.LINE_AA)
    for line, closed in CURVES:
        cv2.polylines(canvas, [placed[list(line)]], closed, _LINES, 2, cv2.LINE_AA)
    for number, (x, y) in enumerate(placed[: len(points)].tolist()):
        cv2.circle(canvas, (x, y), 3, _POINT, -1, cv2.LINE_AA)
        cv2.putText(canvas, str(number), (x + 4, y - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.35, _POINT, 1, cv2.LINE_AA)
    write_image(path, canvas)
