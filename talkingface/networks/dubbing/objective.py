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
from talkingface.networks.vgg19 import VGG19Features


class Weights(NamedTuple):
    """Of the terms; the defaults are DINet's, which has no `image`. LawDNet has the same and an `image` of 1.

    Attributes:
        perception: of `perceptual`.
        image: of the mean squared error of pixels; 0 leaves it out.
        frame: of the frame discriminator's opinion.
        clip: of the clip discriminator's.
        sync: of the expert's.
    """

    perception: float = 10.0
    image: float = 0.0
    frame: float = 1.0
    clip: float = 1.0
    sync: float = 0.1


def frame_terms(
    vgg: VGG19Features, discriminator: DubbingDiscriminator, fake: Tensor, real: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """Terms of single frames (B, 3, H, W), RGB in [0, 1]; `real` has its mouth."""
    terms = {
        "perception": weights.perception * perceptual(vgg, fake, real),
        "frame": weights.frame * fooling_loss(discriminator, fake),
    }
    if weights.image:
        terms["image"] = weights.image * F.mse_loss(fake.float(), real.float())
    return terms


def clip_terms(
    discriminator: DubbingDiscriminator, expert: MouthSyncExpert, fake: Tensor, clips: Clips, weights: Weights
) -> dict[str, Tensor]:
    """What the clip stage adds, for frames (5B, 3, H, W), the first frames of all clips first."""
    return {
        "clip": weights.clip * fooling_loss(discriminator, clips.stacked(fake)),
        "sync": weights.sync * sync_loss(expert, fake, clips),
    }
