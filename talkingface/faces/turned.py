"""Faces that do not stand upright: models draw an upright mouth, so a lying or upside-down face must be said."""

from __future__ import annotations

import numpy as np

from talkingface.faces.mesh import CHIN, FOREHEAD
from talkingface.faces.track import LandmarkProvider, LandmarkTrack

MOST = 50  # degrees: up to 45 the result is usable


def turn_of(track: LandmarkTrack, index: int, frame: np.ndarray, detector: LandmarkProvider) -> int:
    """By how many degrees, clockwise, a face is turned: -180 to 180, where 0 is upright.

    MediaPipe lays an upright mesh over a face that is upside down, mouth on forehead. Turned by a quarter, though, it
    tells left from right, and with it up from down.

    Args:
        track: face-mesh landmarks.
        index: a frame in which the face was detected.
        frame: that frame, (H, W, 3) uint8 RGB.
        detector: looks at every frame by itself.
    """
    points = track.points_px[index]
    angle = _angle(points)
    if abs(angle) > MOST:
        return angle
    faces = detector.detect(np.ascontiguousarray(np.rot90(_around(frame, points))))
    # A quarter to the left of an upright face lies at -90 degrees.
    return 180 if faces and 45 < _angle(faces[0]) < 135 else angle


def _angle(points: np.ndarray) -> int:
    x, y = points[CHIN, :2] - points[FOREHEAD, :2]
    return round(float(np.degrees(np.arctan2(-x, y))))


def _around(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face with as much around it again on every side."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = (high - low).max()
    left, top = np.maximum(low - side, 0).astype(int)
    right, bottom = (high + side).astype(int)
    return frame[top:bottom, left:right]
