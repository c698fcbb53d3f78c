"""Which of several faces is the speaker: one is chosen in every frame, and others beside it are noticed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from talkingface.media.shots import THRESHOLD, content_change

Pick = Literal["largest", "tracked", "first"]

# Another face counts as of like size from this share of the chosen one's area on: 0.7 of its sides.
_ALIKE = 0.5


class Follower:
    """Chooses one face per frame.

    Args:
        pick: see `track_faces`.
        max_gap: frames after which a face that is gone is lost.

    Attributes:
        alike: for every frame, whether another face of like size was in it.
        side: `left` or `right`, where the chosen face stood when such a face was first seen beside it; else empty.
    """

    def __init__(self, pick: Pick, max_gap: int) -> None:
        self.pick, self.max_gap = pick, max_gap
        self.alike: list[bool] = []
        self.side = ""
        self._last: np.ndarray | None = None
        self._gone = 0  # frames since `_last`
        self._previous: np.ndarray | None = None
        self._rivals = False  # whether this shot has shown a second face

    def choose(self, frame: np.ndarray, faces: list[np.ndarray]) -> np.ndarray | None:
        """The face to take of a frame (H, W, 3) uint8 RGB and its faces, (K, 2 or 3) in pixels each."""
        self._rivals = self._rivals or len(faces) > 1
        if self.pick == "first":
            face = faces[0] if faces else None
        elif self.pick == "largest":
            face = largest_face(faces)
        else:
            face = self._follow(frame, faces)
        self._note(face, faces)
        self._previous = frame
        return face

    def _follow(self, frame: np.ndarray, faces: list[np.ndarray]) -> np.ndarray | None:
        face = None if self._last is None else _nearest(faces, self._last)
        # One face in its place is the same person, or all that a new shot has: whether it is one matters only else.
        if (face is None or len(faces) > 1) and self._begins_anew(frame, faces):
            face, self._rivals = largest_face(faces), len(faces) > 1
        elif face is None and len(faces) == 1 and not self._rivals:
            face = faces[0]  # nobody else has been seen: the same person after a fast move, or who came instead
        self._last, self._gone = (self._last, self._gone + 1) if face is None else (face, 0)
        return face

    def _begins_anew(self, frame: np.ndarray, faces: list[np.ndarray]) -> bool:
        """Whether nobody is followed any more: at the start, after a cut, or when the face has been gone for long."""
        if self._last is None or self._gone > self.max_gap:
            return True
        if self._previous is not None and content_change(self._previous, frame) > THRESHOLD:
            self._last = None  # should this shot begin without a face, the next one is nobody we know
            return True
        return False

    def _note(self, face: np.ndarray | None, faces: list[np.ndarray]) -> None:
        others = [other for other in faces if other is not face]
        rival = largest_face(others)
        alike = face is not None and rival is not None and _ALIKE <= _area(rival) / max(_area(face), 1e-9) <= 1 / _ALIKE
        self.alike.append(alike)
        if alike and not self.side:
            self.side = "left" if face[:, 0].mean() < rival[:, 0].mean() else "right"


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of the boxes around two point sets."""
    low = np.maximum(first[:, :2].min(axis=0), second[:, :2].min(axis=0))
    high = np.minimum(first[:, :2].max(axis=0), second[:, :2].max(axis=0))
    common = float(np.prod(np.maximum(high - low, 0.0)))
    return common / max(_area(first) + _area(second) - common, 1e-9)


def _area(face: np.ndarray) -> float:
    return float(np.prod(np.ptp(face[:, :2], axis=0)))


def largest_face(faces: list[np.ndarray]) -> np.ndarray | None:
    """The face with the largest box; None without any."""
    return max(faces, key=_area, default=None)


def _nearest(faces: list[np.ndarray], last: np.ndarray) -> np.ndarray | None:
    """The face that overlaps `last` most; None when none does."""
    best = max(faces, key=lambda face: overlap(face, last), default=None)
    return best if best is not None and overlap(best, last) > 0 else None
