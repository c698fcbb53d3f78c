"""Audio swap: one face, two voices. Does the mouth change when only the audio changes, and what else does?

Compares the `shuffled` row's video with the one that the same system made with the clip's own audio. Other rows have no
such counterpart and get no figures.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from talkingface.errors import DataError
from talkingface.evaluation.metric import Figure, Metric, mean_of
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.regions import crop
from talkingface.lipsync.mouth_motion import opening


def root_mean_square(series: np.ndarray) -> float:
    """Root of the mean of the squares of the finite values, NaN without any."""
    finite = series[np.isfinite(series)]
    return float(np.sqrt(np.square(finite).mean())) if len(finite) else math.nan


def response(made: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray]) -> tuple[float, int, int]:
    """How much the mouth opening changes with the audio, compared with people.

    Args:
        made: openings (F,) of the two generated videos, NaN where unknown.
        true: openings (F,) of the two real videos that the two audios belong to.

    Returns:
        RMS difference of the generated openings over RMS difference of the true ones, over the frames in which all four
        are known (NaN when the true ones are equal); how many those are, and how many others.
    """
    length = min(map(len, (*made, *true)))
    # Four videos may have four lengths: frames that all of them have.
    parts = np.stack([series[:length] for series in (*made, *true)])
    known = np.isfinite(parts).all(axis=0)
    first, second, third, fourth = parts[:, known]
    # As much as people's mouths differ when they say these two things: the unit of the figure.
    people = root_mean_square(third - fourth)
    ratio = root_mean_square(first - second) / people if people > 0 else math.nan
    return ratio, int(known.sum()), int(length - known.sum())


def frame_change(first: np.ndarray, second: np.ndarray, box: np.ndarray) -> tuple[float, float]:
    """Mean absolute difference of two frames (H, W, 3) uint8 inside and outside a box; NaN for a part that is empty."""
    # uint8 would wrap around below zero.
    change = np.abs(first.astype(np.int16) - second)
    inside = crop(change, box)
    if inside is None:
        return math.nan, math.nan
    # The outside is what is left of the sum: masking it would copy the frame.
    total, part = int(change.sum(dtype=np.int64)), int(inside.sum(dtype=np.int64))
    rest = change.size - inside.size
    return part / inside.size, (total - part) / rest if rest else math.nan


class AudioSwap(Metric):
    """Change of mouth and picture when only the audio changes."""

    name = "SWAP"
    needs_landmarks = True
    needs_rows = ("generated", "shuffled")
    figures: ClassVar[dict[str, Figure]] = {
        "swap_opening": Figure(
            "", None, "change of mouth opening with the audio over that of people; 1: as much, 0: the audio is ignored"
        ),
        "swap_mouth": Figure("grey levels", None, "change of the picture in the mouth's box when the audio changes"),
        "swap_rest": Figure(
            "grey levels", False, "change of the rest of the picture, which the audio should not touch"
        ),
    }

    def definition(self) -> dict[str, Any]:
        """What is compared."""
        pair = "the shuffled row's video and the generated row's, boxes of the real video"
        return {"swap": {"pair": pair}}

    def score(self, sample: EvalSample) -> dict[str, float]:
        """Means over the frames that both videos have; nothing for a row without counterpart."""
        if sample.counterpart is None:
            return {}
        result = {}
        other = sample.other_track()
        if other is not None:
            tracks = (sample.generated_track(), sample.counterpart_track()), (sample.real_track(), other)
            made, true = (tuple(opening(track, detected_only=True) for track in pair) for pair in tracks)
            result["swap_opening"], frames, excluded = response(made, true)
            sample.count("swap_opening", frames, excluded)
        changes = self._changes(sample)
        for key, column in (("swap_mouth", 0), ("swap_rest", 1)):
            result[key], frames, excluded = mean_of([change[column] for change in changes])
            sample.count(key, frames, excluded)
        return result

    @staticmethod
    def _changes(sample: EvalSample) -> list[tuple[float, float]]:
        """Change inside and outside the mouth in every frame that both videos have."""
        boxes = sample.boxes("mouth")
        changes = []
        for swapped, own, box in zip(sample.generated_frames(), sample.counterpart_frames(), boxes, strict=False):
            if swapped.shape != own.shape:
                raise DataError(f"{sample.generated}: its frames are not as large as those of {sample.counterpart}")
            changes.append(frame_change(swapped, own, box))
        return changes
