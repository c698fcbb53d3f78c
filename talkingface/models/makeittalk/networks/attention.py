"""Transformer encoder of the speaker-aware branch and of its temporal discriminator, under the published keys."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.models.makeittalk.networks.pieces import named

ROWS = 512
"""Positions in the published table: the longest sequence."""


class RowEncoder(nn.Module):
    """Rows of a sequence, each seen in the light of all others.

    Args:
        inputs: width of a row.
        width: width per head.
        heads: attention heads; the encoder is `heads * width` wide.
        depth: layers.
        dropout: of attention and of each layer's outputs.
    """

    def __init__(self, inputs: int, width: int = 32, heads: int = 2, depth: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        size = heads * width
        self.size = size
        self.embed = named(embed=nn.Linear(inputs, size))
        self.pe = _Positions(size)
        self.layers = nn.ModuleList(_Layer(size, heads, dropout) for _ in range(depth))
        self.norm = RowNorm(size)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            rows: (B, T, inputs), T at most 512.
            mask: (B, T) bool, the rows that are there; None: all.

        Returns:
            (B, T, heads * width); rows that are not there hold numbers without a meaning.

        Raises:
            ValueError: the sequence is longer than the table of positions.
        """
        x = self.pe(self.embed(rows) * math.sqrt(self.size))
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class RowNorm(nn.Module):
    """Norm of a row. Kept: it divides by the unbiased deviation, which `nn.LayerNorm` does not."""

    def __init__(self, size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        centred = x - x.mean(dim=-1, keepdim=True)
        return self.alpha * centred / (x.std(dim=-1, keepdim=True) + self.eps) + self.bias


class _Positions(nn.Module):
    """Adds sines and cosines of a row's place; a buffer, because the published checkpoint holds it."""

    pe: Tensor

    def __init__(self, size: int, rows: int = ROWS) -> None:
        super().__init__()
        channel = torch.arange(size, dtype=torch.float64)
        # Kept: the exponent is twice that of the usual table, so half of the channels hardly turn.
        angle = torch.arange(rows, dtype=torch.float64)[:, None] / 10000.0 ** (2 * channel / size)
        table = torch.where(channel.long() % 2 == 0, angle.sin(), angle.cos())
        self.register_buffer("pe", table.float()[None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, size) -> (B, T, size)."""
        if x.shape[1] > self.pe.shape[1]:
            raise ValueError(f"a sequence has at most {self.pe.shape[1]} rows, got {x.shape[1]}")
        return x + self.pe[:, : x.shape[1]]


class _Attention(nn.Module):
    """Attention of all rows to all rows."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_linear = nn.Linear(size, size)
        self.v_linear = nn.Linear(size, size)
        self.k_linear = nn.Linear(size, size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, size) -> (B, T, size)."""
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q_linear, self.k_linear, self.v_linear)
        )
        seen = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(seen.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    """Two linear layers on every row by itself."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(size, 32 * size)
        self.dropout = nn.Dropout(dropout)
        self.linear_2 = nn.Linear(32 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, size) -> (B, T, size)."""
        return self.linear_2(self.dropout(self.linear_1(x).relu()))


class _Layer(nn.Module):
    """A layer that normalises before each of its halves."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_1 = RowNorm(size)
        self.norm_2 = RowNorm(size)
        self.attn = _Attention(size, heads, dropout)
        self.ff = _FeedForward(size, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, size) -> (B, T, size)."""
        x = x + self.dropout(self.attn(self.norm_1(x), mask))
        return x + self.dropout(self.ff(self.norm_2(x)))
