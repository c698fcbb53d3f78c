"""IPLAP's second stage: reference frames, driving sketches, upper face and audio -> the talking face.

Paper: W. Zhong et al., CVPR 2023, section 3.2. Perceptual losses are outside the network (`networks.losses`), so that
inference needs no VGG. Names and order of the parts equal those of the published checkpoint.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from talkingface.models.iplap.networks.alignment import AlignmentModule, References
from talkingface.models.iplap.networks.translation import TranslationModule

Output = Literal["translation", "warp_residual"]


class Renderer(nn.Module):
    """Draws the middle frame of a window of driving sketches from any number of reference frames.

    Images are float in [0, 1]; the published weights expect BGR. Sketches may have one channel, (..., 1, S, S), which
    is repeated to the three channels of the published layout.

    Args:
        img_size: side S of the face in pixels, a multiple of 4.
        frames: driving sketches per face.
        width: multiplier of the channels; 1 is the published size.
        spade_hidden: hidden channels of the SPADE modulations.
        output: `translation` draws the face alone, as published. `warp_residual` adds a correction to the warped
            reference: sharper early in training, but the translation then tends to stay idle.
    """

    def __init__(
        self,
        img_size: int = 128,
        frames: int = 5,
        width: float = 1.0,
        spade_hidden: int = 256,
        output: Output = "translation",
    ) -> None:
        super().__init__()
        if img_size <= 0 or img_size % 4:
            raise ValueError(f"img_size must be a multiple of 4, got {img_size}")
        if output not in ("translation", "warp_residual"):
            raise ValueError(f"output must be translation or warp_residual, got {output!r}")
        self.img_size = img_size
        self.output = output
        self.flow_module = AlignmentModule(3 * frames, width, spade_hidden)
        self.translation = TranslationModule(3 * frames, width, spade_hidden)

    def forward(
        self,
        face: Tensor,
        sketches: Tensor,
        reference_frames: Tensor,
        reference_sketches: Tensor,
        mels: Tensor,
        warp_only: bool = False,
    ) -> tuple[Tensor | None, Tensor]:
        """Draw B faces.

        Args:
            face: (B, 1, 3, S, S) or (B, 3, S, S); its lower half is zeroed here, so a full frame will do.
            sketches: (B, T, 3 or 1, S, S).
            reference_frames: (B, N, 3, S, S).
            reference_sketches: (B, N, 3 or 1, S, S).
            mels: (B, 1, 1, 80, 16) or (B, 1, 80, 16), window of the middle frame.
            warp_only: run the alignment alone, for the first epochs that train nothing else.

        Returns:
            Generated face (B, 3, S, S), None with `warp_only`, and warped reference (B, 3, S, S).
        """
        references = self.encode_references(reference_frames, reference_sketches)
        return self.forward_with_references(face, sketches, references, mels, warp_only)

    def encode_references(self, frames: Tensor, sketches: Tensor) -> References:
        """Features of (B, N, 3, S, S) reference frames and sketches; B = 1 serves a whole video.

        In eval mode the result can be kept and passed to `forward_with_references` for every frame.
        """
        self._check_size(frames)
        return self.flow_module.encode(frames, three_channels(sketches))

    def forward_with_references(
        self, face: Tensor, sketches: Tensor, references: References, mels: Tensor, warp_only: bool = False
    ) -> tuple[Tensor | None, Tensor]:
        """Like `forward`, from references encoded before (first axis B, or 1 for frames of one video)."""
        self._check_size(sketches)
        drive = three_channels(sketches).flatten(1, 2)
        aligned = self.flow_module.align(references, drive)
        if warp_only:
            return None, aligned.image
        face = face.flatten(0, 1) if face.dim() == 5 else face
        mels = mels.flatten(0, 1) if mels.dim() == 5 else mels
        values = self.translation(self.mask_lower_half(face), drive, aligned, mels)
        if self.output == "translation":
            return torch.sigmoid(values), aligned.image
        generated = aligned.image + torch.tanh(values)
        return generated if self.training else generated.clamp(0, 1), aligned.image

    @staticmethod
    def mask_lower_half(face: Tensor) -> Tensor:
        """Zero the rows from S/2 on of (..., S, S); without effect on a face that is masked already."""
        half = face.shape[-2] // 2
        return torch.cat([face[..., :half, :], torch.zeros_like(face[..., half:, :])], dim=-2)

    def _check_size(self, images: Tensor) -> None:
        if images.shape[-2:] != (self.img_size, self.img_size):
            raise ValueError(f"expected images of {self.img_size} pixels, got {tuple(images.shape[-2:])}")


def three_channels(sketches: Tensor) -> Tensor:
    """(B, T, 3 or 1, S, S) -> (B, T, 3, S, S)."""
    return sketches.expand(-1, -1, 3, -1, -1)
