"""Voice conversion: the mel of one voice becomes that of another one saying the same.

Paper: K. Qian et al., "F0-consistent many-to-many non-parallel voice conversion via conditional autoencoder", ICASSP
2020, which MakeItTalk (Y. Zhou et al., ACM TOG 39(6) 221, 2020) puts before its landmark networks. Keys equal those of
the published `ckpt_autovc.pth`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from talkingface.models.makeittalk.networks.pieces import named
from talkingface.sound.pitch import PITCH_BINS
from talkingface.sound.speaker import SPEAKER
from talkingface.sound.voice_mel import BANDS


class Converted(NamedTuple):
    """What a conversion gives.

    Attributes:
        mel: (B, T, 80) of the decoder.
        refined: (B, T, 80), the postnet's: what the landmark networks hear.
        codes: (B, T / freq, 2 * neck), the content without the voice.
    """

    mel: Tensor
    refined: Tensor
    codes: Tensor


class AutoVC(nn.Module):
    """Encoder that squeezes the voice out, decoder that puts another one in.

    Args:
        neck: size of the code in either direction.
        freq: rows that share a code; the number of rows must be a multiple of it.
        hidden: channels of convolutions and decoder, a multiple of 32.
        depth: layers of the decoder's LSTM.
    """

    def __init__(self, neck: int = 16, freq: int = 16, hidden: int = 512, depth: int = 3) -> None:
        super().__init__()
        if hidden % 32:
            raise ValueError(f"hidden must be a multiple of 32, got {hidden}")
        self.freq = freq
        self.encoder = _Encoder(neck, hidden)
        self.decoder = _Decoder(2 * neck, hidden, depth)
        self.postnet = _Postnet(hidden)

    def encode(self, mel: Tensor, speaker: Tensor) -> Tensor:
        """(B, T, 80) scaled log-mel and (B, 256) of its speaker -> codes (B, T / freq, 2 * neck).

        Raises:
            ValueError: T is no multiple of `freq`.
        """
        if mel.shape[1] % self.freq:
            raise ValueError(f"the number of rows must be a multiple of {self.freq}, got {mel.shape[1]}")
        forward, backward = self.encoder(mel, speaker).chunk(2, dim=-1)
        # Of a group each direction is read where it has heard the whole of it.
        return torch.cat([forward[:, self.freq - 1 :: self.freq], backward[:, :: self.freq]], dim=-1)

    def decode(self, codes: Tensor, speaker: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Codes, the wanted speaker (B, 256) and pitch (B, T, 257) -> mel (B, T, 80), decoder's and postnet's."""
        rows = codes.repeat_interleave(self.freq, dim=1)
        mel = self.decoder(torch.cat([rows, _along(speaker, rows), pitch], dim=-1))
        return mel, mel + self.postnet(mel.transpose(1, 2)).transpose(1, 2)

    def forward(self, mel: Tensor, source: Tensor, target: Tensor, pitch: Tensor) -> Converted:
        """Convert.

        Args:
            mel: (B, T, 80) scaled log-mel, T a multiple of `freq`.
            source: (B, 256) embedding of the speaker that is heard.
            target: (B, 256) embedding of the speaker that is wanted.
            pitch: (B, T, 257) one-hot fundamental frequency.
        """
        codes = self.encode(mel, source)
        return Converted(*self.decode(codes, target, pitch), codes)


def _normed(inputs: int, outputs: int, groups: int = 32) -> nn.Sequential:
    """Convolution over time that keeps the length, and its norm. Keys: `0.conv`, `1`."""
    return nn.Sequential(named(conv=nn.Conv1d(inputs, outputs, 5, padding=2)), nn.GroupNorm(groups, outputs))


class _Encoder(nn.Module):
    """Mel and speaker -> (B, T, 2 * neck), forward half first."""

    def __init__(self, neck: int, hidden: int) -> None:
        super().__init__()
        inputs = (BANDS + SPEAKER, hidden, hidden)
        self.convolutions = nn.ModuleList(_normed(channels, hidden) for channels in inputs)
        self.lstm = nn.LSTM(hidden, neck, 2, batch_first=True, bidirectional=True)

    def forward(self, mel: Tensor, speaker: Tensor) -> Tensor:
        """(B, T, 80) and (B, 256) -> (B, T, 2 * neck)."""
        x = torch.cat([mel, _along(speaker, mel)], dim=-1).transpose(1, 2)
        for convolution in self.convolutions:
            x = convolution(x).relu()
        return self.lstm(x.transpose(1, 2))[0]


class _Decoder(nn.Module):
    """Code, speaker and pitch of every row -> mel."""

    def __init__(self, code: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(code + SPEAKER + PITCH_BINS, hidden, depth, batch_first=True)
        self.linear_projection = named(linear_layer=nn.Linear(hidden, BANDS))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, T, code + 256 + 257) -> (B, T, 80)."""
        return self.linear_projection(self.lstm(rows)[0])


class _Postnet(nn.Module):
    """What is added to the decoder's mel."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        inner = [_normed(channels, hidden) for channels in (BANDS, hidden, hidden, hidden)]
        self.convolutions = nn.ModuleList([*inner, _normed(hidden, BANDS, groups=5)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, 80, T) -> (B, 80, T)."""
        *inner, last = self.convolutions
        for convolution in inner:
            x = convolution(x).tanh()
        return last(x)


def _along(vector: Tensor, rows: Tensor) -> Tensor:
    """A vector (B, C) at every row of (B, T, ...): (B, T, C)."""
    return vector[:, None].expand(-1, rows.shape[1], -1)
