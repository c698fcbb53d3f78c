"""From the displacements of both branches to landmarks over time. Official implementation of MakeItTalk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d

from talkingface.faces.ibug68 import LID_PAIRS, LIPS
from talkingface.faces.smoothing import smooth_rows
from talkingface.models.makeittalk.mouth import close_lips

if TYPE_CHECKING:
    from talkingface.clips.source import Audio

ROWS_PER_SECOND = 62.5
HEAD_WINDOW = 31
"""Rows over which the head's motion is smoothed."""

PORTRAIT_WINDOWS, PUPPET_WINDOWS = (15, 5), (17, 11)
"""Rows over which the face and its lips are smoothed before they are drawn."""

_SETTLED = 5  # rows over which all is smoothed lightly
_BLINK_BEFORE, _BLINK_AFTER = 10, 15  # rows that a blink takes
_FIRST_BLINK, _BLINK_GAP, _BLINK_RANGE = 30, 60, (30, 90)  # rows
_NARROWED = 0.05  # share of the way that lids come together in every frame
_SHUT = 0.75  # where lids meet, on the way from the upper to the lower one


def rows_before(audio: Audio) -> float:
    """Rows of the voice before those of a window out of it; they need not begin where a row of the whole does."""
    return audio.before / audio.sample_rate * ROWS_PER_SECOND


class Amplitudes(NamedTuple):
    """By how much motion is enlarged.

    Attributes:
        lip_x: displacements of the lips across.
        lip_y: and along the face.
        position: all that the speaker branch gives.
    """

    lip_x: float = 1.0
    lip_y: float = 1.0
    position: float = 1.0


PLAIN = Amplitudes()
PUBLISHED_AMPLITUDES = Amplitudes(2.0, 2.0, 0.5)
"""Of the published weights."""


def calibrated(displacements: np.ndarray) -> np.ndarray:
    """Displacements (T, 204) less the mean of the smaller half of each column.

    It takes off the bias of the published weights; for weights without one it makes lips worse.
    """
    half = max(1, len(displacements) // 2)
    smaller = np.partition(displacements, half - 1, axis=0)[:half]
    return displacements - smaller.mean(axis=0)


def amplified(displacements: np.ndarray, amplitudes: Amplitudes) -> np.ndarray:
    """Displacements (T, 204) with larger lips."""
    points = displacements.reshape(len(displacements), -1, 3).copy()
    points[:, LIPS, 0] *= amplitudes.lip_x
    points[:, LIPS, 1] *= amplitudes.lip_y
    return points.reshape(displacements.shape)


def combined(
    head: np.ndarray, content: np.ndarray, amplitudes: Amplitudes = PLAIN, calibrate: bool = False
) -> np.ndarray:
    """Displacements (T, 204) of both branches, to be added to the face at rest.

    Args:
        head: (T, 204) of the speaker branch; its lips are closed: they belong to the content.
        content: (T, 204) of the content branch.
        amplitudes: by how much either is enlarged.
        calibrate: see `calibrated`.
    """
    window = min(len(head) - 1, HEAD_WINDOW) // 2 * 2 + 1
    still = close_lips(smooth_rows(head, window).reshape(len(head), -1, 3)).reshape(head.shape)
    spoken = calibrated(content) if calibrate else content
    return amplitudes.position * still + amplified(spoken, amplitudes)


def face_steps(rows: np.ndarray) -> np.ndarray:
    """How far faces (T, 204) move at each row (T,): the longest step of a point to it or, before smoothing, near it."""
    points = rows.reshape(len(rows), -1, 3)
    steps = np.linalg.norm(np.diff(points, axis=0, prepend=points[:1]), axis=-1).max(axis=-1)
    return maximum_filter1d(steps, 2 * _SETTLED - 1, mode="nearest")


def settled(rows: np.ndarray) -> np.ndarray:
    """Landmarks (T, 204) smoothed lightly, the bridge of the nose made straight: the networks leave its top alone."""
    points = rows.reshape(len(rows), -1, 3).copy()
    points[:, 27] = 2 * points[:, 28] - points[:, 29]
    return smooth_rows(points.reshape(rows.shape), _SETTLED)


def smoothed(rows: np.ndarray, windows: tuple[int, int] = PORTRAIT_WINDOWS) -> np.ndarray:
    """Landmarks (T, 204) smoothed over time, the lips less than the rest."""
    lips = 3 * LIPS.start
    return np.concatenate([smooth_rows(rows[:, :lips], windows[0]), smooth_rows(rows[:, lips:], windows[1])], axis=1)


def blink_centres(length: int, seed: int = 0, rate: float = 1.0, before: float = 0.0) -> list[int]:
    """Rows of `length` in which the eyes are shut, none whose blink would not begin and end there.

    Args:
        length: rows.
        seed: published: 0.
        rate: blinks in the time that the published rule takes for one; 0: none.
        before: rows of a longer voice before these; its blinks are counted from its beginning.
    """
    random, centres, now = np.random.RandomState(seed), [], _FIRST_BLINK
    while rate and now < before + length - _BLINK_AFTER - 1:
        if now >= before + _BLINK_BEFORE:
            centres.append(round(now - before))
        gap = _BLINK_GAP + random.randint(*_BLINK_RANGE)
        # Two blinks never run into each other.
        now += max(round(gap / rate), _BLINK_BEFORE + _BLINK_AFTER)
    return centres


def blinking(faces: np.ndarray, centres: list[int]) -> np.ndarray:
    """Faces (T, 68, 3) over time whose lids are a little closer to each other, and shut in the given rows."""
    faces = faces.copy()
    upper, lower = (list(points) for points in LID_PAIRS)
    above, below = faces[:, upper], faces[:, lower]
    faces[:, upper] = (1 - _NARROWED) * above + _NARROWED * below
    faces[:, lower] = (1 - _NARROWED) * below + _NARROWED * above
    for centre in centres:
        _blink(faces, centre, upper, lower)
    return faces


def _blink(faces: np.ndarray, centre: int, upper: list[int], lower: list[int]) -> None:
    """Shut the eyes in row `centre`, and lead up to it and away from it, in place."""
    lids = [*upper, *lower]
    faces[centre, upper] = faces[centre, lower] = (1 - _SHUT) * faces[centre, upper] + _SHUT * faces[centre, lower]
    shut = faces[centre, lids]
    start, end = centre - _BLINK_BEFORE, centre + _BLINK_AFTER
    opened, opening = faces[start, lids], faces[end, lids]
    for now in range(start + 1, centre):
        share = (centre - now) / _BLINK_BEFORE
        faces[now, lids] = share * opened + (1 - share) * shut
    for now in range(centre + 1, end):
        # Kept: one row ahead, so that the eyes open a little at once.
        share = (end - 1 - now) / _BLINK_AFTER
        faces[now, lids] = share * shut + (1 - share) * opening
