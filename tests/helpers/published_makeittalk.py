"""Parts of MakeItTalk in their published form, for comparison: what is copied, computed and drawn more often."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.models.makeittalk.drawing import draw_landmarks
from talkingface.models.makeittalk.model import MakeItTalk
from talkingface.models.makeittalk.networks.content import ContentBranch
from talkingface.models.makeittalk.networks.pieces import WINDOW
from talkingface.models.makeittalk.networks.translation import picture

POINTS = 98  # that the published detector finds


def stacked_windows(rows: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, 18, C) of sound and (n, 18, 204) of faces, each copied row by row into lists."""
    starts = range(len(rows) - WINDOW + 1)
    sound = [[rows[k + row] for row in range(WINDOW)] for k in starts]
    seen = [[faces[k + row] for row in range(WINDOW)] for k in starts]
    return np.stack([np.stack(window) for window in sound]), np.stack([np.stack(window) for window in seen])


@torch.no_grad()
def per_window(branch: ContentBranch, rows: Tensor, face: Tensor) -> Tensor:
    """Displacements (n, 204) with every row computed once for each of the 18 windows that it is in."""
    windows = torch.stack([rows[k : k + WINDOW] for k in range(len(rows) - WINDOW + 1)])
    return branch(windows, face)


def warped_by_skimage(photo: np.ndarray, source: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """A picture whose points (V, 2) have moved, triangle by triangle; the triangles are found anew each time."""
    from skimage.transform import PiecewiseAffineTransform, warp

    transform = PiecewiseAffineTransform()
    transform.estimate(moved, source)
    return warp(photo, transform, output_shape=photo.shape[:2], mode="edge", preserve_range=True)


@torch.no_grad()
def rendered(model: MakeItTalk, portrait: np.ndarray, faces: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures (256, 256, 3) uint8 BGR of each of the faces (T, 68, 2) in pixels, one at a time, in the plain layout.

    Args:
        model: of the published size.
        portrait: (256, 256, 3) uint8 BGR.
        faces: landmarks at 62.5 per second.
    """
    shown = torch.from_numpy(portrait).permute(2, 0, 1)[None].float() / 255
    for points in faces:
        drawing = torch.from_numpy(draw_landmarks(points)).permute(2, 0, 1)[None].float() / 255
        drawn = picture(model.translator.model(torch.cat([drawing, shown], dim=1).contiguous()))
        yield (drawn[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


class Detector(nn.Module):
    """Four hourglasses as the published training asks them in each step: pictures of 256 px to 98 heat maps of 64 px.

    The layers are those of A. Bulat and G. Tzimiropoulos, ICCV 2017; weights are random, only the time counts.
    """

    def __init__(self, stacks: int = 4, width: int = 256) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), _Block(64, 128))
        self.lead = nn.Sequential(_Block(128, 128), _Block(128, width))
        self.stacks = nn.ModuleList(nn.ModuleDict({
            "glass": _Hourglass(width, 4),
            "out": nn.Sequential(_Block(width, width), nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()),
            "maps": nn.Conv2d(width, POINTS, 1),
            "back": nn.Conv2d(POINTS, width, 1),
            "on": nn.Conv2d(width, width, 1),
        }) for _ in range(stacks))  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, 256, 256) -> (B, 98, 2) pixels of the highest places."""
        x = self.lead(F.avg_pool2d(self.stem(pictures), 2))
        for stack in self.stacks:
            found = stack["out"](stack["glass"](x))
            maps = stack["maps"](found)
            x = x + stack["on"](found) + stack["back"](maps)
        best = maps.flatten(2).argmax(dim=-1)
        return 4.0 * torch.stack([best % maps.shape[-1], best // maps.shape[-1]], dim=-1)


class _Block(nn.Module):
    """Three convolutions of a half and two quarters of the width, side by side, over the identity."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        sizes = (inputs, width // 2, width // 4, width // 4)
        self.parts = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, b, 3, padding=1, bias=False))
            for a, b in zip(sizes, sizes[1:])
        )
        self.skip = nn.Conv2d(inputs, width, 1, bias=False) if inputs != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        outputs, last = [], x
        for part in self.parts:
            last = part(last)
            outputs.append(last)
        return torch.cat(outputs, dim=1) + self.skip(x)


class _Hourglass(nn.Module):
    """Down and up again, so many times."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.beside, self.down, self.up = _Block(width, width), _Block(width, width), _Block(width, width)
        self.inner = _Hourglass(width, depth - 1) if depth > 1 else _Block(width, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.avg_pool2d(x, 2))))
        return self.beside(x) + F.interpolate(low, scale_factor=2, mode="nearest")
