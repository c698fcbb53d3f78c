"""HuBERT with a head for letters: 50 rows per second from the waveform itself.

Paper: W.-N. Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units",
IEEE/ACM TASLP 2021, arXiv:2106.07447. Layers and keys are those of torchaudio's `HUBERT_ASR_LARGE`, in its large form:
norms before the attention, and over the channels of every convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.errors import CheckpointError
from talkingface.sound.recogniser import WIDTH
from talkingface.weights.checkpoint import load_state, named_tensors, read

LETTERS = "-|ETAONIHSRDLUMWCFGYPBVK'XJQZ"
"""The classes in their order: the blank of CTC, the end of a word, then by frequency."""

_FOREIGN = (1, 2, 3)
"""Classes of the published file that were never trained: begin, padding and end of sentences."""

_LAYERS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel and stride: together 400 and 320


@dataclass(frozen=True)
class HubertSizes:
    """Sizes of the network; the defaults are the large one's.

    Attributes:
        channels: of the convolutions.
        width: of the transformer.
        layers: of the transformer.
        heads: of each attention.
        inner: width inside the feed-forward layers.
        kernel: of the convolution that tells of positions, and its groups.
        groups: of that convolution.
    """

    channels: int = 512
    width: int = 1024
    layers: int = 24
    heads: int = 16
    inner: int = 4096
    kernel: int = 128
    groups: int = 16


class _Convolution(nn.Module):
    """Keys: `conv`, `layer_norm`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(outputs)
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T')."""
        return F.gelu(self.layer_norm(self.conv(x).transpose(1, 2)).transpose(1, 2))


class _Convolutions(nn.Module):
    """Key: `conv_layers`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = [1, *[channels] * (len(_LAYERS) - 1)]
        self.conv_layers = nn.ModuleList(_Convolution(i, channels, *layer) for i, layer in zip(inputs, _LAYERS))

    def forward(self, waveforms: Tensor) -> Tensor:
        """(B, n) -> (B, (n - 400) // 320 + 1, C)."""
        x = waveforms[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class _Projection(nn.Module):
    """Keys: `layer_norm`, `projection`."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layer_norm, self.projection = nn.LayerNorm(channels), nn.Linear(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.layer_norm(x))


class _Positions(nn.Module):
    """Key: `conv`."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.conv = nn.Conv1d(sizes.width, sizes.width, sizes.kernel, padding=sizes.kernel // 2, groups=sizes.groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        return F.gelu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class _Attention(nn.Module):
    """Keys: `k_proj`, `v_proj`, `q_proj`, `out_proj`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        parts = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    """Keys: `intermediate_dense`, `output_dense`."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.intermediate_dense, self.output_dense = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_dense(F.gelu(self.intermediate_dense(x)))


class _Layer(nn.Module):
    """Keys: `attention`, `layer_norm`, `feed_forward`, `final_layer_norm`."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.attention, self.layer_norm = _Attention(sizes.width, sizes.heads), nn.LayerNorm(sizes.width)
        self.feed_forward = _FeedForward(sizes.width, sizes.inner)
        self.final_layer_norm = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        x = x + self.attention(self.layer_norm(x))
        return x + self.feed_forward(self.final_layer_norm(x))


class _Transformer(nn.Module):
    """Keys: `pos_conv_embed`, `layers`, `layer_norm`."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.pos_conv_embed, self.layer_norm = _Positions(sizes), nn.LayerNorm(sizes.width)
        self.layers = nn.ModuleList(_Layer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        x = x + self.pos_conv_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)


class _Encoder(nn.Module):
    """Keys: `feature_projection`, `transformer`."""

    def __init__(self, sizes: HubertSizes) -> None:
        super().__init__()
        self.feature_projection = _Projection(sizes.channels, sizes.width)
        self.transformer = _Transformer(sizes)

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer(self.feature_projection(x))


class Hubert(nn.Module):
    """Waveforms (B, n) at 16 kHz, each of mean 0 and deviation 1 -> logits of letters (B, (n - 400) // 320 + 1, 29)."""

    def __init__(self, sizes: HubertSizes | None = None) -> None:
        super().__init__()
        sizes = sizes or HubertSizes()
        self.feature_extractor = _Convolutions(sizes.channels)
        self.encoder = _Encoder(sizes)
        self.aux = nn.Linear(sizes.width, WIDTH)

    def forward(self, waveforms: Tensor) -> Tensor:
        """See the class."""
        return self.aux(self.encoder(self.feature_extractor(waveforms)))

    @classmethod
    def from_file(cls, path: str | Path, sizes: HubertSizes | None = None) -> Hubert:
        """A network with the weights of a file, in eval mode.

        Raises:
            CheckpointError: missing, unreadable, or of another layout.
        """
        state = named_tensors(read(path), path, "HuBERT")
        network = cls(sizes)
        load_state(network, hubert_state(state, str(path)), str(path))
        return network.eval()


def hubert_state(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """A published state as this network has it: the positions' kernel of its direction and length, 29 classes.

    Raises:
        CheckpointError: it lacks the kernel or the head.
    """
    place = "encoder.transformer.pos_conv_embed.conv."
    names = (
        (f"{place}weight_g", f"{place}weight_v"),
        tuple(f"{place}parametrizations.weight.original{k}" for k in (0, 1)),
    )
    pair = next((each for each in names if all(name in state for name in each)), None)
    if pair is None or "aux.weight" not in state or "aux.bias" not in state:
        raise CheckpointError(f"{origin}: not a HuBERT of torchaudio with a head for letters")
    length, direction = (state[name] for name in pair)
    found = {name: values for name, values in state.items() if name not in pair}
    found[f"{place}weight"] = length * direction / direction.norm(dim=(0, 1), keepdim=True)
    if len(state["aux.bias"]) == WIDTH + len(_FOREIGN):
        kept = [k for k in range(WIDTH + len(_FOREIGN)) if k not in _FOREIGN]
        found |= {name: state[name][kept] for name in ("aux.weight", "aux.bias")}
    return found
