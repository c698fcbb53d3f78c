"""What is seen behind a transparent source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talkingface.clips.source import Source
from talkingface.errors import DataError
from talkingface.media.clear import holds_opacity
from talkingface.media.opacity import Backdrop, straight
from talkingface.media.pixels import read_image


class Backing:
    """What is behind frames that something shines through.

    Args:
        picture: (H, W, 3) uint8 RGB; None: white.
        kept: the frames keep their opacity, and nothing is behind them.
    """

    def __init__(self, picture: np.ndarray | None = None, kept: bool = False) -> None:
        self.picture, self.kept = picture, kept
        self._backdrop: Backdrop | None = None

    @classmethod
    def of(cls, asked: str | None, source: Source, draws_opacity: bool, output: Path) -> Backing:
        """As asked for, else the source's own background, else none where the output can be transparent, else white.

        Args:
            asked: `white`, `transparent`, a picture file, or None.
            source: what speaks.
            draws_opacity: whether the model tells how opaque its frames are.
            output: file or folder to write.

        Raises:
            DataError: nothing of the source is transparent, or the output cannot be.
            MediaError: the picture is missing or damaged.
        """
        if not draws_opacity or source.opacity() is None:
            if asked is not None:
                raise DataError(f"{source.path}: nothing of it is transparent, so --background would not be seen")
            return cls()
        if asked == "transparent" and not holds_opacity(output):
            raise DataError(f"{output}: cannot be transparent; write a .mov file, or a folder of PNG pictures")
        if asked == "transparent" or (asked is None and source.background is None and holds_opacity(output)):
            return cls(kept=True)
        if asked == "white":
            return cls()
        path = source.background if asked is None else Path(asked)
        return cls() if path is None else cls(read_image(path))

    def put(self, frame: np.ndarray, opacity: np.ndarray | None) -> np.ndarray:
        """A frame as it is written.

        Args:
            frame: (H, W, 3) uint8 RGB as seen on white.
            opacity: (H, W) uint8; None: all of it is opaque.

        Returns:
            (H, W, 3) RGB, or (H, W, 4) RGBA where it keeps its opacity.
        """
        if self.kept:
            return straight(frame, np.full(frame.shape[:2], 255, np.uint8) if opacity is None else opacity)
        if opacity is None or self.picture is None:
            return frame
        if self._backdrop is None:
            self._backdrop = Backdrop(self.picture, frame.shape[:2])
        return self._backdrop.behind(frame, opacity)
