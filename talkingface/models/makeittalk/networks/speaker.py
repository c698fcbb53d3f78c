"""Speaker-aware branch: how this person moves head and face when these words are said.

Paper: Y. Zhou et al., "MakeItTalk: Speaker-Aware Talking-Head Animation", ACM TOG 39(6) 221, 2020, section 4.2. Keys
equal those of the published `ckpt_speaker_branch.pth`, less a decoder that is never run.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from talkingface.models.makeittalk.networks.attention import RowEncoder
from talkingface.models.makeittalk.networks.pieces import FACE, heard, mlp
from talkingface.sound.speaker import SPEAKER

CODE = 128
STRESS = 3.0
"""The published networks were trained on speaker embeddings times this."""

UNUSED = ("decoder.", "comb_mlp.")
"""Beginnings of keys in the published file whose layers take no part in any output."""


class Motion(NamedTuple):
    """What a sequence of sound and a speaker give.

    Attributes:
        displacement: (B, T, 204), to be added to the face at rest.
        code: (B, 128) of the speaker, what the temporal discriminator is told.
    """

    displacement: Tensor
    code: Tensor


class SpeakerBranch(nn.Module):
    """Windows of sound and a speaker -> displacements of a whole sequence, each row seen together with all others.

    Args:
        bands: width of a row of sound.
        hidden: size of the LSTM.
        depth: layers of the LSTM.
        dropout: between layers of the LSTM, in training.
        code: size of the speaker's code and of the noise.
        width: of the transformer, per head.
        heads: of the transformer.
        layers: of the transformer.
        transformer_dropout: inside the transformer.
    """

    def __init__(
        self,
        bands: int = 80,
        hidden: int = 256,
        depth: int = 3,
        dropout: float = 0.5,
        code: int = CODE,
        width: int = 32,
        heads: int = 2,
        layers: int = 2,
        transformer_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.code = code
        self.audio_content_encoder = nn.LSTM(
            bands, hidden, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0
        )
        self.spk_emb_encoder = mlp([SPEAKER, 2 * code, code, code])
        self.encoder = RowEncoder(hidden + 2 * code, width, heads, layers, transformer_dropout)
        self.out = mlp([heads * width + code, 512, 256, FACE])

    def forward(
        self,
        windows: Tensor,
        speaker: Tensor,
        z: Tensor | None = None,
        code_noise: float = 0.0,
        mask: Tensor | None = None,
    ) -> Motion:
        """Displacements of B sequences.

        Args:
            windows: (B, T, 18, bands), the window that begins at each row, T at most 512.
            speaker: (B, 256) embeddings, times `STRESS`.
            z: (B, T, code) noise that stands for what neither sound nor speaker tell; None: zeros, as in use.
            code_noise: standard deviation of what is added to the speaker's code; published: 0.01 in training.
            mask: (B, T) bool, the rows that are there; None: all.
        """
        sound = heard(self.audio_content_encoder, windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        code = self.spk_emb_encoder(speaker)
        if code_noise:
            code = code + code_noise * torch.randn_like(code)
        z = sound.new_zeros(*sound.shape[:2], self.code) if z is None else z
        rows = torch.cat([sound, code[:, None].expand(-1, sound.shape[1], -1), z], dim=-1)
        return Motion(self.out(torch.cat([self.encoder(rows, mask), z], dim=-1)), code)
