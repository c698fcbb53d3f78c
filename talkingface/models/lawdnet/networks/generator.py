"""LawDNet's generator: reference faces, warped to what is heard, fill in the mouth of a face.

Paper: LawDNet, arXiv:2409.09326, section 3. Keys equal those of the published `checkpoint_epoch_170.pth` (width 1,
`published`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.models.lawdnet.networks.attention import PLACES, CrossAttention
from talkingface.models.lawdnet.networks.quirks import Quirks
from talkingface.models.lawdnet.networks.warp import GRID, LocalAffineWarp
from talkingface.networks.dubbing.blocks import Norm, Residual
from talkingface.networks.dubbing.encoders import AUDIO_WIDTH, REFERENCES, Style, appearance_layers, decoder
from talkingface.networks.dubbing.generator import Compat, DubbingGenerator

Condition = Literal["attention", "pooled"]

NORMS: dict[Compat, Norm] = {"published": "none", "corrected": "batch"}
"""Without a norm the sound does not reach the mouth for hundreds of steps; with group norm it comes late as well."""


class LawDNetGenerator(DubbingGenerator):
    """See `DubbingGenerator`.

    Args:
        width: multiplier of all channels.
        compat: sets what is left None below.
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
        if condition not in ("attention", "pooled"):
            raise ValueError(f"condition must be attention or pooled, got {condition!r}")
        quirks = Quirks.of(compat, **switches)
        norm = NORMS[compat] if norm is None else norm
        # Without norms residual blocks are the published ones. Kept: those of sound own norms that nothing applies.
        bare = norm == "none"
        style = Style(width, norm, leading=not bare, idle_norms=bare and compat == "published")
        super().__init__(style, audio_width, references)
        self.quirks = quirks
        channels, code = style.channels(256), style.channels(256)
        self.appearance_conv_list = nn.ModuleList(appearance_layers(2, style) for _ in range(warps))
        if condition == "pooled":
            code = 2 * style.channels(128)
        self.lawLayer_list = nn.ModuleList(
            LocalAffineWarp(code, channels, quirks, keypoints, grid, recompute, compat == "corrected")
            for _ in range(warps)
        )
        self.out_conv = decoder(style)
        self.cross_attention = CrossAttention(width) if condition == "attention" else None
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> LawDNetGenerator:
        """Switch gradients on or off; never on for weights that nothing uses, which no process is to wait for."""
        super().requires_grad_(requires_grad)
        for unused in self._unused():
            unused.requires_grad_(False)
        return self

    def _unused(self) -> Iterator[nn.Module]:
        """What is kept for the published weights' sake alone."""
        for rounds in (self.appearance_conv_list, self.lawLayer_list):
            yield from rounds[: self._first]
        for block in self.modules():
            if isinstance(block, Residual) and block.idle:
                yield from (block.norm1, block.norm2)

    @property
    def _first(self) -> int:
        """The first round that counts."""
        return len(self.lawLayer_list) - 1 if self.quirks.dead_layers else 0

    def condition(self, alignment: Tensor, sound: Tensor) -> Tensor:
        """See `DubbingGenerator.condition`; by attention, where there is one."""
        if self.cross_attention is None:
            return super().condition(alignment, sound)
        return self.cross_attention(at_places(alignment), sound)

    def appearance(self, maps: Tensor) -> Tensor:
        """See `DubbingGenerator.appearance`."""
        return self.appearance_conv_list[self._first](maps)

    def move(self, appearance: Tensor, code: Tensor) -> Tensor:
        """See `DubbingGenerator.move`; each round deforms what the one before has left."""
        moved = self.lawLayer_list[self._first](appearance, code)
        for number in range(self._first + 1, len(self.lawLayer_list)):
            moved = self.lawLayer_list[number](self.appearance_conv_list[number](moved), code)
        return moved


def at_places(alignment: Tensor) -> Tensor:
    """Maps of any size at the size that the attention has places for."""
    if alignment.shape[-2:] == PLACES:
        return alignment
    return F.interpolate(alignment, size=PLACES, mode="bilinear", align_corners=True)
