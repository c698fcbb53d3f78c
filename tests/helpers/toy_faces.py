"""A drawn face with a mouth, and a provider that reads its landmarks off the picture: exact, and without a detector."""

from __future__ import annotations

import numpy as np

SIZE, SEAM = 96, 64


def draw(opening, shade):
    """A grey face with a dark mouth `opening` pixels high; its shade tells the speaker."""
    frame = np.full((SIZE, SIZE, 3), 200, np.uint8)
    frame[12:88, 16:80] = shade
    half = round(opening / 2)
    frame[SEAM - half : SEAM + half, 36:60] = 10
    return frame


class ToyProvider:
    """Reads the mouth off the picture; a frame without a bright border has no face."""

    name, version, layout = "toy", "1", "ibug68"
    calls = 0

    def detect(self, frame):
        ToyProvider.calls += 1
        if frame[4, 4, 0] < 100:
            return []
        dark = np.clip((120.0 - frame[40:86, 44:52].astype(float).mean((1, 2))) / 110, 0, 1)
        points = np.zeros((68, 2), np.float32)
        points[:] = [48, 50]
        points[0], points[8], points[16] = [16, 50], [48, 87], [79, 50]
        points[17:27] = [48, 12]
        points[36:42], points[42:48] = [32, 35], [64, 35]
        points[48:60] = [48, SEAM]
        points[48], points[54] = [36, SEAM], [60, SEAM]
        points[62], points[66] = [48, SEAM - dark.sum() / 2], [48, SEAM + dark.sum() / 2]
        return [points]
