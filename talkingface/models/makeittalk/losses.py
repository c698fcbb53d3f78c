"""Terms of MakeItTalk's objectives: landmarks, motion against its judges, pictures.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, 2020, sections 4.1, 4.2
and 4.4; numbers of the official implementation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.faces.ibug68 import LIPS, POINTS, neighbours
from talkingface.networks.blocks import full_precision
from talkingface.networks.losses import gram

STYLE_WEIGHT = 3e7
MOVED = 0.05
"""Eye distances: about how far the points of a head that speaks are from where they rest."""

_INNER_TOP, _INNER_BOTTOM = 62, 66

# -- landmarks ---------------------------------------------------------------------------------------------------------


def lip_weights(target: Tensor) -> Tensor:
    """Weights (..., 68, 1) of the points of faces (..., 68, 3): lips count for more the less they are open.

    A closed mouth is seen to be closed; how far an open one is open matters less.
    """
    gap = (target[..., _INNER_BOTTOM, 1] - target[..., _INNER_TOP, 1]).abs()
    weights = target.new_ones((*target.shape[:-1], 1))
    weights[..., LIPS, 0] = (1 / (4 * gap + 0.1))[..., None]
    return weights


def landmark_l1(predicted: Tensor, target: Tensor, lips: bool = True) -> Tensor:
    """Mean distance of the coordinates of faces (..., 204), weighted by `lip_weights`."""
    error, target = _faces(predicted - target).abs(), _faces(target)
    return (error * lip_weights(target)).mean() if lips else error.mean()


def laplacian_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """The same of each point's place between its neighbours along the line: the shape, wherever it is."""
    return laplacian(_faces(predicted - target)).abs().mean()  # it is linear


def laplacian(faces: Tensor) -> Tensor:
    """Points (..., 68, 3) less the mean of both neighbours; an end of a line has a single one."""
    before, after = _neighbours(faces.device)
    return faces - (faces[..., before, :] + faces[..., after, :]) / 2


def motion_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the steps from row to row, (..., T, 204); the rows follow each other in one clip."""
    return (predicted.diff(dim=-2) - target.diff(dim=-2)).abs().mean()


def _faces(flat: Tensor) -> Tensor:
    return flat.float().unflatten(-1, (POINTS, 3))


@lru_cache(maxsize=8)
def _neighbours(device: torch.device) -> tuple[Tensor, Tensor]:
    before, after = neighbours()
    return torch.from_numpy(before).to(device), torch.from_numpy(after).to(device)


# -- judges ------------------------------------------------------------------------------------------------------------


def least_squares(scores: Tensor, real: bool, judged: Tensor | None = None) -> Tensor:
    """Mean squared distance of scores (..., 1) to 1 (`real`) or 0.

    Args:
        scores: of a discriminator.
        real: what they should say.
        judged: (...) bool, which of them count; None: all.
    """
    squares = (scores.float().squeeze(-1) - float(real)).square()
    return squares.mean() if judged is None else (squares * judged).sum() / judged.sum().clamp(min=1)


# -- pictures ----------------------------------------------------------------------------------------------------------


class TranslationLoss(nn.Module):
    """L1 of pictures, L1 of VGG19's features, and squared distance of their Gram matrices.

    Args:
        network: gives feature maps, e.g. `VGG19Features()`; frozen here.
        grams: `sample` compares the Gram matrices of each picture; `batch`, as published, one of the whole batch, in
            which channels of different pictures meet.
    """

    def __init__(self, network: nn.Module, grams: Literal["sample", "batch"] = "sample") -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.gram = {"sample": gram, "batch": batch_gram}[grams]

    def train(self, mode: bool = True) -> TranslationLoss:
        """Stay in eval mode: the network is an expert."""
        return super().train(False)

    def forward(self, drawn: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms `l1`, `vgg` and `style` of pictures (B, 3, H, W), BGR as they leave the network.

        Kept: VGG19 sees them as they are, neither turned to RGB nor normalised.
        """
        with full_precision(drawn):
            drawn, target = drawn.float(), target.float().detach()
            with torch.no_grad():
                wanted = self.network(target)
            features = self.network(drawn)
            pairs = list(zip(features, wanted, strict=True))
            style = torch.stack([F.mse_loss(self.gram(ours), self.gram(theirs)) for ours, theirs in pairs]).sum()
            return {
                "l1": F.l1_loss(drawn, target),
                "vgg": torch.stack([F.l1_loss(ours, theirs) for ours, theirs in pairs]).sum(),
                "style": STYLE_WEIGHT * style,
            }


def batch_gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> one Gram matrix (BC, BC) of the whole batch, divided by BCHW."""
    return gram(features.flatten(0, 1)[None])[0]
