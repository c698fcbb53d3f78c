"""Front end `hubert_ds`: HuBERT's letters mapped to DeepSpeech's logits, as DINet_optimized hears.

Not a change of order: a small network was trained to give what DeepSpeech 0.1 gives, so weights that know DeepSpeech
can be used with it. Facts (sizes, stretches, order of classes) are those of that code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.hubert import Hubert
from talkingface.networks.precision import full_float32
from talkingface.sound import SAMPLE_RATE
from talkingface.sound.front_ends import FrontEnd, register_front_end
from talkingface.sound.recogniser import ROWS_PER_SECOND, WIDTH
from talkingface.weights.checkpoint import load_state, named_tensors, read

_INNER = 512
_STRETCH = 10 * SAMPLE_RATE
_ROW = SAMPLE_RATE // ROWS_PER_SECOND
_BEYOND = 80  # samples that the last row's window reaches beyond whole rows


class LetterMapping(nn.Module):
    """HuBERT's logits (..., 29) in their own order -> those of DeepSpeech 0.1 (..., 29). Keys: `fc1` to `fc4`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, _INNER), nn.Linear(_INNER, _INNER)
        self.fc3, self.fc4 = nn.Linear(_INNER, _INNER), nn.Linear(_INNER, WIDTH)

    def forward(self, logits: Tensor) -> Tensor:
        """See the class."""
        for layer in (self.fc1, self.fc2, self.fc3):
            logits = F.relu(layer(logits))
        return self.fc4(logits)

    @classmethod
    def from_file(cls, path: str | Path) -> LetterMapping:
        """The mapping of a file, in eval mode.

        Raises:
            CheckpointError: missing, unreadable, or of another layout.
        """
        content = read(path)
        inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
        network = cls()
        load_state(network, named_tensors(inner, path, "wav2vecDS"), str(path))
        return network.eval()


@torch.inference_mode()
def letters(network: nn.Module, samples: np.ndarray) -> Tensor:
    """Logits (n // 320, 29) of samples (n,) at 16 kHz, in stretches of 10 s as published: each is heard by itself.

    A stretch is brought to mean 0 and deviation 1, silence to zeros; the last may be shorter.
    """
    device = next(network.parameters()).device
    whole = len(samples) // _ROW * _ROW
    rows = []
    for first in range(0, whole, _STRETCH):
        heard = torch.from_numpy(np.array(samples[first : min(whole, first + _STRETCH)], np.float32)).to(device)
        heard = F.pad(F.layer_norm(heard, heard.shape), (0, _BEYOND))
        with full_float32():
            rows.append(network(heard[None])[0])
    return torch.cat(rows) if rows else torch.zeros(0, WIDTH, device=device)


@register_front_end
class HubertFrontEnd(FrontEnd):
    """What stands in for DeepSpeech 0.1 where its file or TensorFlow's are not at hand; English above all."""

    name = "hubert_ds"
    rows_per_second = float(ROWS_PER_SECOND)
    first_row = 0.0125  # the middle of the 25 ms that a row hears
    width = WIDTH
    of_frames = True
    files = ("HuBERT/hubert_fairseq_large_ll60k_asr_ls960.pth", "DeepSpeech/wav2vecDS.pt")

    @cached_property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Recogniser and mapping, read at their first use."""
        recogniser, mapping = map(self.path, self.files)
        return Hubert.from_file(recogniser).to(self.device), LetterMapping.from_file(mapping).to(self.device)

    @torch.inference_mode()
    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        recogniser, mapping = self.networks
        return mapping(letters(recogniser, samples)).float().cpu().numpy()
