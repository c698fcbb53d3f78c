"""Alignment module of the IPLAP renderer: moves reference frames into the pose of the driving sketches.

Paper: W. Zhong et al., CVPR 2023, section 3.2. What depends on the driving sketch alone (the SPADE modulations) is
computed once per frame, what depends on the references alone (`encode`) once per video; between them remain, per
reference and frame, four convolutions, the flow and the warp. The numbers equal those of the published order of work.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import full_precision, instance_norm, quick_layout, scaled
from talkingface.networks.spade import Modulation, Spade

# References per pass off the CPU; on a CPU one at a time is fastest (3.1x, all 25 at once 1.9x).
AUTO_GROUP = 8
# Items (frames times references) per pass at 128 px. One feature map of the published size is 256 x 64 x 64 x 4 bytes =
# 4.2 MB per item, and about ten of that size live at once in inference: 64 items need 2.7 GB. A fixed number, for one
# that followed the free memory would change the order of summation, and with it the last bits, from run to run.
AUTO_ITEMS = 64


class References(NamedTuple):
    """Encoded reference frames; the first axis is 1 when all frames of a batch share them."""

    images: Tensor  # (B, N, 3, S, S)
    fine: Tensor  # (B, N, C1, S, S)
    coarse: Tensor  # (B, N, C2, S/2, S/2)
    coarse_normalised: Tensor  # the same after the instance norm of the first SPADE layer


class Aligned(NamedTuple):
    """References moved into the target pose and summed by their weights."""

    fine: Tensor  # (B, C1, S, S)
    coarse: Tensor  # (B, C2, S/2, S/2)
    image: Tensor  # (B, 3, S, S)


class AlignmentModule(nn.Module):
    """Predicts a flow and a weight map per reference, warps, and sums.

    Args:
        sketch_channels: channels of the driving sketches, 3 per frame.
        width: multiplier of the channels; 1 is the published size.
        spade_hidden: hidden channels of the SPADE modulations.

    Attributes:
        group_size: references that run through the network together; 0 chooses by device.
    """

    def __init__(self, sketch_channels: int = 15, width: float = 1.0, spade_hidden: int = 256) -> None:
        super().__init__()
        fine, coarse = feature_channels(width)
        self.group_size = 0
        self.conv1 = nn.Conv2d(6, fine, 7, padding=3)
        self.conv1_bn = nn.BatchNorm2d(fine)
        self.conv2 = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.conv2_bn = nn.BatchNorm2d(coarse)
        self.spade_layer_1 = Spade(coarse, sketch_channels, spade_hidden)
        self.spade_layer_2 = Spade(coarse, sketch_channels, spade_hidden)
        self.spade_layer_4 = Spade(coarse // 4, sketch_channels, spade_hidden)  # Kept: the published files have no 3
        self.conv_4 = nn.Conv2d(coarse // 4, 2, 7, padding=3)
        self.conv_5 = nn.Sequential(
            nn.Conv2d(coarse // 4, fine, 7, padding=3), nn.ReLU(), nn.Conv2d(fine, 1, 7, padding=3)
        )

    def encode(self, images: Tensor, sketches: Tensor) -> References:
        """Features of reference frames (B, N, 3, S, S) and their sketches (B, N, 3, S, S).

        Kept: in training the references go through batch norm one after the other, so that its statistics are those
        of one reference and its running averages move N times; encoding all at once changes the outputs by 1 %.
        """
        inputs = torch.cat([images, sketches], dim=2)
        if self.training:
            encoded = [self._features(inputs[:, i]) for i in range(inputs.shape[1])]
            fine, coarse = (torch.stack(parts, dim=1) for parts in zip(*encoded))
        else:
            encoded = self._features(quick_layout(inputs.flatten(0, 1)))
            fine, coarse = (part.unflatten(0, inputs.shape[:2]) for part in encoded)
        normalised = instance_norm(coarse.flatten(0, 1)).unflatten(0, coarse.shape[:2])
        return References(images, fine, coarse, normalised)

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = F.relu(self.conv1_bn(self.conv1(x)))
        return fine, F.relu(self.conv2_bn(self.conv2(fine)))

    def modulations(self, sketches: Tensor) -> list[tuple[Modulation, Modulation]]:
        """Scales and shifts of the three SPADE blocks for driving sketches (B, 3*T, S, S)."""
        sketches = quick_layout(sketches)
        small = F.interpolate(sketches, scale_factor=0.5, mode="nearest")
        return [
            self.spade_layer_1.modulations(small),
            self.spade_layer_2.modulations(small),
            self.spade_layer_4.modulations(sketches),
        ]

    def motion(
        self, coarse_normalised: Tensor, modulations: list[tuple[Modulation, Modulation]]
    ) -> tuple[Tensor, Tensor]:
        """Flow in pixels (B*G, 2, S, S), channel 0 = x, and weight in [0, 1] (B*G, 1, S, S), both float32."""
        x = self.spade_layer_1.apply_modulations(coarse_normalised, modulations[0])
        x = self.spade_layer_2.apply_modulations(instance_norm(x), modulations[1])
        x = F.pixel_shuffle(x, 2)
        x = self.spade_layer_4.apply_modulations(instance_norm(x), modulations[2])
        weight = torch.sigmoid(self.conv_5(x).float())
        with full_precision(x):  # bf16 knows a flow of 10 pixels only to 1/16 pixel
            flow = self.conv_4(x.float())
        return flow, weight

    def align(self, references: References, sketches: Tensor) -> Aligned:
        """Warp and sum encoded references (first axis B or 1) for driving sketches (B, 3*T, S, S)."""
        batch, count = sketches.shape[0], references.images.shape[1]
        modulations = self.modulations(sketches)
        group = self.group_size or auto_group(sketches.device.type, batch, sketches.shape[-1])
        sums: list[Tensor] = []
        for start in range(0, count, group):
            part = [field[:, start : start + group].expand(batch, -1, -1, -1, -1) for field in references]
            size = part[0].shape[1]
            images, fine, coarse, normalised = (field.flatten(0, 1) for field in part)
            flow, weight = self.motion(normalised, modulations)
            terms = [*warp_all(flow, weight, fine, coarse, images), weight]
            terms = [term.unflatten(0, (batch, size)).sum(1) if size > 1 else term for term in terms]
            sums = [total + term for total, term in zip(sums, terms)] if sums else terms
        fine, coarse, image, weight = sums
        total = weight + 1e-5
        return Aligned(fine / total, coarse / F.interpolate(total, scale_factor=0.5, mode="nearest"), image / total)

    def forward(self, images: Tensor, reference_sketches: Tensor, sketches: Tensor) -> Aligned:
        """Encode and align.

        Args:
            images: reference frames (B, N, 3, S, S).
            reference_sketches: (B, N, 3, S, S).
            sketches: driving sketches (B, 3*T, S, S).
        """
        return self.align(self.encode(images, reference_sketches), sketches)


def auto_group(device: str, batch: int, size: int) -> int:
    """References that run together for `batch` frames of `size` pixels: bounds the memory of a pass, not of a batch."""
    if device == "cpu":
        return 1
    return int(max(1, min(AUTO_GROUP, AUTO_ITEMS * 128**2 // (batch * size**2))))


def feature_channels(width: float) -> tuple[int, int]:
    """Channels of the full-size and the half-size features; the second is a multiple of 4 for the pixel shuffle."""
    return scaled(32, width), 4 * scaled(64, width)


def sampling_grid(flow: Tensor) -> Tensor:
    """Grid (B, H, W, 2) for `grid_sample` from a flow in pixels (B, 2, H, W).

    Kept: the grid counts from corner to corner while the sampling (`warp_all`) does not, so that a zero flow shifts by
    up to half a pixel. The published weights have learnt to undo it.
    """
    height, width = flow.shape[-2:]
    x, y = (2 * torch.arange(size, device=flow.device).float() / (size - 1) - 1 for size in (width, height))
    base = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    # Python numbers: a tensor of them would be copied to the GPU, and every step would wait for it.
    shift = torch.stack([2 * flow[:, 0] / (width - 1), 2 * flow[:, 1] / (height - 1)], dim=1)
    return (base + shift).permute(0, 2, 3, 1)


def warp_all(flow: Tensor, weight: Tensor, fine: Tensor, coarse: Tensor, images: Tensor) -> tuple[Tensor, ...]:
    """Warped and weighted `fine`, `coarse` and `images`, in float32."""
    grid = sampling_grid(flow)
    half = F.interpolate(grid.permute(0, 3, 1, 2), scale_factor=0.5, mode="bilinear", align_corners=False)
    half_grid = half.permute(0, 2, 3, 1)
    half_weight = F.interpolate(weight, scale_factor=0.5, mode="nearest")
    return (
        _sample(fine, grid) * weight,
        _sample(coarse, half_grid) * half_weight,
        _sample(images, grid) * weight,
    )


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
