"""Pixels in and out: decoded frames to upright RGB arrays, and still images.

Colour is converted here and nowhere else. FFmpeg's quick conversion paths truncate, which darkens every pass by a grey
level or more; the flags below round, so that a decoded, untouched and re-encoded picture keeps its mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from talkingface.errors import MediaError
from talkingface.files import atomic_output
from talkingface.media.colour import to_standard
from talkingface.media.demux import first_frame
from talkingface.media.info import (
    IMAGE_SUFFIXES,
    corrupt_image,
    is_photo_container,
    is_still,
    open_media,
    video_stream,
)
from talkingface.media.shape import Shape, shape_of

if TYPE_CHECKING:
    from av.container import InputContainer

_UNSPECIFIED_MATRIX = {0, 2, 3}  # AVCOL_SPC: RGB (in a YUV file: wrong tag), unspecified, reserved

# Swscale flags for conversion between RGB and 4:2:0 without a bias (measured: under 0.05 grey levels): bilinear,
# accurate rounding, full chroma interpolation and input. Any one left out costs 1 to 2 grey levels. Written as numbers
# of libswscale's interface because PyAV before 18 does not name them all.
ROUNDING_FLAGS = 0x2 | 0x40000 | 0x2000 | 0x4000


def is_high_definition(width: int, height: int) -> bool:
    """Tell whether players take an untagged picture of this size for BT.709 (else BT.601)."""
    return width >= 1280 or height > 576


class FrameConverter:
    """Turns decoded frames into upright RGB arrays in square pixels, all of the size of the first one.

    Transparent parts are laid onto white; HDR and wide gamut become standard colours.
    """

    def __init__(self, shape: Shape, opacity: bool = False) -> None:
        """`shape` says how the pictures are to be shown; with `opacity` they carry theirs as a fourth channel."""
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._shape, self._opacity = shape, opacity

    def __call__(self, frame: Any) -> np.ndarray:
        """Convert one frame.

        Args:
            frame: Decoded `av.VideoFrame` of any pixel format.

        Returns:
            (H, W, 3) uint8 RGB, contiguous and owned by the caller; (H, W, 4) with the opacity.
        """
        from av.video.reformatter import ColorRange, Colorspace

        matrix = None
        if not frame.format.is_rgb and int(frame.colorspace) in _UNSPECIFIED_MATRIX:
            matrix = Colorspace.ITU709 if is_high_definition(frame.width, frame.height) else Colorspace.ITU601
        # A palette has its transparency in its entries, where the format does not tell.
        clear = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
        picture = self._reformatter.reformat(
            frame,
            width=self._shape.width,
            height=self._shape.height,
            format="rgba" if clear else "rgb24",
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            interpolation=ROUNDING_FLAGS,
            threads=1,
        ).to_ndarray()
        opacity = picture[..., 3:] if clear else np.full((*picture.shape[:2], 1), 255, np.uint8)
        picture = _onto_white(picture) if clear else picture
        picture = to_standard(picture, int(frame.color_trc), int(frame.color_primaries))
        if self._opacity:
            picture = np.concatenate([picture, opacity], axis=-1)
        if self._shape.turn.transpose:
            picture = picture.transpose(1, 0, 2)
        if self._shape.turn.mirror:
            picture = picture[:, ::-1]
        if self._shape.turn.upend:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


def _onto_white(picture: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA to (H, W, 3) uint8 RGB."""
    if (picture[..., 3] == 255).all():
        return picture[..., :3]
    alpha = picture[..., 3:].astype(np.float32) / 255.0
    return np.rint(picture[..., :3] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)


def read_image(path: str | Path, opacity: bool = False) -> np.ndarray:
    """Read a still image of any common kind; the camera's orientation is applied, transparency goes onto white.

    Args:
        path: The file.
        opacity: Also tell how opaque each pixel is.

    Returns:
        (H, W, 3) uint8 RGB as seen on white; with `opacity` (H, W, 4), the fourth channel 255 where nothing shines
        through.

    Raises:
        MediaError: If the file is missing, empty, corrupt, cut short or not a still image.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or not is_still(container):
            raise MediaError(f"{path}: not a still image; give a jpg, png, bmp, tiff or webp file")
        if is_photo_container(container):
            photo = read_photo(container, path)
            return np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]) if opacity else photo
        check_jpeg_end(path)
        frame = next(container.decode(stream), None)
        if frame is None or frame.is_corrupt:
            raise corrupt_image(path)
        return FrameConverter(shape_of(container, path, stream, frame), opacity)(frame)


def read_photo(container: InputContainer, path: Path) -> np.ndarray:
    """Read a HEIC or AVIF photo, (H, W, 3) uint8 RGB. FFmpeg gives the tiles of one as pictures of their own.

    Raises:
        MediaError: the photo is damaged, or a HEIC in tiles.
    """
    if container.metadata.get("major_brand") in ("avif", "mif1"):
        try:
            with Image.open(path, formats=("AVIF",)) as picture:
                return _onto_white(np.array(ImageOps.exif_transpose(picture).convert("RGBA")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            pass  # `mif1` may be a HEIC as well
    pictures = [stream for stream in container.streams.video if stream.codec_context is not None]
    if len(pictures) > 1:
        raise MediaError(f"{path}: a HEIC photo in tiles, which cannot be put together here; save it as jpg or png")
    frame = first_frame(container, path, pictures[0])
    if frame is None or frame.is_corrupt:
        raise corrupt_image(path)
    return FrameConverter(shape_of(container, path, pictures[0], frame))(frame)


def check_jpeg_end(path: Path) -> None:
    """Raise `MediaError` for a JPEG that was cut short: FFmpeg fills the missing part with grey and says nothing.

    Only the first picture counts: what phones append to it, a film say, may hold any bytes.
    """
    data = path.read_bytes()
    if data.startswith(b"\xff\xd8") and not _reaches_end(data):
        raise MediaError(f"{path}: the image is cut short; copy or download it again")


def _reaches_end(data: bytes) -> bool:
    """Whether the segments of a JPEG lead to its end mark."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        mark = data[place + 1]
        if mark == 0xD9:
            return True
        # In the coded picture 0xFF is followed by 0 or a restart mark; before a mark it may be repeated.
        if mark == 0x00 or mark == 0x01 or 0xD0 <= mark <= 0xD8:
            place += 2
        elif mark == 0xFF:
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def write_image(path: str | Path, frame: np.ndarray, quality: int = 95) -> None:
    """Write a still image whose kind follows from the suffix; the file appears complete or not at all.

    Args:
        path: .png, .jpg, .bmp, .webp or .tiff; folders are made.
        frame: (H, W, 3) uint8 RGB; for .png also (H, W, 4) RGBA, colours not premultiplied.
        quality: JPEG quality, 0 to 100.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: unknown image suffix; use one of {', '.join(sorted(IMAGE_SUFFIXES))}")
    channels = (3, 4) if path.suffix.lower() == ".png" else (3,)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in channels:
        raise ValueError(f"{path}: an image must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
    order = [2, 1, 0, 3][: frame.shape[2]]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in {".jpg", ".jpeg"} else []
    done, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(frame[..., order]), options)
    if not done:
        raise ValueError(f"{path}: the image could not be encoded as {path.suffix}")
    with atomic_output(path) as temporary:
        temporary.write_bytes(data.tobytes())
