"""Single face crops as files: JPEG and PNG in both directions, decoded no larger than they are wanted."""

from __future__ import annotations

from typing import Literal

import numpy as np

from talkingface.errors import DataError
from talkingface.stored.pictures import jpeg_size, png_size

SizeHW = tuple[int, int]
_REDUCTIONS = (8, 4, 2)  # what a JPEG decoder leaves out of its blocks of 8x8 it need not compute


def decode(data: bytes, kind: Literal["jpeg", "png"], size_hw: SizeHW, wanted: SizeHW | None = None) -> np.ndarray:
    """RGB uint8 picture (H, W, 3) of a file.

    Args:
        data: the file.
        kind: of file.
        size_hw: what it must unfold to.
        wanted: size of the result, by means over areas where it is smaller; None: `size_hw`.

    Raises:
        ValueError: it is damaged, or of another size.
    """
    import cv2

    # Only what is announced is decoded: a small file may unfold into any number of pixels.
    if (png_size if kind == "png" else jpeg_size)(data) != size_hw:
        raise ValueError("no picture of the announced size")
    factor = _reduction(size_hw, wanted) if kind == "jpeg" and wanted else 1
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags.get(factor, cv2.IMREAD_REDUCED_COLOR_8))
    if picture is None or picture.shape[:2] != tuple(-(-side // factor) for side in size_hw):
        raise ValueError("damaged")
    return resized(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), wanted or size_hw)


def _reduction(size_hw: SizeHW, wanted: SizeHW) -> int:
    """By how much the decoder may shrink a picture that is to be not smaller than wanted afterwards."""
    fitting = (f for f in _REDUCTIONS if all(side // f >= least for side, least in zip(size_hw, wanted)))
    return next(fitting, 1)


def resized(picture: np.ndarray, size_hw: SizeHW) -> np.ndarray:
    """A picture (H, W, 3) uint8 at another size: means over areas where it shrinks, else bilinear."""
    import cv2

    if picture.shape[:2] == size_hw:
        return picture
    shrinks = picture.shape[0] >= size_hw[0] and picture.shape[1] >= size_hw[1]
    return cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
    """JPEG file of an RGB uint8 picture (H, W, 3)."""
    import cv2

    # 4:4:4: lips and teeth are small and coloured; subsampled chroma costs more there than the bytes it saves.
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    return _encode(picture, ".jpg", options)


def encode_png(picture: np.ndarray) -> bytes:
    """PNG file of an RGB uint8 picture (H, W, 3)."""
    return _encode(picture, ".png", [])


def _encode(picture: np.ndarray, suffix: str, options: list[int]) -> bytes:
    import cv2

    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DataError(f"a face crop could not be encoded as {suffix}")
    return data.tobytes()
