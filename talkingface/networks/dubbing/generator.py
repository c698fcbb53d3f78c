"""What the generators of DINet and LawDNet do alike: reference faces, moved to what is heard, fill in a mouth.

Paper: DINet, arXiv:2303.03988, section 3. The attributes are published key names; the order in which a subclass adds
its own is that of the published files.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from talkingface.networks.dubbing.encoders import (
    AUDIO_WIDTH,
    REFERENCES,
    STRIDE,
    Style,
    alignment_encoder,
    audio_encoder,
    face_encoder,
    row_linear,
)

Compat = Literal["published", "corrected"]
"""`published` as published weights need it, `corrected` for new training."""


class References(NamedTuple):
    """What a generator knows of the reference crops, the same for all frames of a video."""

    maps: Tensor  # (B, 256, H/4, W/4)
    appearance: Tensor  # (B, 256, H/4, W/4), what is moved


class DubbingGenerator(nn.Module):
    """Face crop without mouth, five reference crops and five rows of audio features -> face crop.

    Works for every `MouthCrop`. Input and output are RGB in [0, 1].

    Args:
        style: how blocks are built.
        audio_width: numbers in a row of audio features; others than 29 go through a linear layer.
        references: reference crops.
    """

    out_conv: nn.Module

    def __init__(self, style: Style, audio_width: int = AUDIO_WIDTH, references: int = REFERENCES) -> None:
        super().__init__()
        self.source_in_conv = face_encoder(3, style)
        self.ref_in_conv = face_encoder(3 * references, style)
        self.trans_conv = alignment_encoder(style)
        self.audio_linear = row_linear(audio_width)
        self.audio_encoder = audio_encoder(style)

    def forward(self, source: Tensor, references: Tensor | References, audio: Tensor) -> Tensor:
        """Draw face crops.

        Args:
            source: (B, 3, H, W), the mouth hidden.
            references: (B, 15, H, W), frame after frame on the channels; or what `encode` made of them, with B or 1.
            audio: (B, width, 5) rows of audio features, the frame's own in the middle.

        Returns:
            (B, 3, H, W).

        Raises:
            ValueError: the sides of the crop do not divide by 4.
        """
        check_crop(*source.shape[-2:])
        known = references if isinstance(references, References) else self.encode(references)
        maps, appearance = (each.expand(source.shape[0], -1, -1, -1) for each in known)
        face = self.source_in_conv(source)
        moved = self.move(appearance, self.code(face, maps, audio))
        return self.out_conv(torch.cat([face, moved], dim=1))

    def encode(self, references: Tensor) -> References:
        """What can be kept for all frames of a video that share their references (B, 15, H, W)."""
        maps = self.ref_in_conv(references)
        return References(maps, self.appearance(maps))

    def code(self, face: Tensor, references: Tensor, audio: Tensor) -> Tensor:
        """Maps of source and references (B, 256, h, w), audio (B, width, 5) -> the code (B, 256) that steers `move`."""
        alignment = self.trans_conv(torch.cat([face, references], dim=1))
        return self.condition(alignment, self.audio_encoder(self.audio_linear(audio)))

    def condition(self, alignment: Tensor, sound: Tensor) -> Tensor:
        """How faces lie to each other (B, 128, h, w) and sound (B, 128, 2) -> one code, here their means (B, 256)."""
        return torch.cat([alignment.mean((2, 3)), sound.mean(2)], dim=1)

    @abstractmethod
    def appearance(self, maps: Tensor) -> Tensor:
        """Maps of references -> what is moved, (B, 256, h, w)."""

    @abstractmethod
    def move(self, appearance: Tensor, code: Tensor) -> Tensor:
        """What is moved, to where the code says, (B, 256, h, w)."""


def check_compat(compat: str) -> None:
    """Refuse another word than those of `Compat`.

    Raises:
        ValueError: it is one.
    """
    if compat not in ("published", "corrected"):
        raise ValueError(f"compat must be published or corrected, got {compat!r}")


def check_crop(height: int, width: int) -> None:
    """See that a crop comes back from the decoder with its size.

    Raises:
        ValueError: its sides do not divide by 4.
    """
    if height % STRIDE or width % STRIDE:
        raise ValueError(
            f"a face crop must have sides that are multiples of {STRIDE}, got {width}x{height};"
            " the side of the mouth must be a multiple of 32 pixels"
        )
