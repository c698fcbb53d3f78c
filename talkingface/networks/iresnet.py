"""IResNet, the network behind ArcFace embeddings of faces.

Papers: I. C. Duta et al., "Improved Residual Networks for Image and Video Recognition", ICPR 2020, arXiv:2004.04989; J.
Deng et al., "ArcFace", CVPR 2019, arXiv:1801.07698. Keys equal those of the published `backbone.pth` files.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from talkingface.weights.checkpoint import load_state_file

LAYERS = {"r50": (3, 4, 14, 3), "r100": (3, 13, 30, 3)}
"""Blocks of the four stages."""

SIDE = 112  # pixels, input of the network
WIDTHS = (64, 128, 256, 512)


class IResNet(nn.Module):
    """Face crops to embeddings; faces of one person have similar directions.

    Args:
        network: `r50` or `r100`.
    """

    def __init__(self, network: str = "r50") -> None:
        super().__init__()
        if network not in LAYERS:
            raise ValueError(f"IResNet comes as {', '.join(LAYERS)}, not {network!r}")
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        inputs = WIDTHS[0]
        for number, (width, blocks) in enumerate(zip(WIDTHS, LAYERS[network], strict=True), start=1):
            # Unlike a ResNet for objects, the first stage halves the map as well: faces are small, 112 pixels.
            stage = [_Block(inputs, width, stride=2), *(_Block(width, width) for _ in range(blocks - 1))]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            inputs = width
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, 112, 112) RGB in [-1, 1] -> (B, 512), not normalised."""
        x = self.prelu(self.bn1(self.conv1(faces)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))

    def load(self, path: str | Path) -> IResNet:
        """Fill from a published `backbone.pth`.

        Raises:
            CheckpointError: the file is missing, unreadable, or of another network.
        """
        load_state_file(self, path, what="ArcFace's IResNet", optional=("num_batches_tracked",))
        return self


class _Block(nn.Module):
    """Norm, convolution, norm, PReLU, convolution, norm, plus the input (convolved where the size changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1:
            convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut
