"""DINet's generator: reference faces, moved channel by channel to what is heard, fill in the mouth of a face.

Paper: Z. Zhang et al., "DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution
Video", AAAI 2023, arXiv:2303.03988. Keys equal those of the published `clip_training_DINet_256mouth.pth` (width 1,
`published`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from talkingface.models.dinet.networks.adaat import AdaAT
from talkingface.networks.dubbing.blocks import Norm
from talkingface.networks.dubbing.encoders import (
    AUDIO_WIDTH,
    REFERENCES,
    Style,
    alignment_encoder,
    appearance_layers,
    audio_encoder,
    check_crop,
    decoder,
    face_encoder,
)

Compat = Literal["published", "corrected"]


class DINetGenerator(nn.Module):
    """Face crop without mouth, five reference crops and five rows of audio features -> face crop.

    Works for every `MouthCrop`. Input and output are RGB in [0, 1].

    Args:
        width: multiplier of all channels.
        compat: `published` as the weights need it, `corrected` for new training; sets `blended` when that is None.
        norm: in every block.
        blended: see `AdaAT`.
        audio_width: numbers in a row of audio features.
        references: reference crops.
    """

    def __init__(
        self,
        width: float = 1.0,
        compat: Compat = "corrected",
        norm: Norm = "batch",
        blended: bool | None = None,
        audio_width: int = AUDIO_WIDTH,
        references: int = REFERENCES,
    ) -> None:
        super().__init__()
        if compat not in ("published", "corrected"):
            raise ValueError(f"compat must be published or corrected, got {compat!r}")
        style = Style(width, norm)
        self.source_in_conv = face_encoder(3, style)
        self.ref_in_conv = face_encoder(3 * references, style)
        self.trans_conv = alignment_encoder(style)
        self.audio_encoder = audio_encoder(style, audio_width)
        self.appearance_conv_list = nn.ModuleList(appearance_layers(4, style) for _ in range(2))
        published = compat == "published"
        self.adaAT = AdaAT(2 * style.channels(128), style.channels(256), published if blended is None else blended)
        self.out_conv = decoder(style)

    def forward(self, source: Tensor, references: Tensor | tuple[Tensor, Tensor], audio: Tensor) -> Tensor:
        """Draw face crops.

        Args:
            source: (B, 3, H, W), the mouth hidden.
            references: (B, 15, H, W), frame after frame on the channels; or what `encode` made of them, with B or 1.
            audio: (B, 29, 5) rows of audio features, the frame's own in the middle.

        Returns:
            (B, 3, H, W).

        Raises:
            ValueError: the sides of the crop do not divide by 4.
        """
        check_crop(*source.shape[-2:])
        known = references if isinstance(references, tuple) else self.encode(references)
        maps, appearance = (each.expand(len(source), -1, -1, -1) for each in known)
        face = self.source_in_conv(source)
        moved = self.adaAT(appearance, self.code(face, maps, audio))
        return self.out_conv(torch.cat([face, self.appearance_conv_list[1](moved)], dim=1))

    def encode(self, references: Tensor) -> tuple[Tensor, Tensor]:
        """What can be kept for all frames of a video that share their references (B, 15, H, W): two maps."""
        maps = self.ref_in_conv(references)
        return maps, self.appearance_conv_list[0](maps)

    def code(self, face: Tensor, references: Tensor, audio: Tensor) -> Tensor:
        """Maps of source and references (B, 256, h, w) and audio (B, 29, 5) -> the code (B, 256) that steers AdaAT."""
        alignment = self.trans_conv(torch.cat([face, references], dim=1))
        return torch.cat([alignment.mean((2, 3)), self.audio_encoder(audio).mean(2)], dim=1)
