"""Lips that are closed while nobody speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talkingface.faces.boxes import runs
from talkingface.lipsync.pauses import Loudness, quiet_frames
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.models.makeittalk.mouth import close_portrait

if TYPE_CHECKING:
    from talkingface.clips.source import Audio

_SHORTEST = 13  # rows, 0.2 s: less is a closure inside a word
_EDGE = 0.1  # seconds beside speech in which lips close, and open again
_SIDE = 0.7  # share of the way that outer lips next to the corners close


def closed_in_silence(faces: np.ndarray, audio: Audio) -> np.ndarray:
    """Faces (T, 68, 3), 62.5 per second, whose lips are closed in the pauses of the sound at 16 kHz.

    In a window out of a longer voice a pause is what is quiet beside the loudest that was heard until now.
    """
    loudest = audio.going_on("loudness", Loudness).hear(audio.samples, len(faces), ROWS_PER_SECOND)
    share = silent_share(audio.samples, len(faces), loudest)[:, None, None]
    return faces + share * (close_portrait(faces, 1.0, _SIDE) - faces)


def silent_share(samples: np.ndarray, rows: int, loudest: float = 0.0) -> np.ndarray:
    """(rows,) 1 within pauses and 0 in speech, with ramps between that lie in the pauses.

    Before the sound and after it there is silence, so a pause at either end needs no ramp there.

    Args:
        samples: (n,) at 16 kHz.
        rows: 62.5 per second.
        loudest: power of a louder row than all of these, where one is known.
    """
    share, edge = np.zeros(rows), round(_EDGE * ROWS_PER_SECOND)
    quiet = quiet_frames(samples, rows, ROWS_PER_SECOND, loudest=loudest, run=_SHORTEST, edge=0)
    for start, stop in runs(quiet):
        rising = np.full(stop - start, np.inf) if start == 0 else np.arange(1, stop - start + 1) / edge
        falling = np.full(stop - start, np.inf) if stop == rows else np.arange(stop - start, 0, -1) / edge
        ramp = np.minimum(np.minimum(rising, falling), 1)
        share[start:stop] = ramp * ramp * (3 - 2 * ramp)
    return share
