"""The recurrent decoder: four maps and the face itself -> features at full size.

Paper: S. Lin et al., "Robust High-Resolution Video Matting", WACV 2022, arXiv:2108.11515, section 3.1, whose decoder
HyperLips (arXiv:2310.05720) takes over. Keys equal those of the published HyperLips weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, ...]
"""Memory of the four recurrent levels, deepest first: (B, C, H, W) each."""

MARGIN = 8
"""Rows above a cut that the last layers need to draw what lies below it.

One is spoilt by the enlargement at the cut, one more by each of the five 3x3 convolutions that follow; even, because
maps of half the size are cut.
"""


class ConvGRU(nn.Module):
    """Gated recurrent unit whose products are 3x3 convolutions. Keys: `ih.0`, `hh.0`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.ih = nn.Sequential(nn.Conv2d(2 * channels, 2 * channels, 3, padding=1), nn.Sigmoid())
        self.hh = nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.Tanh())

    def start(self, x: Tensor) -> Tensor:
        """Output for a memory of zeros, (B, C, H, W) -> (B, C, H, W).

        What would meet the zeros is left out: half of each kernel and the whole reset gate. Update gate and candidate
        are one convolution.
        """
        c = self.channels
        weight = torch.cat([self.ih[0].weight[c:, :c], self.hh[0].weight[:, :c]])
        bias = torch.cat([self.ih[0].bias[c:], self.hh[0].bias])
        update, candidate = F.conv2d(x, weight, bias, padding=1).chunk(2, dim=1)
        return update.sigmoid() * candidate.tanh()

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """One step of time: (B, C, H, W) and the memory (B, C, H, W) -> the new memory, which is also the output."""
        reset, update = self.ih(torch.cat([x, state], dim=1)).chunk(2, dim=1)
        candidate = self.hh(torch.cat([x, reset * state], dim=1))
        return (1 - update) * state + update * candidate


class _Recurrent(nn.Module):
    """Sends the second half of the channels through a GRU, over time where `frames` says that the batch has some."""

    gru: ConvGRU

    def remember(self, x: Tensor, frames: int, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(T*B, C, H, W), time-major, and the memory before it -> the same shape, and the memory after it.

        Without frames (0) every item starts anew, and there is no memory.
        """
        kept, fed = x.chunk(2, dim=1)
        if not frames:
            return torch.cat([kept, self.gru.start(fed)], dim=1), None
        outputs = []
        for now in fed.unflatten(0, (frames, -1)):
            state = self.gru.start(now) if state is None else self.gru.step(now, state)
            outputs.append(state)
        return torch.cat([kept, torch.cat(outputs)], dim=1), state


class BottleneckBlock(_Recurrent):
    """The deepest level: memory alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gru = ConvGRU(channels // 2)

    def forward(self, x: Tensor, frames: int, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `_Recurrent.remember`."""
        return self.remember(x, frames, state)


class UpsamplingBlock(_Recurrent):
    """Enlarges, adds the map and the small face of this level, convolves, remembers."""

    def __init__(self, inputs: int, skip: int, source: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs + skip + source, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
        self.gru = ConvGRU(outputs // 2)

    def forward(
        self, x: Tensor, skip: Tensor, source: Tensor, frames: int, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """(N, C, H/2, W/2) features, (N, C', H, W) map, (N, 6, H, W) small face -> features (N, C'', H, W), memory."""
        x = torch.cat([_enlarged(x), skip, source], dim=1)
        return self.remember(self.conv(x), frames, state)


class OutputBlock(nn.Module):
    """The last level: the face at full size, without memory."""

    def __init__(self, inputs: int, source: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs + source, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """(N, C, H/2, W/2) features and the face (N, 6, H, W) -> (N, C', H, W)."""
        return self.conv(torch.cat([_enlarged(x), source], dim=1))


class FaceDecoder(nn.Module):
    """Maps of four levels -> features at full size.

    Args:
        skips: channels of the maps at 1/2 to 1/16.
        channels: of the outputs at 1/8, 1/4, 1/2 and 1.
        source: channels of the face.
    """

    def __init__(self, skips: Sequence[int], channels: Sequence[int], source: int = 6) -> None:
        super().__init__()
        self.decode4 = BottleneckBlock(skips[3])
        self.decode3 = UpsamplingBlock(skips[3], skips[2], source, channels[0])
        self.decode2 = UpsamplingBlock(channels[0], skips[1], source, channels[1])
        self.decode1 = UpsamplingBlock(channels[1], skips[0], source, channels[2])
        self.decode0 = OutputBlock(channels[2], source, channels[3])

    def forward(
        self, face: Tensor, maps: Sequence[Tensor], frames: int = 0, state: State | None = None, top: int = 0
    ) -> tuple[Tensor, State | None]:
        """Features at full size.

        Args:
            face: (N, 6, S, S).
            maps: (N, C, S/2, S/2) to (N, C, S/16, S/16).
            frames: T where N = T*B is time-major and the memory runs over T; 0: every item starts anew.
            state: memory of the frame before the first; None: zeros.
            top: first row at full size that is wanted, even; what lies above is left out.

        Returns:
            (N, C, S - top, S); and the memory behind the last frame, None without frames.
        """
        small = [F.avg_pool2d(face, 2, ceil_mode=True, count_include_pad=False)]
        for _ in range(2):
            small.append(F.avg_pool2d(small[-1], 2, ceil_mode=True, count_include_pad=False))
        before = state or (None,) * 4
        x, memory4 = self.decode4(maps[3], frames, before[0])
        x, memory3 = self.decode3(x, maps[2], small[2], frames, before[1])
        x, memory2 = self.decode2(x, maps[1], small[1], frames, before[2])
        x, memory1 = self.decode1(x, maps[0], small[0], frames, before[3])
        x, face = x[:, :, top // 2 :], face[:, :, top:]
        memories = (memory4, memory3, memory2, memory1)
        return self.decode0(x, face), memories if frames else None


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
