"""Terms of the objectives of DINet and LawDNet. "Real" is the whole crop before its mouth was hidden.

Paper: DINet, arXiv:2303.03988, section 3.3; forms from the official implementation. Functions return plain means; the
weights belong to the models.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.networks.blocks import full_precision
from talkingface.networks.dubbing.discriminator import DubbingDiscriminator, clip_channels
from talkingface.networks.dubbing.geometry import MouthCrop
from talkingface.networks.dubbing.sync_expert import MouthSyncExpert, sync_error
from talkingface.networks.losses import IMAGENET_MEAN, IMAGENET_STD, lsgan, lsgan_discriminator
from talkingface.networks.vgg19 import VGG19Features


def perceptual(network: VGG19Features, fake: Tensor, real: Tensor) -> Tensor:
    """Mean L1 distance of VGG19 maps at full and at half size.

    Kept: the halves are made in two ways, of the fake by means of 3x3 pixels, of the real one by means of 2x2.

    Args:
        network: frozen; 5 layers give the ten published terms.
        fake: (B, 3, H, W) RGB in [0, 1].
        real: the same shape; no gradient reaches it.
    """
    with full_precision(fake):
        fake, real = fake.float(), real.detach().float()
        half_fake = F.avg_pool2d(fake, 3, stride=2, padding=1, count_include_pad=False)
        half_real = F.interpolate(real, scale_factor=0.5, mode="bilinear", align_corners=False)
        terms = []
        for own, true in ((fake, real), (half_fake, half_real)):
            with torch.no_grad():
                wanted = network(_normalised(true))
            terms += [F.l1_loss(a, b) for a, b in zip(network(_normalised(own)), wanted, strict=True)]
        return torch.stack(terms).mean()


def _normalised(pictures: Tensor) -> Tensor:
    mean, std = _imagenet(pictures.device)
    return (pictures - mean) / std


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) float32, copied to a device once: each copy would wait for it."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def discriminator_loss(
    network: DubbingDiscriminator, fake: Tensor, real: Tensor, through_generator: bool = False
) -> Tensor:
    """What a discriminator is trained with: the mean of both squared errors.

    Args:
        network: of frames or clips.
        fake: (B, C, H, W).
        real: the same shape.
        through_generator: leave `fake` tied to the generator, as DINet's published step does: it runs the generator's
            whole backward pass and throws the result away.
    """
    return lsgan_discriminator([network(fake if through_generator else fake.detach())], [network(real)])


def fooling_loss(network: DubbingDiscriminator, fake: Tensor) -> Tensor:
    """Squared distance of a discriminator's scores of generated pictures to those of true ones."""
    return lsgan([network(fake)], real=True)


class Clips(NamedTuple):
    """How the frames of a batch form clips, and what was said in them.

    Attributes:
        crop: of the frames.
        audio: (B, width, 9) rows of the expert's audio features, of each clip.
        side: of the mouths that the expert sees.
        clipped: see `sync_error`.
    """

    crop: MouthCrop
    audio: Tensor
    side: int = 256
    clipped: bool = False

    def stacked(self, frames: Tensor) -> Tensor:
        """(5B, 3, H, W), the first frames of all clips first -> (B, 15, H, W)."""
        return clip_channels(frames, len(self.audio))


def sync_loss(network: MouthSyncExpert, frames: Tensor, clips: Clips) -> Tensor:
    """How far the expert's scores of generated mouths are from 1, in float32.

    Args:
        network: frozen.
        frames: (5B, 3, H, W) RGB in [0, 1], the first frames of all clips first.
        clips: what belongs to them.
    """
    with full_precision(frames):
        mouths = clips.stacked(clips.crop.cut(frames.float()))
        if mouths.shape[-2:] != (clips.side, clips.side):
            # As published plain samples, of 288 pixels 256; of twice as many and more they would alias.
            smooth = mouths.shape[-1] >= 2 * clips.side
            size = (clips.side, clips.side)
            mouths = F.interpolate(mouths, size=size, mode="bilinear", align_corners=False, antialias=smooth)
        return sync_error(network(mouths, clips.audio.float()), clipped=clips.clipped)
