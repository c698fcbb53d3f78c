"""Lips that are closed while nobody speaks."""

from __future__ import annotations

import numpy as np

from talkingface.faces.boxes import runs
from talkingface.lipsync.pauses import quiet_frames
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.models.makeittalk.mouth import close_portrait

_SHORTEST = 13  # rows, 0.2 s: less is a closure inside a word
_EDGE = 0.1  # seconds beside speech in which lips close, and open again
_SIDE = 0.7  # share of the way that outer lips next to the corners close


def closed_in_silence(faces: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Faces (T, 68, 3), 62.5 per second, whose lips are closed in the pauses of the sound (n,) at 16 kHz."""
    share = silent_share(samples, len(faces))[:, None, None]
    return faces + share * (close_portrait(faces, 1.0, _SIDE) - faces)


def silent_share(samples: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) 1 within pauses and 0 in speech, with ramps between that lie in the pauses.

    Before the sound and after it there is silence, so a pause at either end needs no ramp there.
    """
    share, edge = np.zeros(rows), round(_EDGE * ROWS_PER_SECOND)
    for start, stop in runs(quiet_frames(samples, rows, ROWS_PER_SECOND, run=_SHORTEST, edge=0)):
        rising = np.full(stop - start, np.inf) if start == 0 else np.arange(1, stop - start + 1) / edge
        falling = np.full(stop - start, np.inf) if stop == rows else np.arange(stop - start, 0, -1) / edge
        ramp = np.minimum(np.minimum(rising, falling), 1)
        share[start:stop] = ramp * ramp * (3 - 2 * ramp)
    return share
