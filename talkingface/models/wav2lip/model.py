"""Wav2Lip: redraw the lower half of a face to a sound, judged by a lip-sync expert.

Paper: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild", ACM MM 2020,
arXiv:2008.10010. Deviations and kept quirks are listed in docs/wav2lip.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from talkingface.lipsync.expert.data import SyncWindows
from talkingface.lipsync.expert.graphs import expert_graph
from talkingface.lipsync.expert.inputs import PUBLISHED_SETTINGS as EXPERT_SETTINGS
from talkingface.lipsync.expert.training import build_expert
from talkingface.lipsync.half_face.data import FaceWindows
from talkingface.lipsync.half_face.graphs import drawn_faces, generator_inputs
from talkingface.lipsync.half_face.model import JudgedHalfFace
from talkingface.lipsync.half_face.objective import halves_l1
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.models.wav2lip.networks import QualityDiscriminator, Wav2LipGenerator
from talkingface.networks.sync_expert import FRAMES, sync_loss
from talkingface.plugin.contract import Batch, Official, Plan, StepContext, Update, frozen
from talkingface.plugin.graphs import Graph
from talkingface.plugin.registry import register

PUBLISHED_SETTINGS = {
    "crop.size": 96,
    **EXPERT_SETTINGS,  # the detector's box as it is: docs/wav2lip.md#published-weights
    "inference.pads": [0, 10, 0, 0],
    "inference.smooth": "published",
    "inference.mel_offset": 0,
    "inference.precision": "32",
}


@register("Wav2Lip")
class Wav2Lip(JudgedHalfFace):
    """Sync expert (stage kind `expert`), generator (`generator`), generator against quality discriminator (`gan`)."""

    Config = Wav2LipConfig
    plans: ClassVar[dict[str, Plan]] = {
        "expert": Plan(SyncWindows, trains=("sync_expert",)),
        "generator": Plan(FaceWindows, trains=("generator",), uses=("sync_expert",)),
        "gan": Plan(FaceWindows, trains=("generator", "discriminator"), uses=("sync_expert",)),
    }
    # Two files for one network: the first that is in the folder counts.
    official = (
        Official("wav2lip.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("wav2lip_gan.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("lipsync_expert.pth", "sync_expert"),
        Official("visual_quality_disc.pth", "discriminator"),
    )

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

    # -- steps ---------------------------------------------------------------------------------------------------------

    def generator_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """L1, and the expert's opinion once it is worth asking; see `sync_weight`."""
        drawn, target = self.draw(batch)
        weight = self.sync_weight(ctx, self.config.loss.sync)
        losses = {"l1": (1 - weight) * self._l1(drawn, target)}
        if weight:
            losses["sync"] = weight * self.sync_loss(drawn, batch)
        yield Update("generator", losses)

    def gan_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Generator, then discriminator on the same faces, as published."""
        options = self.config.loss
        drawn, target = self.draw(batch)
        weight = self.sync_weight(ctx, options.gan_sync)
        with frozen(self.discriminator):
            # `sync_loss` is the cross entropy of any probability.
            perceptual = sync_loss(self.discriminator(drawn), 1.0)
        losses = {
            "l1": (1 - weight - options.perceptual) * self._l1(drawn, target),
            "perceptual": options.perceptual * perceptual,
        }
        if weight:
            losses["sync"] = weight * self.sync_loss(drawn, batch)
        yield Update("generator", losses)
        # One pass for both; the rows of each frame are those of the real faces, then those of the drawn ones.
        opinions = self.discriminator(torch.cat([target, drawn.detach()]))
        real, fake = opinions.unflatten(0, (-1, 2, len(target))).unbind(1)
        yield Update("discriminator", {"real": sync_loss(real, 1.0), "fake": sync_loss(fake, 0.0)})

    def _l1(self, drawn: Tensor, target: Tensor) -> Tensor:
        return halves_l1(drawn, target, self.config.loss.mouth)

    # -- held-out values and pictures ----------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`l1`, `sync` (windows of 5 frames), and `loss`: both as they weigh once the sync term is on."""
        if ctx.stage.kind == "expert":
            return self.expert_validation(batch, ctx)
        drawn, target = self.draw(batch)
        values = {"l1": self._l1(drawn, target)}
        if drawn.shape[2] < FRAMES:
            return {**values, "loss": values["l1"]}
        weight = self.config.loss.gan_sync if ctx.stage.kind == "gan" else self.config.loss.sync
        values["sync"] = self.sync_loss(drawn, batch)
        return {**values, "loss": (1 - weight) * values["l1"] + weight * values["sync"]}

    # -- export --------------------------------------------------------------------------------------------------------

    def graphs(self) -> tuple[Graph, ...]:
        """Generator and sync expert."""
        crop = self.config.crop
        drawn = (drawn_faces(crop.size),)
        generator = Graph("generator", generator_inputs(self.config), drawn, crop=crop.model_dump())
        return generator, expert_graph(self.sync_expert, crop)
