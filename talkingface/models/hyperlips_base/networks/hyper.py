"""Hyper control: a sound makes the kernels of convolutions that turn the features of a face into those of a speaker.

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720, section 3.2. Keys equal those of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.models.hyperlips_base.networks.mobilenet import LRASPP, MobileNetV3
from talkingface.networks.blocks import being_exported, scaled

CODE = 64
"""Entries of the code that a sound becomes before it becomes kernels."""

MEL_SIDES = (80, 16)
"""Bands and columns of the mel window of a frame."""


class HyperNet(nn.Module):
    """Flat features of a sound -> its code."""

    def __init__(self, inputs: int, code: int = CODE) -> None:
        super().__init__()
        self.lin1 = nn.Linear(inputs, code)
        self.lin2 = nn.Linear(code, code)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, code)."""
        return F.leaky_relu(self.lin2(F.leaky_relu(self.lin1(x), 0.01)), 0.01)


class HyperConv(nn.Module):
    """3x3 convolution with kernels of its own for every sample: a mixture of `code` + 1 learnt kernels."""

    def __init__(self, channels: int, code: int = CODE) -> None:
        super().__init__()
        self.hyperkernel = nn.Linear(code, channels * channels * 9)
        self.hyperbias = nn.Linear(code, channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """(B, C, H, W) features and (B, code) -> (B, C, H, W)."""
        batch, channels = x.shape[:2]
        if being_exported():
            return self._by_shifts(x, code)
        kernels = self.hyperkernel(code).view(batch * channels, channels, 3, 3)
        # One convolution for the whole batch: the samples lie side by side as groups of channels.
        out = F.conv2d(x.flatten(0, 1)[None].to(kernels.dtype), kernels, padding=1, groups=batch)
        return out.view(batch, channels, *x.shape[2:]) + self.hyperbias(code)[:, :, None, None]

    def _by_shifts(self, x: Tensor, code: Tensor) -> Tensor:
        """The same as nine products of matrices, for graphs: they fix the number of groups, so that of the batch."""
        channels, (height, width) = x.shape[1], x.shape[2:]
        kernels = self.hyperkernel(code).unflatten(1, (channels, channels, 9))
        padded, out = F.pad(x, (1, 1, 1, 1)), self.hyperbias(code)[:, :, None]
        for tap in range(9):
            row, column = divmod(tap, 3)
            shifted = padded[:, :, row : row + height, column : column + width]
            out = out + kernels[..., tap] @ shifted.flatten(2)
        return out.unflatten(2, (height, width))


class HyperLevel(nn.Sequential):
    """Two hyper convolutions, each with its norm; the result in (0, 1) takes the place of the face's features."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            HyperConv(channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            HyperConv(channels),
            nn.BatchNorm2d(channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """(B, C, H, W) features and (B, code) -> (B, C, H, W)."""
        for module in self:
            x = module(x, code) if isinstance(module, HyperConv) else module(x)
        return x


class HyperControlNet(nn.Module):
    """Sound and four maps of a face -> four maps of the face that speaks.

    Args:
        channels: of the face's maps, at 1/2 to 1/16.
        width: multiplier of the sound encoder's channels.
        least: no layer of it gets fewer channels.
    """

    def __init__(self, channels: Sequence[int], width: float = 1.0, least: int = 8) -> None:
        super().__init__()
        self.audio_encoder = MobileNetV3(1, width, least)
        head = scaled(128, width, least)
        self.aspp_a = LRASPP(self.audio_encoder.channels[-1], head)
        sizes = [*self.audio_encoder.channels[:-1], head]
        for level, size in enumerate(sizes):
            cells = (MEL_SIDES[0] >> level + 1) * (MEL_SIDES[1] >> level + 1)
            self.add_module(f"hnet{level}", HyperNet(size * cells))
        for level, count in enumerate(channels):
            self.add_module(f"dconv_down{level}", HyperLevel(count))

    def codes(self, mel: Tensor) -> list[Tensor]:
        """(B, 1, 80, 16) mel in [-4, 4] -> a code (B, 64) for each of the four levels."""
        *maps, deepest = self.audio_encoder(mel)
        maps.append(self.aspp_a(deepest))
        return [getattr(self, f"hnet{level}")(x.flatten(1)) for level, x in enumerate(maps)]

    def forward(self, mel: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """Redraw the maps of faces.

        Args:
            mel: (B, 1, 80, 16) in [-4, 4].
            maps: of the faces, (B, C, S/2, S/2) to (B, C, S/16, S/16).

        Returns:
            Maps of the same shapes in (0, 1).
        """
        codes = self.codes(mel)
        return [getattr(self, f"dconv_down{k}")(x, code) for k, (x, code) in enumerate(zip(maps, codes, strict=True))]
