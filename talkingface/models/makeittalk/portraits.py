"""Which picture of a person lends its face when the mouth of a video is redrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talkingface.clips.references import lenders
from talkingface.errors import NoFaceError
from talkingface.faces.ibug68 import eye_distances, mouth_openings

if TYPE_CHECKING:
    from talkingface.clips.source import Source
    from talkingface.faces.track import LandmarkTrack

_APART = 4  # frames: 0.16 s, as the faces that training looks at


class Portrait(NamedTuple):
    """A picture with a face.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        points: (68, 2) its landmarks in pixels.
    """

    picture: np.ndarray
    points: np.ndarray


class Group(NamedTuple):
    """Frames of a video that one portrait serves.

    Attributes:
        serves: (F,) bool.
        portrait: their portrait.
        resting: (n, 68, 2) faces of the same person with closed lips, in pixels of their frames.
    """

    serves: np.ndarray
    portrait: Portrait
    resting: np.ndarray


def choose_portraits(source: Source, track: LandmarkTrack, resting: int = 1) -> list[Group]:
    """The picture with the most closed lips, of the reference video where there is one.

    Where the output is compared with this very video and there is no other, each half of it is served by the other one.

    Args:
        source: the video.
        track: its landmarks.
        resting: faces at rest to be told for each portrait.

    Raises:
        NoFaceError: no frame may lend its face.
    """
    lender = source.reference or source
    lent = lender.landmarks() if source.reference is not None else track
    lending = lent.found if source.reference is not None else None
    points = lent.ibug68().astype(np.float64)
    groups = []
    for group in lenders(source, track.found, lending):
        candidates = group.candidates if len(group.candidates) else np.flatnonzero(lent.found)
        if not len(candidates):
            raise NoFaceError(f"{lender.path}: no frame with a face that could serve as portrait")
        openness = mouth_openings(points[candidates]) / eye_distances(points[candidates]) ** 2
        chosen = int(candidates[openness.argmin()])
        closed = candidates[_closed(openness, resting)]
        groups.append(Group(group.serves, Portrait(lender.read([chosen])[0], points[chosen]), points[closed]))
    return groups


def _closed(openness: np.ndarray, count: int) -> np.ndarray:
    """The most closed of frames with an openness (n,): `count` of them, or all there are."""
    # Frames next to each other show one moment: several are taken apart, as in training.
    apart = _APART if count > 1 and len(openness) >= _APART * count else 1
    return apart * np.argsort(openness[::apart], kind="stable")[:count]
