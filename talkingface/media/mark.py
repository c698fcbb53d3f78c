"""The mark that a video is synthetic: in the metadata of every generated file, and in its frames on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talkingface.media.info import open_media
from talkingface.version import __version__

WORD = "SYNTHETIC"
"""What is written into frames."""

# The term that the IPTC gives to a recording of which a part was made by a trained model.
_DIGITAL_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_BEGIN = "Synthetic video: "
_HEIGHT = 0.035  # of the letters, as a share of the frame's height
_LEAST_PIXELS = 7
_DISTANCE = 0.02  # to the edges, likewise


def synthetic_comment(model: str) -> str:
    """What the metadata of a generated video say."""
    return f"{_BEGIN}made by a computer program (talkingface {__version__}, {model}). {_DIGITAL_SOURCE}"


def read_mark(path: str | Path) -> str:
    """What the metadata of a video say about how it was made; empty where they say nothing.

    Raises:
        MediaError: the file is missing or damaged.
    """
    with open_media(path) as container:
        comment = {key.lower(): value for key, value in container.metadata.items()}.get("comment", "")
    return comment if comment.startswith(_BEGIN) else ""


def draw_mark(frame: np.ndarray) -> np.ndarray:
    """A copy of a frame with the word SYNTHETIC in its lower left corner, white with a dark rim.

    Args:
        frame: (H, W, 3) uint8 RGB, or (H, W, 4) RGBA.
    """
    import cv2

    marked = np.ascontiguousarray(frame).copy()
    height, width = frame.shape[:2]
    font, wanted = cv2.FONT_HERSHEY_SIMPLEX, max(_LEAST_PIXELS, round(_HEIGHT * height))
    scale = cv2.getFontScaleFromHeight(font, wanted, 1)
    room = width - 2 * round(_DISTANCE * width)
    scale *= min(1.0, room / cv2.getTextSize(WORD, font, scale, 1)[0][0])  # also on a narrow frame all of it is seen
    stroke = max(1, round(wanted / 10))
    place = (round(_DISTANCE * width), height - max(2, round(_DISTANCE * height)))
    cv2.putText(marked, WORD, place, font, scale, (0, 0, 0, 255), stroke + 2, cv2.LINE_AA)
    cv2.putText(marked, WORD, place, font, scale, (255, 255, 255, 255), stroke, cv2.LINE_AA)
    return marked
