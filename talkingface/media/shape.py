"""How a picture is to be shown: upright, and in square pixels.

PyAV's list of side data is not used for it: it frees the metadata of colour profiles twice, which ends Python at every
PNG that carries one, and it knows no EXIF. So the EXIF entry is read by Pillow, and the matrix from the track header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL import Image

from talkingface.media.info import is_still

if TYPE_CHECKING:
    from av.container import InputContainer

_EXIF_ORIENTATION = 0x0112
_LEAST_ASPECT = Fraction(1, 8)  # of a pixel; less is a damaged header
_WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")  # Pillow tries these kinds and no other


class Turn(NamedTuple):
    """How stored pixels become upright ones: first transposed, then columns flipped, then rows flipped."""

    transpose: bool = False
    mirror: bool = False
    upend: bool = False


_OF_EXIF = {
    1: Turn(),
    2: Turn(mirror=True),
    3: Turn(mirror=True, upend=True),
    4: Turn(upend=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, mirror=True),
    7: Turn(transpose=True, mirror=True, upend=True),
    8: Turn(transpose=True, upend=True),
}


class Shape(NamedTuple):
    """How stored pictures become shown ones: scaled to square pixels, then turned.

    Attributes:
        width: columns after scaling, before turning.
        height: rows after scaling, before turning.
        turn: what follows.
    """

    width: int
    height: int
    turn: Turn

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the shown picture."""
        return (self.width, self.height) if self.turn.transpose else (self.height, self.width)


def shape_of(container: InputContainer, path: Path, stream: Any, frame: Any) -> Shape:
    """How the pictures of a video stream are to be shown.

    Args:
        container: the opened file.
        path: the same file, for what PyAV does not tell.
        stream: the video stream.
        frame: its first decoded frame.
    """
    width, height = frame.width, frame.height
    # DVDs and TV store pixels that are not square. In photos the entry is a density for printers: browsers ignore it.
    aspect = None if is_still(container) else stream.sample_aspect_ratio
    if aspect and aspect != 1 and _LEAST_ASPECT <= aspect <= 1 / _LEAST_ASPECT:
        # The side that is too short grows, so that no line is lost.
        width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return Shape(width, height, _turn_of(container, path, stream, frame))


def _turn_of(container: InputContainer, path: Path, stream: Any, frame: Any) -> Turn:
    if is_still(container):
        number = _exif_orientation(path)
        if number is not None:
            return _OF_EXIF.get(number, Turn())
    elif "mov" in container.format.name.split(","):
        matrix = _track_matrices(path).get(stream.id)
        if matrix is not None:
            return _of_matrix(*matrix)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise; knows no mirroring
    return Turn(turns in (1, 3), turns in (2, 3), turns in (1, 2))


def _exif_orientation(path: Path) -> int | None:
    """The EXIF orientation of a photo, 1 where none is noted, None for a file that Pillow cannot open."""
    try:
        with Image.open(path, formats=_WITH_EXIF) as picture:
            return picture.getexif().get(_EXIF_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return None  # whether the file is usable is FFmpeg's to say


def _of_matrix(a: int, b: int, c: int, d: int) -> Turn:
    """Of a display matrix: x' = a x + c y, y' = b x + d y."""
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)


def _track_matrices(path: Path) -> dict[int, tuple[int, int, int, int]]:
    """(a, b, c, d) of every track of an mp4 or mov, by track number; none where the headers cannot be followed."""
    matrices: dict[int, tuple[int, int, int, int]] = {}
    try:
        with path.open("rb") as file:
            end = path.stat().st_size
            for _, start, stop in _atoms(file, 0, end, b"moov"):
                for _, inner, inner_stop in _atoms(file, start, stop, b"trak"):
                    for _, header, header_stop in _atoms(file, inner, inner_stop, b"tkhd"):
                        file.seek(header)
                        data = file.read(min(header_stop - header, 104))
                        # Version 1 has times of 64 bits: three fields are 4 bytes longer, one stands before the number.
                        number, place = (20, 52) if data[0] == 1 else (12, 40)
                        a, b, _, c, d = struct.unpack_from(">5i", data, place)
                        matrices[struct.unpack_from(">I", data, number)[0]] = (a, b, c, d)
    except (OSError, struct.error, IndexError):
        return {}
    return matrices


def _atoms(file: BinaryIO, start: int, stop: int, wanted: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The atoms of one kind between two places of a file: (kind, first byte, end) of their contents."""
    while start + 8 <= stop:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:  # the size follows in 64 bits
            size, head = struct.unpack(">Q", file.read(8))[0], 16
        elif size == 0:
            size = stop - start
        if size < head:
            return
        if kind == wanted:
            yield kind, start + head, min(start + size, stop)
        start += size
