"""LawDNet's generator: reference faces, warped to what is heard, fill in the mouth of a face.

Paper: LawDNet, arXiv:2409.09326, section 3. Keys equal those of the published `checkpoint_epoch_170.pth` (width 1,
`published`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.models.lawdnet.networks.attention import PLACES, CrossAttention
from talkingface.models.lawdnet.networks.quirks import Compat, Quirks
from talkingface.models.lawdnet.networks.warp import GRID, LocalAffineWarp
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

Condition = Literal["attention", "pooled"]

NORMS: dict[Compat, Norm] = {"published": "none", "corrected": "group"}
"""Without a norm the sound does not reach the mouth for hundreds of steps; group norm also suits batches of one."""


class References(NamedTuple):
    """What the generator knows of the reference crops, the same for all frames of a video."""

    maps: Tensor  # (B, 256, H/4, W/4)
    appearance: Tensor  # (B, 256, H/4, W/4), what the first warp deforms


class LawDNetGenerator(nn.Module):
    """Face crop without mouth, five reference crops and five rows of audio features -> face crop.

    Works for every `MouthCrop`. Input and output are RGB in [0, 1].

    Args:
        width: multiplier of all channels.
        compat: `published` as the weights need it, `corrected` for new training; sets what is left None below.
        norm: in every block.
        condition: how faces and sound become one code: `attention`, or their means side by side (`pooled`), as in the
            earliest published weights.
        warps: rounds of appearance layers and warp.
        keypoints: per channel and warp.
        grid: points per axis of a warp's field.
        audio_width: numbers in a row of audio features.
        references: reference crops.
        recompute: see `LocalAffineWarp`.
        switches: fields of `Quirks`, each by name.
    """

    def __init__(
        self,
        width: float = 1.0,
        compat: Compat = "corrected",
        norm: Norm | None = None,
        condition: Condition = "attention",
        warps: int = 2,
        keypoints: int = 5,
        grid: int | tuple[int, int] = GRID,
        audio_width: int = AUDIO_WIDTH,
        references: int = REFERENCES,
        recompute: bool = False,
        **switches: bool | None,
    ) -> None:
        super().__init__()
        if condition not in ("attention", "pooled"):
            raise ValueError(f"condition must be attention or pooled, got {condition!r}")
        self.quirks = Quirks.of(compat, **switches)
        norm = NORMS[compat] if norm is None else norm
        # Without norms residual blocks are the published ones. Kept: those of sound own norms that nothing applies.
        bare = norm == "none"
        style = Style(width, norm, leading=not bare, idle_norms=bare and compat == "published")
        channels, code = style.channels(256), style.channels(256)
        self.source_in_conv = face_encoder(3, style)
        self.ref_in_conv = face_encoder(3 * references, style)
        self.trans_conv = alignment_encoder(style)
        self.audio_encoder = audio_encoder(style, audio_width)
        self.appearance_conv_list = nn.ModuleList(appearance_layers(2, style) for _ in range(warps))
        if condition == "pooled":
            code = 2 * style.channels(128)
        self.lawLayer_list = nn.ModuleList(
            LocalAffineWarp(code, channels, self.quirks, keypoints, grid, recompute) for _ in range(warps)
        )
        self.out_conv = decoder(style)
        self.cross_attention = CrossAttention(width) if condition == "attention" else None
        for dead in range(self._first):
            # No process waits for gradients that never come.
            self.appearance_conv_list[dead].requires_grad_(False)
            self.lawLayer_list[dead].requires_grad_(False)

    @property
    def _first(self) -> int:
        """The first round that counts."""
        return len(self.lawLayer_list) - 1 if self.quirks.dead_layers else 0

    def forward(self, source: Tensor, references: Tensor | References, audio: Tensor) -> Tensor:
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
        known = references if isinstance(references, References) else self.encode(references)
        known = References(*(maps.expand(len(source), -1, -1, -1) for maps in known))
        face = self.source_in_conv(source)
        code = self.code(face, known.maps, audio)
        warped = self.lawLayer_list[self._first](known.appearance, code)
        for layers, warp in list(zip(self.appearance_conv_list, self.lawLayer_list))[self._first + 1 :]:
            warped = warp(layers(warped), code)
        return self.out_conv(torch.cat([face, warped], dim=1))

    def encode(self, references: Tensor) -> References:
        """What can be kept for all frames of a video that share their references (B, 15, H, W)."""
        maps = self.ref_in_conv(references)
        return References(maps, self.appearance_conv_list[self._first](maps))

    def code(self, face: Tensor, references: Tensor, audio: Tensor) -> Tensor:
        """Maps of source and references (B, 256, h, w) and audio (B, 29, 5) -> the code that steers the warps."""
        alignment = self.trans_conv(torch.cat([face, references], dim=1))
        sound = self.audio_encoder(audio)
        if self.cross_attention is None:
            return torch.cat([alignment.mean((2, 3)), sound.mean(2)], dim=1)
        return self.cross_attention(at_places(alignment), sound)


def at_places(alignment: Tensor) -> Tensor:
    """Maps of any size at the size that the attention has places for."""
    if alignment.shape[-2:] == PLACES:
        return alignment
    return F.interpolate(alignment, size=PLACES, mode="bilinear", align_corners=True)
