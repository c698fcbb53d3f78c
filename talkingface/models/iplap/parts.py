"""IPLAP's networks, and how they draw: what generation, previews and scores need of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from talkingface.models.iplap.config import IPLAPConfig
from talkingface.models.iplap.networks.landmark_generator import LandmarkGenerator
from talkingface.models.iplap.networks.renderer import Renderer
from talkingface.models.iplap.pixels import network_images, network_sketches
from talkingface.plugin.contract import Batch, TalkingFaceModel

if TYPE_CHECKING:
    import numpy as np


class IPLAPNetworks(TalkingFaceModel):
    """Landmark generator and renderer.

    Attributes:
        postprocess: called on every generated face (S, S, 3) uint8 RGB before it is pasted, e.g. an enhancer.
    """

    draws_wanted = True

    def __init__(self, config: IPLAPConfig) -> None:
        super().__init__()
        self.config = config
        self.postprocess: Callable[[np.ndarray], np.ndarray] | None = None
        net, draw = config.landmark, config.renderer
        self.landmark_generator = LandmarkGenerator(
            net.window, net.d_model, net.layers, net.heads, net.feedforward, net.dropout, net.width
        )
        # Same numbers, 1.4 times the speed on a CPU: its channels are few.
        self.landmark_generator.mel_encoder.to(memory_format=torch.channels_last)
        self.renderer = Renderer(config.crop.size, net.window, draw.width, draw.spade_hidden, draw.output)

    def predict(self, batch: Batch) -> Tensor:
        """Lips and jaws (B T, 2, 57) of a batch of windows."""
        return self.landmark_generator(
            batch["mels"], batch["pose"], batch["reference_pose"], batch["reference_content"]
        )

    def draw(self, batch: Batch, warp_only: bool = False) -> tuple[Tensor, Tensor | None, Tensor]:
        """Real, generated and warped faces (B, 3, S, S), BGR in [0, 1]."""
        real = network_images(batch["target"])
        references = network_images(batch["references"])
        sketches, reference_sketches = (
            network_sketches(batch["sketches"]),
            network_sketches(batch["reference_sketches"]),
        )
        return real, *self.renderer(real, sketches, references, reference_sketches, batch["mel"], warp_only=warp_only)
