"""Loss terms that models share: adversarial, feature matching, perceptual, landmark and pixel terms.

Weights belong to the models; functions return plain means unless their text says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import full_precision

FeatureMaps = Sequence[Sequence[Tensor]]  # per scale: feature maps, the last one the score

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def lsgan(maps: FeatureMaps, real: bool) -> Tensor:
    """Squared distance of the patch scores to 1 (`real`) or 0, summed over scales."""
    return sum((scale[-1].float() - float(real)).square().mean() for scale in maps)


def lsgan_discriminator(fake: FeatureMaps, real: FeatureMaps) -> Tensor:
    """Half of the sum of both sides, summed over scales."""
    return 0.5 * (lsgan(fake, False) + lsgan(real, True))


def split_maps(maps: FeatureMaps) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Undo the concatenation of two equal batches, so that a discriminator runs once for both."""
    halves = [[part.chunk(2) for part in scale] for scale in maps]
    return [[pair[0] for pair in scale] for scale in halves], [[pair[1] for pair in scale] for scale in halves]


def feature_matching(fake: FeatureMaps, real: FeatureMaps) -> Tensor:
    """Mean over scales of the summed L1 distances of the inner feature maps; no gradient reaches `real`."""
    # All but the last map of a scale, which is the score.
    terms = [F.l1_loss(a.float(), b.detach().float()) for x, y in zip(fake, real) for a, b in zip(x[:-1], y[:-1])]
    return torch.stack(terms).sum() / len(fake)


class PerceptualTarget(NamedTuple):
    """Features of a target, per scale and layer, and Gram matrices of the full scale, all without gradients."""

    features: list[list[Tensor]]
    grams: list[Tensor]


class PerceptualLoss(nn.Module):
    """L1 distance of VGG19 features at several scales, and of their Gram matrices at the full scale.

    Args:
        network: returns feature maps of normalised images, e.g. `VGG19Features`; frozen here.
        mode: `published` feeds the images as they are, mapped by (x + 1) / 2, which squeezes [0, 1] to [0.5, 1];
            `rgb01` feeds RGB in [0, 1], as VGG was trained.
        bgr: the images are BGR; only `rgb01` needs to know.
        scales: resolutions, each half the one before.
    """

    def __init__(
        self,
        network: nn.Module,
        mode: Literal["published", "rgb01"] = "published",
        bgr: bool = True,
        scales: int = 2,
    ) -> None:
        super().__init__()
        if mode not in ("published", "rgb01"):
            raise ValueError(f"perceptual input must be published or rgb01, got {mode!r}")
        self.network = network.eval().requires_grad_(False)
        self.mode, self.bgr, self.scales = mode, bgr, scales
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stay in eval mode: the network is an expert."""
        return super().train(False)

    @torch.no_grad()
    def target(self, images: Tensor) -> PerceptualTarget:
        """Features of the ground truth (B, 3, H, W), to be shared by all terms of a step."""
        features = self._features(images)
        return PerceptualTarget(features, [gram(part) for part in features[0]])

    def forward(self, images: Tensor, target: PerceptualTarget, style: bool = False) -> tuple[Tensor, Tensor | None]:
        """Perceptual term and, when asked for, the style term (None otherwise), both unweighted."""
        with full_precision(images):
            features = self._features(images)
            pairs = [(a, b) for x, y in zip(features, target.features) for a, b in zip(x, y)]
            # Sums over scales and layers, as published: the weights of the papers belong to sums.
            content = torch.stack([F.l1_loss(a, b) for a, b in pairs]).sum()
            if not style:
                return content, None
            return content, torch.stack([F.l1_loss(gram(a), b) for a, b in zip(features[0], target.grams)]).sum()

    def _features(self, images: Tensor) -> list[list[Tensor]]:
        with full_precision(images):
            images = images.float()
            if self.mode == "published":
                images = (images + 1) / 2
            elif self.bgr:
                images = images.flip(1)
            images = (images - self.mean) / self.std
            features = []
            for scale in range(self.scales):
                if scale:
                    images = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False)
                features.append(self.network(images))
            return features


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> Gram matrices (B, C, C) divided by C*H*W."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def velocity_loss(predicted: Tensor, target: Tensor, frames: int) -> Tensor:
    """Distance between the frame-to-frame motions of two landmark tracks.

    Args:
        predicted: (B*T, 2, K).
        target: (B*T, 2, K).
        frames: T, frames per window; motion across windows does not count.

    Returns:
        Mean over B*(T-1) steps of the norm over all coordinates; 1e-6 is added to each difference, as published.
    """
    # Windows are cut apart before the difference: between two of them there is no motion.
    motions = [x.float().unflatten(0, (-1, frames)).diff(dim=1).flatten(2) for x in (predicted, target)]
    return (motions[0] - motions[1] + 1e-6).norm(dim=-1).mean()


def lip_weight_map(lips: Tensor, size: int, mouth: float = 4.0, upper: float = 0.3, margin: float = 0.06) -> Tensor:
    """Weights of a face crop's pixels: 1, `mouth` in the box of the lips, `upper` in the upper third elsewhere.

    Args:
        lips: (B, 2, K), row 0 = x, row 1 = y, relative to the crop.
        size: side of the crop in pixels.
        mouth: weight inside the box of the lips.
        upper: weight of the upper third.
        margin: added on all sides of the box, as a share of the crop.

    Returns:
        (B, 1, size, size).
    """
    # Pixel centres in the units of the landmarks, which are relative to the crop.
    centres = (torch.arange(size, device=lips.device, dtype=torch.float32) + 0.5) / size
    low, high = lips.float().amin(-1, keepdim=True) - margin, lips.float().amax(-1, keepdim=True) + margin
    inside = (centres >= low) & (centres <= high)
    box = inside[:, 1, :, None] & inside[:, 0, None, :]
    rows = torch.where(centres < 1 / 3, upper, 1.0)
    return torch.where(box, mouth, rows[None, :, None])[:, None]


def weighted_pyramid_l1(
    predicted: Tensor, target: Tensor, weight: Tensor | None = None, scales: Sequence[int] = (1, 2, 4)
) -> tuple[Tensor, Tensor]:
    """L1 of pixels and of their gradients, summed over scales; a sharp-edge term that needs no VGG weights.

    Args:
        predicted: (B, C, H, W).
        target: (B, C, H, W).
        weight: (B or 1, 1, H, W), or None for 1 everywhere; every term is a weighted mean.
        scales: factors by which images and weights are averaged down.

    Returns:
        Pixel term and gradient term.
    """
    difference = predicted.float() - target.float()
    weight = torch.ones_like(difference[:1, :1]) if weight is None else weight.float()
    pixels, gradients = [], []
    for factor in scales:
        error = F.avg_pool2d(difference, factor) if factor > 1 else difference
        mask = F.avg_pool2d(weight, factor) if factor > 1 else weight
        pixels.append(_weighted_mean(error.abs(), mask))
        for axis in (-1, -2):  # the gradient of a difference is the difference of the gradients
            gradients.append(_weighted_mean(error.diff(dim=axis).abs(), _between(mask, axis)))
    return torch.stack(pixels).sum(), torch.stack(gradients).sum()


def _between(mask: Tensor, axis: int) -> Tensor:
    """Weights of the steps between neighbours along an axis: the mean of both."""
    length = mask.shape[axis] - 1
    return (mask.narrow(axis, 0, length) + mask.narrow(axis, 1, length)) / 2


def _weighted_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, C, H, W) under weights that may be of one item and channel: both means are over all they have."""
    return (values * mask).mean() / mask.mean()
