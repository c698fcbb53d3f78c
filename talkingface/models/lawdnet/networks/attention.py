"""Cross attention of LawDNet: the sound asks, the maps of the faces answer. All channels are tokens.

Paper: LawDNet, arXiv:2409.09326, section 3.1; layer sizes from the official implementation. Keys equal those of the
published `cross_attention`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import being_exported, scaled

PLACES = (8, 6)
"""Rows and columns to which the map of the faces is resized."""

MOMENTS = 2
"""What is left of five rows of sound behind the audio encoder."""


class _Reshape(nn.Module):
    """Answers of all tokens -> one code. Keys: `conv1`, `fc`."""

    def __init__(self, tokens: int, inner: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(tokens, inner, 3, padding=1)
        self.fc = nn.Linear(inner * (size // 2), size)

    def forward(self, answers: Tensor) -> Tensor:
        """(B, tokens, size) -> (B, size)."""
        return F.relu(self.fc(F.max_pool1d(F.relu(self.conv1(answers)), 2).flatten(1)))


class CrossAttention(nn.Module):
    """One code of faces and sound.

    Args:
        width: multiplier of all channels; 128 tokens and a code of 256 at 1.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        tokens, size = scaled(128, width), scaled(256, width)
        self.positional_encoding_video = nn.Parameter(torch.randn(tokens, *PLACES))
        self.positional_encoding_audio = nn.Parameter(torch.randn(tokens, MOMENTS))
        self.query_proj = nn.Linear(MOMENTS, size)
        self.key_proj = nn.Linear(math.prod(PLACES), size)
        self.value_proj = nn.Linear(math.prod(PLACES), size)
        self.final_linear = nn.Linear(size, size)
        self.output_reshape = _Reshape(tokens, scaled(64, width), size)

    def forward(self, faces: Tensor, sound: Tensor) -> Tensor:
        """(B, tokens, 8, 6) and (B, tokens, 2) -> (B, size)."""
        seen = (faces + self.positional_encoding_video).flatten(2)
        query = self.query_proj(sound + self.positional_encoding_audio)
        parts = query, self.key_proj(seen), self.value_proj(seen)
        if being_exported():
            # The exporter knows attention with an axis of heads only.
            answers = F.scaled_dot_product_attention(*(part[:, None] for part in parts))[:, 0]
        else:
            answers = F.scaled_dot_product_attention(*parts)
        return self.output_reshape(self.final_linear(answers))
