"""Which frames of a clip are drawn together: those whose mouth is hidden, and the references of each.

Both rules are indices of what may be drawn, made once per clip: whatever they give can be used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from talkingface.clips.windows import window_starts
from talkingface.faces.dubbing_crop import BLOCK
from talkingface.faces.ibug68 import eye_distances, mouth_openings
from talkingface.networks.dubbing.encoders import REFERENCES

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack

Rule = Literal["anywhere", "published"]
Lending = Literal["random", "spread"]

_BETWEEN = np.array([0, 0.125, 0.375, 0.625, 0.875, 1.0])
"""Shares of the lenders, from the most closed to the most open mouth, between which each of five is drawn."""

_MIDDLE = slice(2, 7)
"""Of a block the frames to be drawn; two on both sides are there for their sound alone."""


class Sampling(ABC):
    """What may be drawn of one clip.

    Attributes:
        starts: (n,) rising first frames of windows that can be drawn; without any the clip is of no use.
    """

    starts: np.ndarray

    @abstractmethod
    def references(self, start: int, frame: int, rng: np.random.Generator) -> np.ndarray:
        """(5,) different frames that show a frame of the window at `start` what the face looks like."""


class Anywhere(Sampling):
    """Windows from any frame, references from all frames but those around the one that is drawn.

    Args:
        valid: (F,) bool, frames with a face.
        found: (F,) bool, those whose face was detected: only they lend.
        sounding: frames with sound around them.
        shown: T, frames of a window.
        distance: frames between a frame and its references, at least.
        openings: (F,) of the mouths: references are spread over them, the most closed one first, as generation takes
            them; None: any.
    """

    def __init__(
        self,
        valid: np.ndarray,
        found: np.ndarray,
        sounding: range,
        shown: int,
        distance: int,
        openings: np.ndarray | None = None,
    ) -> None:
        self.lenders, self.distance, self.openings = np.flatnonzero(found), distance, openings
        frames = np.arange(len(valid))
        near = np.searchsorted(self.lenders, [frames - distance + 1, frames + distance])
        enough = len(self.lenders) - (near[1] - near[0]) >= REFERENCES
        inside = (frames >= sounding.start) & (frames < sounding.stop)
        self.starts = window_starts(valid & enough & inside, shown)

    def references(self, start: int, frame: int, rng: np.random.Generator) -> np.ndarray:
        """See `Sampling.references`."""
        far = self.lenders[np.abs(self.lenders - frame) >= self.distance]
        if self.openings is None:
            return rng.choice(far, REFERENCES, replace=False)
        return spread_over(far[np.argsort(self.openings[far], kind="stable")], rng)


def opening_of(track: LandmarkTrack) -> np.ndarray:
    """(F,) area of the open mouth over the squared distance of the eyes.

    Raises:
        DataError: the provider finds boxes only.
    """
    points = track.ibug68().astype(np.float64)
    return mouth_openings(points) / eye_distances(points) ** 2


def spread_over(ordered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(5,) different ones of frames (n,), n >= 5, in their order: about the first, those at the quarters, the last."""
    bounds = np.round(_BETWEEN * len(ordered)).astype(int)
    return ordered[rng.integers(bounds[:-1], bounds[1:])]


class Blocks(Sampling):
    """Published: the clip is cut into blocks of 9 frames, and six different ones give source and references.

    A window of several frames is the middle of its block, whose own frames may then lend as well.

    Args:
        valid: (F,) bool, frames with a face.
        sounding: frames with sound around them.
        shown: T, frames of a window, 1 or 5.
    """

    def __init__(self, valid: np.ndarray, sounding: range, shown: int) -> None:
        count = len(valid) // BLOCK
        whole = valid[: count * BLOCK].reshape(count, BLOCK).all(axis=1)
        self.lenders, self.shown = np.flatnonzero(whole), shown
        middles = (self.lenders[:, None] * BLOCK + np.arange(BLOCK))[:, _MIDDLE]
        inside = (middles[:, 0] >= sounding.start) & (middles[:, -1] < sounding.stop)
        known = middles[inside & (len(self.lenders) > REFERENCES)]
        self.starts = known.ravel() if shown == 1 else known[:, 0]

    def references(self, start: int, frame: int, rng: np.random.Generator) -> np.ndarray:
        """See `Sampling.references`."""
        others = self.lenders if self.shown > 1 else self.lenders[self.lenders != start // BLOCK]
        return rng.choice(others, REFERENCES, replace=False) * BLOCK + rng.integers(BLOCK, size=REFERENCES)
