"""Pixels in and out: decoded frames to upright RGB arrays, and still images.

Colour is converted here and nowhere else. FFmpeg's quick conversion paths truncate, which darkens every pass by a grey
level or more; the flags below round, so that a decoded, untouched and re-encoded picture keeps its mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from talkingface.errors import MediaError
from talkingface.files import atomic_output
from talkingface.media.info import IMAGE_SUFFIXES, corrupt_image, is_still, open_media, video_stream

_UNSPECIFIED_MATRIX = {0, 2, 3}  # AVCOL_SPC: RGB (in a YUV file: wrong tag), unspecified, reserved

# Swscale flags for conversion between RGB and 4:2:0 without a bias (measured: under 0.05 grey levels): bilinear,
# accurate rounding, full chroma interpolation and input. Any one left out costs 1 to 2 grey levels. Written as numbers
# of libswscale's interface because PyAV before 18 does not name them all.
ROUNDING_FLAGS = 0x2 | 0x40000 | 0x2000 | 0x4000


def is_high_definition(width: int, height: int) -> bool:
    """Tell whether players take an untagged picture of this size for BT.709 (else BT.601)."""
    return width >= 1280 or height > 576


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Read the display matrix of a decoded frame: (transpose, then flip columns, then flip rows)."""
    from av.sidedata.sidedata import Type

    try:
        data = bytes(frame.side_data[Type.DISPLAYMATRIX])
    except (KeyError, ValueError):
        # PyAV cannot list side data of a kind it does not know (EXIF of JPEGs); the plain angle knows no mirroring.
        turns = round(frame.rotation / 90) % 4  # counter-clockwise
        return turns in (1, 3), turns in (2, 3), turns in (1, 2)
    matrix = np.frombuffer(data, dtype=np.int32)
    # x' = a x + c y, y' = b x + d y, with the rows (a, b, .), (c, d, .) in 16.16 fixed point.
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class FrameConverter:
    """Turns decoded frames into upright RGB arrays, all of the size of the first one."""

    def __init__(self) -> None:
        """Start without a size; the first frame sets it."""
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._turn = (False, False, False)

    def __call__(self, frame: Any, pixel_format: str = "rgb24") -> np.ndarray:
        """Convert one frame.

        Args:
            frame: Decoded `av.VideoFrame` of any pixel format.
            pixel_format: "rgb24" or "rgba".

        Returns:
            (H, W, 3 or 4) uint8, rotated as the file asks, contiguous and owned by the caller.
        """
        from av.video.reformatter import ColorRange, Colorspace

        if self._size is None:
            self._size = (frame.width, frame.height)
            # Once per file: PyAV's side data and its frame refer to each other, so every look keeps a frame alive
            # until the garbage collector comes, hundreds of megabytes later.
            self._turn = orientation(frame)
        matrix = None
        if not frame.format.is_rgb and int(frame.colorspace) in _UNSPECIFIED_MATRIX:
            matrix = Colorspace.ITU709 if is_high_definition(frame.width, frame.height) else Colorspace.ITU601
        picture = self._reformatter.reformat(
            frame,
            width=self._size[0],
            height=self._size[1],
            format=pixel_format,
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            interpolation=ROUNDING_FLAGS,
            threads=1,
        ).to_ndarray()
        transpose, mirror, upend = self._turn
        if transpose:
            picture = picture.transpose(1, 0, 2)
        if mirror:
            picture = picture[:, ::-1]
        if upend:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


def read_image(path: str | Path) -> np.ndarray:
    """Read a still image of any common kind; the camera's orientation is applied, transparency goes onto white.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        MediaError: If the file is missing, empty, corrupt, cut short or not a still image.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or not is_still(container):
            raise MediaError(f"{path}: not a still image; give a jpg, png, bmp, tiff or webp file")
        check_jpeg_end(path)
        frame = next(container.decode(stream), None)
        if frame is None or frame.is_corrupt:
            raise corrupt_image(path)
        if not any(component.is_alpha for component in frame.format.components):
            return FrameConverter()(frame)
        rgba = FrameConverter()(frame, "rgba").astype(np.float32)
    alpha = rgba[..., 3:] / 255.0
    return np.rint(rgba[..., :3] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)


def check_jpeg_end(path: Path) -> None:
    """Raise `MediaError` for a JPEG that was cut short: FFmpeg fills the missing part with grey and says nothing."""
    data = path.read_bytes()
    # 0xFF never stands unescaped in the coded picture, so both marks are found exactly.
    if data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise MediaError(f"{path}: the image is cut short; copy or download it again")


def write_image(path: str | Path, frame: np.ndarray, quality: int = 95) -> None:
    """Write a still image whose kind follows from the suffix; the file appears complete or not at all.

    Args:
        path: .png, .jpg, .bmp, .webp or .tiff; folders are made.
        frame: (H, W, 3) uint8 RGB.
        quality: JPEG quality, 0 to 100.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: unknown image suffix; use one of {', '.join(sorted(IMAGE_SUFFIXES))}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"{path}: an image must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in {".jpg", ".jpeg"} else []
    done, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(frame[..., ::-1]), options)
    if not done:
        raise ValueError(f"{path}: the image could not be encoded as {path.suffix}")
    with atomic_output(path) as temporary:
        temporary.write_bytes(data.tobytes())
