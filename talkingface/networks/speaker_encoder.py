"""Speaker encoder of Resemblyzer 0.1.4, rebuilt: voices of one person give vectors that point the same way.

Paper: L. Wan et al., "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018. Keys equal those of
`pretrained.pt` inside the package's wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.errors import CheckpointError
from talkingface.sound.front_ends import SpeakerVector, register_speaker
from talkingface.sound.speaker import SPEAKER, Detector, default_detector, partial_mels, pieces, prepared_voice
from talkingface.weights.checkpoint import load_state, read

_OF_TRAINING = ("similarity_weight", "similarity_bias")  # in the published file, for its loss alone


class SpeakerEncoder(nn.Module):
    """Rows of mel -> unit vector.

    Args:
        bands: width of a row.
        hidden: size of the LSTM.
        depth: its layers.
        size: of the vector.
    """

    def __init__(self, bands: int = 40, hidden: int = 256, depth: int = 3, size: int = 256) -> None:
        super().__init__()
        self.lstm = nn.LSTM(bands, hidden, depth, batch_first=True)
        self.linear = nn.Linear(hidden, size)

    def forward(self, mels: Tensor) -> Tensor:
        """Partial windows (N, 160, 40) of power -> (N, 256) of unit length, none of it negative."""
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(self.linear(hidden[-1]).relu(), dim=1)

    @torch.no_grad()
    def embed(self, audio: np.ndarray, detector: Detector | None = None) -> np.ndarray:
        """The vector of a voice: mean of its pieces of a minute, each of unit length.

        Args:
            audio: mono samples (n,) in [-1, 1] at 16 kHz.
            detector: see `prepared_voice`.

        Returns:
            (256,) float32, of unit length for less than two minutes.
        """
        voice = prepared_voice(audio, detector)
        return np.mean([self.embed_prepared(piece) for piece in pieces(voice)], axis=0)

    @torch.no_grad()
    def embed_prepared(self, voice: np.ndarray) -> np.ndarray:
        """Mean of the partial windows' vectors, (256,) float32 of unit length; `voice` is taken as it is."""
        mels = torch.from_numpy(partial_mels(voice)).to(self.linear.weight.device)
        return F.normalize(self(mels).mean(dim=0), dim=0).cpu().numpy()

    def load(self, path: str | Path) -> SpeakerEncoder:
        """Fill from the published file.

        Raises:
            CheckpointError: missing, unreadable, or of another layout.
        """
        content = read(path)
        state = content.get("model_state") if isinstance(content, Mapping) else None
        if not isinstance(state, Mapping):
            raise CheckpointError(f"{path}: no speaker encoder inside: expected an entry 'model_state'")
        load_state(self, {key: value for key, value in state.items() if key not in _OF_TRAINING}, str(path))
        return self


@register_speaker
class Resemblyzer(SpeakerVector):
    """The published speaker encoder as a part of front ends.

    Args:
        weights_dir: folder of weight files.
        device: where the network computes.
        detector: who says what is voice; None: the published one where it is installed.
    """

    name = "resemblyzer"
    files = ("Resemblyzer/pretrained.pt",)
    width = SPEAKER

    def __init__(
        self, weights_dir: str | Path = "checkpoints", device: str = "cpu", detector: Detector | None = None
    ) -> None:
        super().__init__(weights_dir, device)
        self.detector = self.one_of(Detector, "detector", detector or default_detector())

    def settings(self) -> dict[str, Any]:
        """Who says what is voice: each cuts other silences."""
        return {"silence": self.detector}

    @cached_property
    def network(self) -> SpeakerEncoder:
        """The encoder, read at its first use."""
        return SpeakerEncoder().load(self.path(self.files[0])).to(self.device).eval()

    def vector(self, samples: np.ndarray) -> np.ndarray:
        """See `SpeakerVector.vector`."""
        return self.network.embed(samples, self.detector)
