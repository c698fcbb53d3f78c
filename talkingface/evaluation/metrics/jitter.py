"""Trembling: how far landmarks and pixels are from moving evenly, measured by second differences over three frames.

Real faces accelerate too, and the detector adds noise of its own: what counts is how far a row lies above the `real`
one. Below it is no merit, a frozen picture has none.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar

import cv2
import numpy as np

from talkingface.evaluation.metric import Figure, Metric, mean_of
from talkingface.evaluation.metrics.lmd import LIPS, interocular
from talkingface.evaluation.sample import EvalSample

UPPER = slice(17, 48)
"""Brows, nose and eyes: points that speech itself does not move."""
_READ = "; compare with the real row, below it is no merit"


def second_difference(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Length of `p[t+1] - 2 p[t] + p[t-1]` of every point.

    Args:
        points: (F, K, 2) positions.
        found: (F,) bool; only triples of consecutive frames that are all found count.

    Returns:
        (n, K), one line for every such triple, in the unit of the points.
    """
    before, middle, after = _triples(points.astype(np.float64), found)
    return np.linalg.norm(after - 2 * middle + before, axis=-1)


def mouth_jitter(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Length of the second difference of every lip point, in a picture that moves with the upper face.

    The frames before and after are laid onto the middle one by the shift, turn and scale that bring their brows, nose
    and eyes closest to its own (least squares). What remains is the mouth's own motion: a head that moves as a whole
    has none, however fast. A nod or a turn in space is taken out as far as it looks like a turn in the picture.

    Args:
        points: (F, 68, 2) positions.
        found: (F,) bool; only triples of consecutive frames that are all found count.

    Returns:
        (n, 20), one line for every such triple, in the unit of the points and at the size of the middle frame.
    """
    plane = points.astype(np.float64) @ np.array([1, 1j])  # (F, 68): multiplying turns and scales at once
    # Around the centre of its own upper face, so that a frame equal to its neighbours gives exactly zero.
    centred = plane - plane[:, UPPER].mean(axis=1, keepdims=True)
    before, middle, after = _triples(centred, found)
    change = _turned_onto(middle, after) - 2 * middle + _turned_onto(middle, before)
    return np.abs(change[:, LIPS])


def _triples(values: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (F, ...) of the first, second and third frames of all triples of frames that are found: (n, ...) each."""
    together = found[:-2] & found[1:-1] & found[2:]
    return values[:-2][together], values[1:-1][together], values[2:][together]


def _turned_onto(target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Centred points (n, 68), complex, turned and scaled so that the upper faces fit best."""
    upper = points[:, UPPER]
    fit = (upper.conj() * target[:, UPPER]).sum(axis=1) / (upper.conj() * upper).sum(axis=1)
    return fit[:, None] * points


def pixel_jitter(frames: Iterable[np.ndarray], faces: np.ndarray, mouths: np.ndarray) -> list[float]:
    """Mean size of the second difference of the grey level, in the face and outside the mouth, for every three frames.

    Args:
        frames: (H, W, 3) uint8 RGB, consumed once; three are held.
        faces: (F, 4) boxes of the face; that of the middle frame is used.
        mouths: (F, 4) boxes of the mouth.

    Returns:
        Grey levels, one value for each of the F - 2 middle frames, NaN where it has no box.
    """
    values = []
    held: deque[np.ndarray] = deque(maxlen=3)
    for index, frame in enumerate(frames):
        held.append(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.int16))
        if len(held) == 3:
            middle = index - 1
            known = middle < min(len(faces), len(mouths))
            values.append(_outside(held, faces[middle], mouths[middle]) if known else math.nan)
    return values


def _outside(held: Iterable[np.ndarray], face: np.ndarray, mouth: np.ndarray) -> float:
    """Mean over the pixels of the face box that the mouth box does not touch."""
    if not (np.isfinite(face).all() and np.isfinite(mouth).all()):
        return math.nan
    x1, y1 = np.floor(face[:2]).astype(int)
    x2, y2 = np.ceil(face[2:]).astype(int)
    before, middle, after = (grey[y1:y2, x1:x2] for grey in held)
    change = np.abs(after - 2 * middle + before)
    counted = np.ones(change.shape, bool)
    left, top = np.floor(mouth[:2]).astype(int) - (x1, y1)
    right, bottom = np.ceil(mouth[2:]).astype(int) - (x1, y1)
    counted[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
    return float(change[counted].mean()) if counted.any() else math.nan


class Jitter(Metric):
    """Trembling of landmarks, of the mouth by itself, and of the picture off the mouth."""

    name = "JITTER"
    needs_landmarks = True
    per_frame = True
    figures: ClassVar[dict[str, Figure]] = {
        "jitter": Figure("px", False, f"second difference of all landmarks over time{_READ}"),
        "jitter_iod": Figure("eye distances", False, f"the same, over the real video's inter-ocular distance{_READ}"),
        "jitter_upper": Figure("px", False, f"the same, of brows, eyes and nose, which speech does not move{_READ}"),
        "jitter_mouth": Figure("px", False, f"the same, of the lips once the upper face's motion is taken out{_READ}"),
        "jitter_pixels": Figure("grey levels", False, f"of pixels of the face outside the mouth's box{_READ}"),
    }

    def definition(self) -> dict[str, Any]:
        """Layout and region, and what the lips' motion is measured against."""
        return {
            "jitter": {"layout": "ibug68", "pixels": "face box less mouth box of the real video"},
            "jitter_mouth": {"aligned": "brows, nose and eyes laid onto the middle frame by shift, turn and scale"},
        }

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Means over triples of consecutive frames; a face must be *detected* in all three."""
        track = sample.generated_track()
        points = track.ibug68()
        change, lips = second_difference(points, track.found), mouth_jitter(points, track.found)
        real = sample.real_track()
        eyes = interocular(real.ibug68()[real.found].astype(np.float64))
        total = max(len(track) - 2, 0)
        for key in ("jitter", "jitter_iod", "jitter_upper", "jitter_mouth"):
            sample.count(key, len(change), total - len(change))
        boxes = sample.boxes("face"), sample.boxes("mouth")
        pixels, frames, excluded = mean_of(pixel_jitter((made for made, _ in sample.pairs()), *boxes))
        sample.count("jitter_pixels", frames, excluded)
        whole = _mean(change)
        return {
            "jitter": whole,
            "jitter_iod": whole / float(np.median(eyes)) if len(eyes) else math.nan,
            "jitter_upper": _mean(change[:, UPPER]),
            "jitter_mouth": _mean(lips),
            "jitter_pixels": pixels,
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
