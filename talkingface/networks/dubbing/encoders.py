"""Encoders and decoder that DINet and LawDNet have in common, each a plain stack of blocks.

Paper: DINet, arXiv:2303.03988, section 3; layer sizes from the official implementation. The index in a stack is part
of the published key names.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from talkingface.networks.blocks import scaled
from talkingface.networks.dubbing.blocks import Down, Norm, Residual, Same, Up

REFERENCES = 5
"""Reference crops of the same person, three channels each."""

AUDIO_WIDTH, AUDIO_ROWS = 29, 5
"""Numbers in a row of audio features, and rows that the generator hears: two before the frame, its own, two after."""

STRIDE = 4
"""Pixels of the crop per pixel of the maps that are warped and decoded."""


class Style(NamedTuple):
    """How the blocks of a generator are built.

    Attributes:
        width: multiplier of all channels; 1 is published.
        norm: in every block; LawDNet as published has none, DINet batch norm.
        leading: residual blocks begin with a ReLU; see `Residual`.
        idle_norms: of the audio encoder's residual blocks; see `Residual`.
    """

    width: float = 1.0
    norm: Norm = "batch"
    leading: bool = True
    idle_norms: bool = False

    def channels(self, published: int) -> int:
        """Channels of a layer that has `published` at width 1."""
        return scaled(published, self.width)


def face_encoder(inputs: int, style: Style) -> nn.Sequential:
    """Face crops (B, inputs, H, W) -> maps (B, 256, H/4, W/4)."""
    c = [style.channels(channels) for channels in (64, 128, 256)]
    return nn.Sequential(
        Same(2, inputs, c[0], 7, style.norm), Down(2, c[0], c[1], 3, style.norm), Down(2, c[1], c[2], 3, style.norm)
    )


def alignment_encoder(style: Style) -> nn.Sequential:
    """Maps of source and references (B, 512, h, w) -> how the two lie to each other (B, 128, ~h/16, ~w/16)."""
    inner = style.channels(128)
    rows = [(Same, 3), (Same, 11), (Same, 11), (Down, 3), (Same, 7), (Same, 7)]
    rows += [(Down, 3), (Same, 3), (Down, 3), (Same, 3), (Down, 3)]
    inputs = [2 * style.channels(256)] + [inner] * (len(rows) - 1)
    return nn.Sequential(*(kind(2, c, inner, kernel, style.norm) for c, (kind, kernel) in zip(inputs, rows)))


class RowLinear(nn.Linear):
    """Rows (B, width, n) of another front end -> rows (B, 29, n) of the width that the encoders of sound have."""

    def __init__(self, width: int) -> None:
        super().__init__(width, AUDIO_WIDTH)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, width, n) -> (B, 29, n)."""
        return super().forward(rows.mT).mT


def row_linear(width: int) -> nn.Module:
    """What stands before an encoder of sound: nothing, without any weights, where rows have its width."""
    return nn.Identity() if width == AUDIO_WIDTH else RowLinear(width)


def audio_encoder(style: Style, width: int = AUDIO_WIDTH) -> nn.Sequential:
    """Rows of audio features (B, width, 5) -> (B, 128, 2)."""
    c, norm = style.channels(128), style.norm

    def residual() -> Residual:
        return Residual(1, c, norm, style.leading, style.idle_norms)

    ends = (Same(1, width, c, 5, norm), Same(1, c, c, 3, norm))
    return nn.Sequential(ends[0], residual(), Down(1, c, c, 3, norm), residual(), Down(1, c, c, 3, norm), ends[1])


def appearance_layers(count: int, style: Style) -> nn.Sequential:
    """Residual blocks over maps of references, (B, 256, h, w) -> the same shape."""
    return nn.Sequential(*(Residual(2, style.channels(256), style.norm, style.leading) for _ in range(count)))


def decoder(style: Style) -> nn.Sequential:
    """Maps of source and warped references (B, 512, h, w) -> face crops (B, 3, 4h, 4w), RGB in [0, 1]."""
    c, norm = style.channels(128), style.norm
    return nn.Sequential(
        Same(2, 2 * style.channels(256), c, 3, norm),
        Up(2, c, c, 3, norm),
        Residual(2, c, norm, style.leading),
        Up(2, c, c, 3, norm),
        nn.Conv2d(c, 3, 7, padding=3),
        nn.Sigmoid(),
    )
