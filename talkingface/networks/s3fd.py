"""S3FD, the face detector that Wav2Lip, HyperLips and the LSE scripts crop faces with.

Paper: S. Zhang et al., "S3FD: Single Shot Scale-invariant Face Detector", ICCV 2017, arXiv:1708.05237. Keys equal those
of the published `s3fd-619a316812.pth` (packaging of face_alignment). Input: float RGB, 0 to 255, less `MEANS`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Kept: these are the means of B, G and R, but the published pipeline takes them off R, G and B; users' boxes depend on
# it.
MEANS = (104.0, 117.0, 123.0)
STRIDES = (4, 8, 16, 32, 64, 128)  # pixels between the anchors of each level

# Stages of the VGG-16 trunk, a 2x2 max pool behind each: number of layers and channels.
_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Levels of detection: the layer they look at, its channels, and the channels of the confidence.
_HEADS = (
    ("conv3_3_norm", 256, 4),
    ("conv4_3_norm", 512, 2),
    ("conv5_3_norm", 512, 2),
    ("fc7", 1024, 2),
    ("conv6_2", 512, 2),
    ("conv7_2", 256, 2),
)


class L2Norm(nn.Module):
    """Divides each position by the length of its channels and scales every channel by a learnt weight."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        length = x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
        return x / length * self.weight[:, None, None]


class S3FD(nn.Module):
    """VGG-16 trunk with six detection heads."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for stage, (layers, channels) in enumerate(_STAGES, start=1):
            for layer in range(1, layers + 1):
                setattr(self, f"conv{stage}_{layer}", nn.Conv2d(inputs, channels, 3, padding=1))
                inputs = channels
        # Kept: padding 3 without dilation, which makes this map and the two below it larger than the image suggests.
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=3)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.conv6_1 = nn.Conv2d(1024, 256, 1)
        self.conv6_2 = nn.Conv2d(256, 512, 3, stride=2, padding=1)
        self.conv7_1 = nn.Conv2d(512, 128, 1)
        self.conv7_2 = nn.Conv2d(128, 256, 3, stride=2, padding=1)
        self.conv3_3_norm = L2Norm(256, 10.0)
        self.conv4_3_norm = L2Norm(512, 8.0)
        self.conv5_3_norm = L2Norm(512, 5.0)
        for name, channels, confidence in _HEADS:
            setattr(self, f"{name}_mbox_conf", nn.Conv2d(channels, confidence, 3, padding=1))
            setattr(self, f"{name}_mbox_loc", nn.Conv2d(channels, 4, 3, padding=1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Raw heads of a batch.

        Args:
            images: (B, 3, H, W) float RGB, 0 to 255, less `MEANS`; both sides at least 32 pixels.

        Returns:
            `[confidence 1, location 1, ..., confidence 6, location 6]`, from fine to coarse: (B, 2, h, w) background
            and face before the soft-max, (B, 4, h, w) offsets of the anchors.
        """
        x = images
        maps: dict[str, Tensor] = {}
        for stage, (layers, _) in enumerate(_STAGES, start=1):
            for layer in range(1, layers + 1):
                x = F.relu(getattr(self, f"conv{stage}_{layer}")(x), inplace=True)  # these maps are as large as images
            if stage >= 3:
                maps[f"conv{stage}_3_norm"] = getattr(self, f"conv{stage}_3_norm")(x)
            x = F.max_pool2d(x, 2)
        x = maps["fc7"] = F.relu(self.fc7(F.relu(self.fc6(x))))
        x = maps["conv6_2"] = F.relu(self.conv6_2(F.relu(self.conv6_1(x))))
        maps["conv7_2"] = F.relu(self.conv7_2(F.relu(self.conv7_1(x))))
        return [head for name, _, _ in _HEADS for head in self._heads(name, maps[name])]

    def _heads(self, name: str, features: Tensor) -> tuple[Tensor, Tensor]:
        confidence = getattr(self, f"{name}_mbox_conf")(features)
        if confidence.shape[1] == 4:  # max-out background: the best of three guesses against small false faces
            confidence = torch.cat([confidence[:, :3].amax(dim=1, keepdim=True), confidence[:, 3:]], dim=1)
        return confidence, getattr(self, f"{name}_mbox_loc")(features)
