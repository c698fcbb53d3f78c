"""DeepSpeech 2: letters from sound, 50 rows per second, whose logits steer LawDNet.

Paper: D. Amodei et al., "Deep Speech 2: End-to-End Speech Recognition in English and Mandarin", ICML 2016,
arXiv:1512.02595. Layers and keys are those of deepspeech.pytorch V3 (SeanNaren), `LibriSpeech_Pretrained_v3.ckpt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from talkingface.errors import CheckpointError
from talkingface.networks.precision import full_float32
from talkingface.sound.front_ends import FrontEnd, register_front_end
from talkingface.sound.recogniser import ROWS_PER_SECOND, WIDTH, deepspeech2_input
from talkingface.weights.checkpoint import load_state, named_tensors, read

LETTERS = "_'ABCDEFGHIJKLMNOPQRSTUVWXYZ "
"""The classes in their order; the first is the blank of CTC. DeepSpeech 0.1 has another order."""

BANDS = 161
_MAPS, _MAP_ROWS = 32, 41


class _Convolutions(nn.Module):
    """Key: `seq_module`."""

    def __init__(self) -> None:
        super().__init__()
        self.seq_module = nn.Sequential(
            nn.Conv2d(1, _MAPS, (41, 11), (2, 2), (20, 5)),
            nn.BatchNorm2d(_MAPS),
            nn.Hardtanh(0, 20),
            nn.Conv2d(_MAPS, _MAPS, (21, 11), (2, 1), (10, 5)),
            nn.BatchNorm2d(_MAPS),
            nn.Hardtanh(0, 20),
        )

    def forward(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, 161, T) -> (B, T', 1312), T' = (T - 1) // 2 + 1."""
        return self.seq_module(spectrogram).flatten(1, 2).transpose(1, 2)


class _PerRow(nn.Module):
    """A module applied to every row of a sequence. Key: `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C')."""
        return self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class _Recurrent(nn.Module):
    """Batch norm where wanted, and an LSTM in both directions, whose outputs are added. Keys: `batch_norm`, `rnn`."""

    def __init__(self, inputs: int, hidden: int, norm: bool) -> None:
        super().__init__()
        self.batch_norm = _PerRow(nn.BatchNorm1d(inputs)) if norm else nn.Identity()
        self.rnn = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, hidden)."""
        forward, backward = self.rnn(self.batch_norm(x))[0].chunk(2, dim=2)
        return forward + backward


class DeepSpeech2(nn.Module):
    """Normalised spectrograms -> logits of letters.

    Args:
        hidden: size of the recurrent layers.
        layers: recurrent layers.
        classes: letters.
    """

    def __init__(self, hidden: int = 1024, layers: int = 5, classes: int = WIDTH) -> None:
        super().__init__()
        self.conv = _Convolutions()
        sizes = [_MAPS * _MAP_ROWS, *[hidden] * (layers - 1)]
        self.rnns = nn.Sequential(*(_Recurrent(size, hidden, norm=level > 0) for level, size in enumerate(sizes)))
        self.fc = nn.Sequential(_PerRow(nn.Sequential(nn.BatchNorm1d(hidden), nn.Linear(hidden, classes, bias=False))))

    def forward(self, spectrogram: Tensor) -> Tensor:
        """(B, 161, T), 100 columns per second -> logits (B, T', 29), 50 rows per second."""
        return self.fc(self.rnns(self.conv(spectrogram[:, None])))

    @classmethod
    def from_file(cls, path: str | Path) -> DeepSpeech2:
        """A network with the weights of a published file, in eval mode; its sizes are seen from them.

        Only the tensors are read of the file: it also holds the settings of its training as objects.

        Raises:
            CheckpointError: missing, unreadable, of another layout, or for another number of letters.
        """
        content = read(path, objects=True)
        state = named_tensors(content.get("state_dict") if isinstance(content, Mapping) else None, path, "DeepSpeech 2")
        heads = [state.get(key) for key in ("rnns.0.rnn.weight_hh_l0", "fc.0.module.1.weight")]
        if any(head is None or head.ndim != 2 for head in heads):
            raise CheckpointError(f"{path}: not a DeepSpeech 2 of deepspeech.pytorch V3")
        if len(heads[1]) != WIDTH:
            raise CheckpointError(f"{path}: a DeepSpeech 2 of {len(heads[1])} letters; the features are {WIDTH} logits")
        layers = len({key.split(".")[1] for key in state if key.startswith("rnns.")})
        network = cls(heads[0].shape[1], layers)
        load_state(network, state, str(path))
        return network.eval()

    @torch.inference_mode()
    def extract(self, audio: np.ndarray) -> np.ndarray:
        """Logits before softmax, (T, 29) float32, of mono samples (n,) in [-1, 1] at 16 kHz.

        T is n // 320 + 1 for whole rows: the transform is centred. The network must be in eval mode.
        """
        heard = torch.from_numpy(deepspeech2_input(audio)).to(self.fc[0].module[1].weight.device)
        with full_float32():
            return self(heard[None])[0].float().cpu().numpy()


@register_front_end
class DeepSpeech2FrontEnd(FrontEnd):
    """Logits of DeepSpeech 2, what newer weights of LawDNet hear."""

    name = "deepspeech2"
    rows_per_second = float(ROWS_PER_SECOND)
    width = WIDTH
    of_frames = True
    files = ("DeepSpeech/LibriSpeech_Pretrained_v3.ckpt",)

    @cached_property
    def network(self) -> DeepSpeech2:
        """The recogniser, read at its first use."""
        return DeepSpeech2.from_file(self.path(self.files[0])).to(self.device)

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return self.network.extract(samples)
