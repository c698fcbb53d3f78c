"""How IPLAP chooses its reference frames: from the closed to the open mouth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from talkingface.faces.mesh import OUTER_LIP_BOTTOM, OUTER_LIP_TOP

if TYPE_CHECKING:
    from talkingface.models.iplap.networks.alignment import References


def reference_positions(frames: int, count: int) -> np.ndarray:
    """`count` positions spread over `frames` sorted frames; short clips repeat frames.

    `torch.linspace` in float32 is part of the rule: an exact formula picks another frame for some lengths.
    """
    return torch.linspace(0, frames - 1, count, dtype=torch.float32).to(torch.int64).numpy()


def select_references(openness: np.ndarray, count: int, candidates: np.ndarray | None = None) -> np.ndarray:
    """Reference frames from closed to open mouth.

    Args:
        openness: (F,) mouth opening per frame in any unit; equal values keep the order of the frames.
        count: references wanted.
        candidates: frame indices that may serve, e.g. those with a face; all by default.

    Returns:
        (count,) frame indices, with repetitions when there are fewer candidates.
    """
    openness = np.asarray(openness)
    indices = np.arange(len(openness)) if candidates is None else np.asarray(candidates)
    if not len(indices):
        raise ValueError("no frame can serve as a reference")
    ordered = indices[np.argsort(openness[indices], kind="stable")]
    return ordered[reference_positions(len(ordered), count)]


def mouth_openness(points_px: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Distance between mesh points 0 and 17 (middle of the outer lips), the published measure.

    Kept: coordinates are divided by the frame's width and height, without regard to its aspect or the face's size.

    Args:
        points_px: (F, 478, 2 or 3) pixels.
        size_hw: height and width of the frames.
    """
    height, width = size_hw
    points = np.asarray(points_px)[..., :2]
    return np.linalg.norm((points[:, OUTER_LIP_TOP] - points[:, OUTER_LIP_BOTTOM]) / [width, height], axis=-1)


@dataclass
class ReferenceGroup:
    """Encoded references and the frames of the source they serve."""

    serves: np.ndarray  # (F,) bool
    tokens: Tensor  # (1, Nl, d_model)
    frames: References | None
    closed: np.ndarray  # (2, 131) landmarks of the reference whose mouth is most closed
