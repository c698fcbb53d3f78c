"""Wav2Lip's networks, and how they draw: what generation, previews and scores need of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from talkingface.lipsync.expert.training import build_expert
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.models.wav2lip.networks import QualityDiscriminator, Wav2LipGenerator
from talkingface.models.wav2lip.pixels import network_faces, network_input
from talkingface.plugin.contract import Batch, TalkingFaceModel


class Wav2LipNetworks(TalkingFaceModel):
    """Generator, discriminator and sync expert."""

    def __init__(self, config: Wav2LipConfig) -> None:
        super().__init__()
        self.config = config
        self.expert_config = config.expert
        size, widths = config.crop.size, config.generator
        self.generator = Wav2LipGenerator(size, widths.width, widths.least_channels)
        self.discriminator = QualityDiscriminator(size, widths.discriminator_width)
        self.sync_expert = build_expert(config.expert, config.expert_side)
        for network in (self.generator, self.discriminator):  # same numbers, faster
            network.to(memory_format=torch.channels_last)

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Generated and true faces (B, 3, T, S, S), BGR in [0, 1]."""
        drawn = self.generator(batch["mels"], network_input(batch["target"], batch["reference"]))
        return drawn.float(), network_faces(batch["target"])
