"""Which frames may lend a face their identity: the one place that keeps a frame from being made from itself.

In an evaluation the generated frames are compared with the very video they are made of. A model that saw the frame's
own mouth among its references would only have to copy it; its figures would say nothing, and nobody would notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from talkingface.clips.source import Source


class Lender(NamedTuple):
    """Frames that may serve others as references.

    Attributes:
        serves: (F,) bool, the frames of the source that are served.
        candidates: frame numbers of the lending video, rising; empty where no frame is left to lend.
    """

    serves: np.ndarray
    candidates: np.ndarray


def lenders(
    source: Source | None, found: np.ndarray, lending: np.ndarray | None = None, *, apart: bool = False
) -> list[Lender]:
    """Who lends to whom.

    All frames whose face was detected lend to all, unless the output is compared with this very video
    (`source.held_out`): then the references come from `source.reference`, or for each half of the video from the other
    half.

    Args:
        source: what is redrawn; None for a prepared clip, with `apart`.
        found: (F,) bool, its frames whose face was detected; what was bridged between them may show anything.
        lending: (G,) bool, the same of `source.reference`, where there is one; None: the source lends to itself.
        apart: halves also where nothing is compared.

    Returns:
        Groups that together serve every frame once.
    """
    frames = np.arange(len(found))
    everyone = np.ones(len(found), bool)
    if lending is not None:
        return [Lender(everyone, np.flatnonzero(lending))]
    usable = np.flatnonzero(found)
    if not (apart or source.held_out):
        return [Lender(everyone, usable)]
    halves = _halves(frames < (len(found) + 1) // 2, usable)
    if len(usable) > 1 and not all(len(half.candidates) for half in halves):
        # All faces lie in one half of the film: then that half is halved.
        halves = _halves(frames < usable[(len(usable) + 1) // 2], usable)
    return halves


def _halves(first: np.ndarray, usable: np.ndarray) -> list[Lender]:
    return [Lender(first, usable[~first[usable]]), Lender(~first, usable[first[usable]])]
