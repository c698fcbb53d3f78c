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


class Portrait(NamedTuple):
    """A picture with a face.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        points: (68, 2) its landmarks in pixels.
    """

    picture: np.ndarray
    points: np.ndarray


class Group(NamedTuple):
    """Frames of a video that one portrait serves; `serves` (F,) bool."""

    serves: np.ndarray
    portrait: Portrait


def choose_portraits(source: Source, track: LandmarkTrack) -> list[Group]:
    """The picture with the most closed lips, of the reference video where there is one.

    Where the output is compared with this very video and there is no other, each half of it is served by the other one.

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
        groups.append(Group(group.serves, Portrait(lender.read([chosen])[0], points[chosen])))
    return groups
