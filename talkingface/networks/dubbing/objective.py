"""The generator's objective of DINet and LawDNet: weighted terms, by name.

Papers: DINet, arXiv:2303.03988, section 3.3; LawDNet, arXiv:2409.09326. Weights of the official implementations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from talkingface.networks.dubbing.discriminator import DubbingDiscriminator
from talkingface.networks.dubbing.losses import Clips, fooling_loss, perceptual, sync_loss
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert
from talkingface.networks.losses import weighted_pyramid_l1
from talkingface.networks.vgg19 import VGG19Features


class Weights(NamedTuple):
    """Of the terms; the defaults are DINet's, which has no `image`. LawDNet has the same and an `image` of 1.

    Attributes:
        perception: of `perceptual`, or of pixels and their gradients.
        image: of the mean squared error of pixels; 0 leaves it out.
        frame: of the frame discriminator's opinion.
        clip: of the clip discriminator's.
        sync: of the expert's.
        mouth: of the pixels in the hole over that of the others, where pixels are compared.
    """

    perception: float = 10.0
    image: float = 0.0
    frame: float = 1.0
    clip: float = 1.0
    sync: float = 0.1
    mouth: float = 1.0


def reconstruction_terms(
    vgg: VGG19Features | None, fake: Tensor, real: Tensor, weights: Weights, hole: Tensor | None = None
) -> dict[str, Tensor]:
    """What compares drawn crops with true ones (B, 3, H, W), RGB in [0, 1].

    Args:
        vgg: frozen; None: pixels and their gradients are compared, at full, half and quarter size.
        fake: drawn.
        real: true, with their mouths.
        weights: of the terms.
        hole: (1, 1, H, W) in [0, 1], what was hidden; for `weights.mouth`.
    """
    if vgg is not None:
        terms = {"perception": weights.perception * perceptual(vgg, fake, real)}
    else:
        shares = None if hole is None else 1 + (weights.mouth - 1) * hole
        pixels, gradients = weighted_pyramid_l1(fake, real, shares)
        terms = {"pixels": weights.perception * pixels, "gradients": weights.perception * gradients}
    if weights.image:
        terms["image"] = weights.image * F.mse_loss(fake.float(), real.float())
    return terms


def frame_terms(
    vgg: VGG19Features | None,
    discriminator: DubbingDiscriminator,
    fake: Tensor,
    real: Tensor,
    weights: Weights,
    hole: Tensor | None = None,
) -> dict[str, Tensor]:
    """Terms of single frames; see `reconstruction_terms`."""
    terms = reconstruction_terms(vgg, fake, real, weights, hole)
    if weights.frame:
        terms["frame"] = weights.frame * fooling_loss(discriminator, fake)
    return terms


def clip_terms(
    discriminator: DubbingDiscriminator, expert: MouthSyncExpert, fake: Tensor, clips: Clips, weights: Weights
) -> dict[str, Tensor]:
    """What the clip stage adds, for frames (5B, 3, H, W), the first frames of all clips first."""
    terms = {}
    if weights.clip:
        terms["clip"] = weights.clip * fooling_loss(discriminator, clips.stacked(fake))
    if weights.sync:
        terms["sync"] = weights.sync * sync_loss(expert, fake, clips)
    return terms
