"""Translation module of the IPLAP renderer: draws the face from sketches, aligned references and audio.

Paper: W. Zhong et al., CVPR 2023, section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.models.iplap.networks.alignment import Aligned, feature_channels
from talkingface.networks.blocks import AdaIN, mel_encoder, quick_layout, scaled
from talkingface.networks.spade import Spade


class TranslationModule(nn.Module):
    """Masked face, sketches, aligned references and a mel window -> the values before the output's sigmoid.

    Args:
        sketch_channels: channels of the driving sketches, 3 per frame.
        width: multiplier of the channels; 1 is the published size.
        spade_hidden: hidden channels of the SPADE modulations.
    """

    def __init__(self, sketch_channels: int = 15, width: float = 1.0, spade_hidden: int = 256) -> None:
        super().__init__()
        fine, coarse = feature_channels(width)
        audio = scaled(512, width)
        self.audio_encoder = mel_encoder(audio, width)
        self.conv1 = nn.Conv2d(3 + sketch_channels, fine, 7, padding=3, bias=False)
        self.conv1_bn = nn.BatchNorm2d(fine)
        self.conv2 = nn.Conv2d(fine, coarse, 3, stride=2, padding=1, bias=False)
        self.conv2_bn = nn.BatchNorm2d(coarse)
        self.spade_1 = Spade(coarse, coarse, spade_hidden)
        self.adain_1 = AdaIN(coarse, audio)
        self.spade_2 = Spade(coarse // 4, fine, spade_hidden)
        self.adain_2 = AdaIN(coarse // 4, audio)
        self.spade_4 = Spade(coarse // 4, 3, spade_hidden)  # Kept: the published files have no 3
        self.conv_last = nn.Conv2d(coarse // 4, 3, 7, padding=3, bias=False)

    def forward(self, masked: Tensor, sketches: Tensor, aligned: Aligned, mel: Tensor) -> Tensor:
        """Draw the whole face; nothing is copied from the masked frame.

        Args:
            masked: (B, 3, S, S), lower half zero.
            sketches: (B, 3*T, S, S).
            aligned: references in the target pose.
            mel: (B, 1, 80, 16).

        Returns:
            (B, 3, S, S) float32, unbounded.
        """
        aligned = Aligned(*map(quick_layout, aligned))
        audio = self.audio_encoder(mel).flatten(1)
        x = F.relu(self.conv1_bn(self.conv1(quick_layout(torch.cat([masked, sketches], dim=1)))))
        x = F.relu(self.conv2_bn(self.conv2(x)))
        x = self.adain_1(self.spade_1(x, aligned.coarse), audio)
        x = F.pixel_shuffle(x, 2)
        x = self.adain_2(self.spade_2(x, aligned.fine), audio)
        x = F.leaky_relu(self.spade_4(x, aligned.image), 0.01)
        return self.conv_last(x).float()
