"""The face crop of DINet and LawDNet: its sizes, and the hole that hides the mouth.

Papers: Z. Zhang et al., "DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution
Video", AAAI 2023, arXiv:2303.03988; LawDNet, arXiv:2409.09326. Sizes and masks are those of the official
implementations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.networks.blocks import full_precision

STEP = 32
"""What divides the side of the mouth, so that the sides of the crop divide by 4, as generators need."""

_CANVAS, _ROWS, _COLUMNS = (103, 80), slice(32, 96), slice(8, 72)
_BLUR, _SIGMA = 5, 1.0  # side and sigma in pixels of the Gaussian that softens the hole on the canvas


class MouthCrop(NamedTuple):
    """A face crop named by the side of its mouth in pixels; see `mouth_crop`."""

    mouth: int

    @property
    def height(self) -> int:
        """Rows of the crop, 13/8 of the mouth."""
        return 3 * (self.mouth // 2) + self.mouth // 8

    @property
    def width(self) -> int:
        """Columns of the crop, 5/4 of the mouth."""
        return 2 * (self.mouth // 2) + 2 * (self.mouth // 8)

    @property
    def rows(self) -> slice:
        """Of the mouth."""
        return slice(self.mouth // 2, self.mouth // 2 + self.mouth)

    @property
    def columns(self) -> slice:
        """Of the mouth."""
        return slice(self.mouth // 8, self.mouth // 8 + self.mouth)

    def cut(self, faces: Tensor) -> Tensor:
        """Mouths (..., mouth, mouth) of crops (..., H, W)."""
        return faces[..., self.rows, self.columns]


def mouth_crop(mouth: int) -> MouthCrop:
    """The crop around a mouth of so many pixels.

    Raises:
        ValueError: the side is not a multiple of 32.
    """
    if mouth < STEP or mouth % STEP:
        raise ValueError(f"the side of the mouth must be a multiple of {STEP} pixels, got {mouth}")
    return MouthCrop(mouth)


def hard_hole(crop: MouthCrop) -> Tensor:
    """1 in the box of the mouth and 0 elsewhere, (1, 1, H, W) float32: what DINet hides."""
    hole = torch.zeros(1, 1, crop.height, crop.width)
    crop.cut(hole).fill_(1.0)
    return hole


def soft_hole(height: int, width: int) -> Tensor:
    """1 in the mouth, 0 far from it and a soft edge between, (1, 1, H, W) float32: what LawDNet hides.

    Kept: the Gaussian is taken without padding from a canvas one row short, and the smaller result is stretched to the
    crop, so that the hole is larger than the mouth and lies a little higher.
    """
    return F.interpolate(_blurred_canvas(), size=(height, width), mode="bilinear", align_corners=False)


@lru_cache(maxsize=1)
def _blurred_canvas() -> Tensor:
    """(1, 1, 99, 76)."""
    canvas = torch.zeros(1, 1, *_CANVAS)
    canvas[..., _ROWS, _COLUMNS] = 1.0
    places = torch.arange(_BLUR) - _BLUR // 2
    line = torch.exp(-places.square() / (2 * _SIGMA**2))
    kernel = line[:, None] * line
    with full_precision(canvas):  # whoever asks first, say a validation in bf16: it is kept
        return F.conv2d(canvas, (kernel / kernel.sum())[None, None])


def hide(faces: Tensor, hole: Tensor) -> Tensor:
    """Faces (B, 3, H, W) without what lies in the hole (1, 1, H, W)."""
    return faces * (1 - hole).to(faces)


def feather(hole: Tensor, least: float = 0.2) -> Tensor:
    """Weights of a generated crop where it is mixed with the original: 1 in the hole, `least` far from it."""
    return least + (1 - least) * hole
