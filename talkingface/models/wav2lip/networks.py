"""Networks of Wav2Lip: the generator that redraws the lower half of a face, and its visual quality discriminator.

Paper: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild", ACM MM 2020,
section 3. Keys equal those of the published `wav2lip.pth` and `visual_quality_disc.pth` (96 px, width 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from talkingface.networks.blocks import (
    ConvBlock,
    UpBlock,
    conv_stack,
    full_precision,
    mel_encoder,
    plain_stack,
    scaled,
)

PUBLISHED_SIZE = 96


class Wav2LipGenerator(nn.Module):
    """Face with its lower half hidden, a reference face and a sound -> the whole face.

    Args:
        size: side of the face crop in pixels, 3 times a power of two from 24 on; published: 96. Every doubling adds one
            level outside the published ones, every halving takes the outermost away.
        width: multiplier of all channels.
        least: no layer gets fewer channels than this (or than its published number, if that is smaller).
    """

    def __init__(self, size: int = PUBLISHED_SIZE, width: float = 1.0, least: int = 4) -> None:
        super().__init__()
        levels = resolutions(size)
        # Outermost first: channels and residual blocks of the encoder's levels at full, half, ... size, down to 3x3.
        inner = [(16, 0), (32, 2), (64, 3), (128, 2), (256, 2), (512, 1)]
        sizes = inner[-levels:] if levels <= len(inner) else [(16, 0)] * (levels - len(inner)) + inner
        down = [(scaled(channels, width, least), repeats) for channels, repeats in sizes]
        deepest, audio = scaled(512, width, least), scaled(512, width, least)
        self.face_encoder_blocks = nn.ModuleList([conv_stack(2, 6, [(down[0][0], 7, 1, 3, 0)])])
        for (inputs, _), (outputs, repeats) in zip(down[:-1], down[1:], strict=True):
            self.face_encoder_blocks.append(conv_stack(2, inputs, [(outputs, 3, 2, 1, repeats)]))
        self.face_encoder_blocks.append(conv_stack(2, down[-1][0], [(deepest, 3, 1, 0, 0), (deepest, 1, 1, 0, 0)]))
        self.audio_encoder = mel_encoder(audio, width, least=least)
        self.face_decoder_blocks = nn.ModuleList([conv_stack(2, audio, [(audio, 1, 1, 0, 0)])])
        skips = [deepest, *(channels for channels, _ in reversed(down))]
        # Deepest first: channels of the decoder at 3x3, 6x6, ... and their residual blocks.
        up = [(512, 1), (512, 2), (384, 2), (256, 2), (128, 2), (64, 2)]
        up = (up + [(64, 2)] * levels)[:levels]
        inputs = audio + skips[0]
        for level, (channels, repeats) in enumerate(up):
            outputs = scaled(channels, width, least)
            block = UpBlock(inputs, outputs, 2, 1, 1) if level else UpBlock(inputs, outputs, 1, 0)
            residual = [ConvBlock(2, outputs, outputs, 3, 1, 1, residual=True) for _ in range(repeats)]
            self.face_decoder_blocks.append(nn.Sequential(block, *residual))
            inputs = outputs + skips[level + 1]
        hidden = scaled(32, width, least)
        self.output_block = nn.Sequential(ConvBlock(2, inputs, hidden, 3, 1, 1), nn.Conv2d(hidden, 3, 1), nn.Sigmoid())

    def forward(self, mel: Tensor, faces: Tensor) -> Tensor:
        """Redraw faces.

        Args:
            mel: (B, 1, 80, 16) or (B, T, 1, 80, 16) in [-4, 4].
            faces: (B, 6, S, S) or (B, 6, T, S, S), BGR in [0, 1]: masked target, then reference.

        Returns:
            (B, 3, S, S) or (B, 3, T, S, S), BGR in [0, 1].
        """
        if faces.dim() == 5:
            batch = faces.shape[0]
            # Kept: time-major, as published. Batch norm does not care, parity of intermediate values does.
            drawn = self(mel.transpose(0, 1).flatten(0, 1), faces.permute(2, 0, 1, 3, 4).flatten(0, 1))
            return drawn.unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)
        skips = []
        for block in self.face_encoder_blocks:
            faces = block(faces)
            skips.append(faces)
        x = self.audio_encoder(mel)
        for block in self.face_decoder_blocks:
            x = torch.cat([block(x), skips.pop()], dim=1)
        return self.output_block(x)


class QualityDiscriminator(nn.Module):
    """Probability that the lower half of a face is a real picture.

    Args:
        size: side of the face crop in pixels; published: 96.
        width: multiplier of all channels.
    """

    def __init__(self, size: int = PUBLISHED_SIZE, width: float = 1.0) -> None:
        super().__init__()
        levels = resolutions(size)
        c = [scaled(channels, width) for channels in (32, 64, 128, 256, 512)]
        blocks = [plain_stack(3, [(c[0], 7, 1, 3)]), plain_stack(c[0], [(c[1], 5, (1, 2), 2), (c[1], 5, 1, 2)])]
        # The lower half is S/2 x S; behind the first stride it is square, and halvings bring it to 3x3.
        halvings = [(c[2], 5, 2), (c[3], 5, 2), (c[4], 3, 1), (c[4], 3, 1)]
        halvings = halvings[-(levels - 2) :] if levels <= 6 else [(c[2], 5, 2)] * (levels - 6) + halvings
        inputs = c[1]
        for channels, kernel, padding in halvings:
            blocks.append(plain_stack(inputs, [(channels, kernel, 2, padding), (channels, kernel, 1, padding)]))
            inputs = channels
        blocks.append(plain_stack(inputs, [(c[4], 3, 1, 0), (c[4], 1, 1, 0)]))
        self.face_encoder_blocks = nn.ModuleList(blocks)
        self.binary_pred = nn.Sequential(nn.Conv2d(c[4], 1, 1), nn.Sigmoid())

    def features(self, faces: Tensor) -> Tensor:
        """(B, 3, T, S, S) faces -> (T*B, C, 1, 1), all of frame 0 first."""
        x = faces.permute(2, 0, 1, 3, 4).flatten(0, 1)
        x = x[..., x.shape[-2] // 2 :, :]
        for block in self.face_encoder_blocks:
            x = block(x)
        return x

    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, T, S, S), BGR in [0, 1] -> probabilities (T*B, 1) in float32, all of frame 0 first."""
        features = self.features(faces)
        # In bf16 a probability above 0.998 is 1, from where no gradient leads back.
        with full_precision(features):
            return self.binary_pred(features.float()).flatten(1)


def resolutions(size: int) -> int:
    """Resolutions from `size` down to 3, both included.

    Raises:
        ValueError: the size is not 24, 48, 96, 192, ...
    """
    levels, side = 1, size
    while side > 3 and side % 2 == 0:
        levels, side = levels + 1, side // 2
    if side != 3 or levels < 4:
        raise ValueError(f"the face size must be 24, 48, 96, 192, ... pixels, got {size}")
    return levels
