"""Terms of HyperLipsHR's objective.

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720, section 3.3. Quirks that the published weights were trained with are on by default and have switches;
docs/hyperlips.md lists them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.networks.blocks import full_precision
from talkingface.networks.losses import IMAGENET_MEAN, IMAGENET_STD
from talkingface.networks.lpips import LPIPS
from talkingface.networks.vgg19 import VGG19Features

VGG_LAYER = 34
"""Of torchvision's numbering: conv5_4 before its ReLU."""

SMALLEST_BOX = 32
"""Sides to which lip boxes grow for LPIPS: below 16 px its trunk has no map left, and below 32 hardly any."""


class Look(NamedTuple):
    """How a perceptual network is shown faces that are BGR in [0, 1].

    Attributes:
        rgb: turn the colours, as the network was trained. Published: no.
        scaled: bring the values into the range that the network was trained with. Published: no.
    """

    rgb: bool = False
    scaled: bool = False


def relativistic(own: Tensor, other: Tensor) -> Tensor:
    """Loss of the side that wants `own` scores to lie above the mean of `other`, and `other` below that of `own`.

    Relativistic average GAN: A. Jolicoeur-Martineau, arXiv:1807.00734.

    Args:
        own: (N, 1) scores of this side's pictures: generated ones for a generator, real ones for a discriminator.
        other: (N, 1) scores of the others.
    """
    above, below = own - other.mean(), other - own.mean()
    ones, zeros = torch.ones_like(above), torch.zeros_like(below)
    terms = (F.binary_cross_entropy_with_logits(above, ones), F.binary_cross_entropy_with_logits(below, zeros))
    return (terms[0] + terms[1]) / 2


def vgg_distance(network: VGG19Features, drawn: Tensor, target: Tensor, look: Look) -> Tensor:
    """L1 distance of the features of drawn and true faces (N, 3, S, S), BGR in [0, 1]."""
    with full_precision(drawn):
        mean, std = (
            drawn.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        faces = [x.float().flip(1) if look.rgb else x.float() for x in (drawn, target)]
        if look.scaled:
            turned = (mean, std) if look.rgb else (mean.flip(0), std.flip(0))
            faces = [(x - turned[0]) / turned[1] for x in faces]
        (features,) = network(faces[0])
        with torch.no_grad():
            (true_features,) = network(faces[1])
        return F.l1_loss(features, true_features)


def lip_l1(drawn: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """Mean over faces of the L1 distance inside their lip boxes.

    Args:
        drawn: (N, 3, S, S).
        target: the same shape.
        boxes: (N, 4) whole pixels top, bottom, left, right, the ends exclusive, on any device.
    """
    # By a mask instead of N cuts of N sizes: the numbers are the same, and nothing waits for the boxes.
    top, bottom, left, right = boxes.to(drawn.device, non_blocking=True).unsqueeze(-1).unbind(1)
    places = torch.arange(drawn.shape[-1], device=drawn.device)
    rows, columns = (places >= top) & (places < bottom), (places >= left) & (places < right)
    inside = (rows[:, :, None] & columns[:, None])[:, None]
    error = ((drawn.float() - target.float()).abs() * inside).sum(dim=(1, 2, 3))
    return (error / (drawn.shape[1] * inside.sum(dim=(1, 2, 3)))).mean()


def lip_lpips(network: LPIPS, drawn: Tensor, target: Tensor, boxes: Tensor, look: Look, step: int = 1) -> Tensor:
    """LPIPS inside the lip boxes, (N,), each box at its own size.

    Boxes of one size go through the network together. Small ones grow to `SMALLEST_BOX`.

    Args:
        network: frozen.
        drawn: (N, 3, S, S), BGR in [0, 1].
        target: the same shape.
        boxes: (N, 4), see `lip_l1`; on the CPU, where reading their sizes makes no device wait.
        look: `scaled` maps to the [-1, 1] of the network's training.
        step: sides grow to multiples of so many pixels, which makes fewer sizes, and fewer passes.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    grown = [grown_box(box, drawn.shape[-1], step) for box in boxes.tolist()]
    for index, (top, bottom, left, right) in enumerate(grown):
        groups[bottom - top, right - left].append(index)
    distances: list[Tensor] = [drawn] * len(grown)
    for members in groups.values():
        pair = [torch.stack([_cut(faces[k], grown[k]) for k in members]) for faces in (drawn, target)]
        shown = [_shown(faces.float(), look) for faces in pair]
        for k, distance in zip(members, network(*shown).flatten(), strict=True):
            distances[k] = distance
    return torch.stack(distances)


def grown_box(box: list[int], side: int, step: int = 1) -> tuple[int, int, int, int]:
    """A lip box with sides of at least `SMALLEST_BOX` (or of the whole picture, if that is smaller), inside it.

    Sides are multiples of `step` where the picture is large enough.
    """
    top, bottom, left, right = box
    return (*_grown(top, bottom, side, step), *_grown(left, right, side, step))


def _grown(start: int, end: int, side: int, step: int) -> tuple[int, int]:
    length = min(side, -(-max(end - start, SMALLEST_BOX) // step) * step)
    first = min(max(0, start - (length - (end - start)) // 2), side - length)
    return first, first + length


def _cut(face: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    top, bottom, left, right = box
    return face[:, top:bottom, left:right]


def _shown(faces: Tensor, look: Look) -> Tensor:
    faces = faces.flip(1) if look.rgb else faces
    return 2 * faces - 1 if look.scaled else faces
