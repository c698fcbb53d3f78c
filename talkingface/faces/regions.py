"""Regions of the picture in which metrics look: boxes around face and mouth, from the real video's landmarks.

The same boxes cut the generated and the real frame, so that a displaced mouth costs points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talkingface.faces.mesh import LIPS_OUTER_20

if TYPE_CHECKING:
    from talkingface.faces.track import LandmarkTrack

MOUTH_MARGIN = 0.35
"""Added on every side of the lips' box, in mouth widths: takes in chin folds and the lower cheeks, not the nose."""


def region_boxes(track: LandmarkTrack, region: str) -> np.ndarray:
    """Box of a region in every frame.

    Args:
        track: landmarks of the video.
        region: `face` (around all landmarks) or `mouth` (around the outer lips, plus `MOUTH_MARGIN` mouth widths).

    Returns:
        (F, 4) float64 `(x1, y1, x2, y2)` pixels inside the frame; NaN in frames without a face.

    Raises:
        DataError: the mouth is asked for, but the provider finds face boxes only.
    """
    points = track.points_px[..., :2].astype(np.float64)
    if region == "mouth":
        track.require_points("the mouth region")
        points = points[:, 48:60] if track.layout == "ibug68" else points[:, list(LIPS_OUTER_20)]
    elif region != "face":
        raise ValueError(f"region must be face or mouth, got {region!r}")
    low, high = points.min(axis=1), points.max(axis=1)
    # In mouth widths also vertically: a share of its height would vanish for a closed mouth.
    margin = MOUTH_MARGIN * (high - low)[:, :1] if region == "mouth" else 0.0
    height, width = track.size
    limit = np.array([width, height], np.float64)
    boxes = np.concatenate([np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)], axis=1)
    # Interpolated frames are valid and have a box; NaN, because a box of zeros would be one.
    boxes[~track.valid] = np.nan
    return boxes


def crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """The whole pixels that a box touches, (h, w, 3); None where there is no box or it is empty."""
    if not np.isfinite(box).all():
        return None
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    part = frame[max(y1, 0) : y2, max(x1, 0) : x2]
    return part if part.size else None
