"""HyperLipsBase: the sound steers the features of a face through kernels of its own.

Paper: Y. Chen et al., "HyperLips: Hyper Control Lips with High Resolution Decoder for Talking Face Generation",
arXiv:2310.05720. Deviations and kept quirks are listed in docs/hyperlips.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from talkingface.config.sections import Section
from talkingface.errors import ConfigError
from talkingface.lipsync.expert.data import SyncWindows
from talkingface.lipsync.expert.graphs import expert_graph
from talkingface.lipsync.expert.inputs import PUBLISHED_SETTINGS as EXPERT_SETTINGS
from talkingface.lipsync.expert.training import build_expert
from talkingface.lipsync.half_face.data import FaceWindows
from talkingface.lipsync.half_face.draw import Drawer
from talkingface.lipsync.half_face.model import JudgedHalfFace
from talkingface.lipsync.half_face.objective import halves_l1
from talkingface.media.info import FPS
from talkingface.models.hyperlips_base.config import BaseStageOptions, HyperLipsBaseConfig
from talkingface.models.hyperlips_base.draw import FollowingDrawer, LowerHalfDrawer
from talkingface.models.hyperlips_base.graphs import generator_graph
from talkingface.models.hyperlips_base.networks.discriminator import HalfFaceDiscriminator
from talkingface.models.hyperlips_base.networks.generator import HyperLipsGenerator
from talkingface.networks.sync_expert import FRAMES, sync_loss
from talkingface.plugin.contract import Batch, Borrowed, Official, Plan, StepContext, Update, frozen
from talkingface.plugin.registry import register

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset
    from talkingface.config.sections import StageConfig
    from talkingface.plugin.graphs import Graph

log = logging.getLogger("talkingface")

LONGEST = 25  # frames of the windows that a memory trains on

PUBLISHED_SETTINGS = {
    "crop.size": 128,
    **EXPERT_SETTINGS,  # the detector's box as it is: docs/hyperlips.md#published-weights
    "inference.pads": [0, 10, 0, 0],
    "inference.smooth": "published",
    "inference.reference": "first",
    "inference.colour": "keep",
    "inference.mel_offset": 0,
    "inference.precision": "32",
}


@register("HyperLipsBase")
class HyperLipsBase(JudgedHalfFace):
    """Sync expert (stage kind `expert`), then the generator against it and a discriminator (`base`)."""

    Config = HyperLipsBaseConfig
    plans: ClassVar[dict[str, Plan]] = {
        "expert": Plan(SyncWindows, trains=("sync_expert",)),
        "base": Plan(
            FaceWindows, trains=("generator", "discriminator"), uses=("sync_expert",), options=BaseStageOptions
        ),
    }
    borrows: ClassVar[dict[str, Borrowed]] = {
        "sync_expert": Borrowed(
            "SyncNet", settings={"expert.width": "expert.width", "expert.side": "crop.size"}, optional=True
        )
    }
    # Several files for one network: the first that is in the folder counts.
    official = (
        Official("hyperlipsbase_mead.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("hyperlipsbase_lrs2.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("hyperlipsbase_multi.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("pretrain_sync_expert.pth", "sync_expert"),
    )

    def __init__(self, config: HyperLipsBaseConfig) -> None:
        super().__init__()
        self.config = config
        self.expert_config = config.expert
        sizes = config.generator
        self.generator = HyperLipsGenerator(sizes.width, sizes.least_channels, sizes.temporal)
        self.discriminator = HalfFaceDiscriminator(config.crop.size, sizes.discriminator_width)
        self.sync_expert = build_expert(config.expert, config.expert_side)
        for network in (self.generator, self.discriminator):  # same numbers, faster
            network.to(memory_format=torch.channels_last)

    @classmethod
    def check_overrides(cls, trained: Section, asked: Section) -> None:
        """Refuse a memory that nothing has trained.

        Raises:
            ConfigError: it is switched on for weights of a generator without it.
        """
        if asked.generator.temporal and not trained.generator.temporal:
            raise ConfigError(
                "model.generator.temporal: the memory of these weights was never trained; train a stage with"
                " --model.generator.temporal=True that begins from them (init_from)"
            )

    @classmethod
    def check_stages(cls, config: Section, stages: Sequence[StageConfig]) -> None:
        """See that the last stage trains the memory as it is used; tell of those before that do not.

        Raises:
            ConfigError: its windows are too short, or too long.
        """
        drawing = [stage for stage in stages if stage.kind == "base"] if config.generator.temporal else []
        for stage in drawing:
            frames = stage.data.frames
            if FRAMES <= frames <= LONGEST:
                continue
            if stage is drawing[-1]:
                raise ConfigError(
                    f"stages.{stage.name}.data.frames is {frames}: with model.generator.temporal the last stage that"
                    f" draws trains the memory on windows of {FRAMES} to {LONGEST} frames"
                )
            log.info("stage %s: windows of %d; %s trains the memory that is used", stage.name, frames, drawing[-1].name)

    @classmethod
    def left_untrained(cls, config: Section, stages: Sequence[StageConfig]) -> tuple[str, ...]:
        """The memory, where all stages have seen single frames."""
        lengths = [stage.data.frames for stage in stages if stage.kind == "base"]
        alone = config.generator.temporal and lengths and max(lengths) == 1
        return ("memory (model.generator.temporal)",) if alone else ()

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """See `JudgedHalfFace.initialise`.

        Raises:
            ConfigError: weights of the stage and of `loss` together leave nothing for L1.
        """
        super().initialise(dataset, ctx)
        if ctx.stage.kind == "base" and (taken := sum(self._shares(ctx))) >= 1:
            raise ConfigError(
                f"stage '{ctx.stage.name}': sync + perceptual must stay below 1, got {taken:g}; give both in options"
            )

    # -- steps ---------------------------------------------------------------------------------------------------------

    def base_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Generator, then discriminator on the same faces, as published."""
        drawn, target = self.draw(batch)
        sync, perceptual = self._weights(ctx, drawn.shape[2])
        losses = {"l1": (1 - sync - perceptual) * halves_l1(drawn, target, self.config.loss.mouth)}
        if sync:
            losses["sync"] = sync * self.sync_loss(drawn, batch)
        if perceptual:
            with frozen(self.discriminator):
                losses["perceptual"] = perceptual * self._opinion(drawn, 1.0)
        yield Update("generator", losses)
        if perceptual:
            # Two passes, for a discriminator without batch norm the same as one; half the memory.
            real, fake = self._opinion(target, 1.0), self._opinion(drawn.detach(), 0.0)
            yield Update("discriminator", {"real": real, "fake": fake})

    def _weights(self, ctx: StepContext, frames: int) -> tuple[float, float]:
        """Weights of sync and perceptual term in this stage, as they stand; single frames have no sync."""
        sync, perceptual = self._shares(ctx)
        return self.sync_weight(ctx, sync) if frames >= FRAMES else 0.0, perceptual

    def _shares(self, ctx: StepContext) -> tuple[float, float]:
        """Weights of sync and perceptual term in this stage: its own, else those of `loss`."""
        own, loss = self._options(ctx), self.config.loss
        sync = loss.sync if own.sync is None else own.sync
        return sync, loss.perceptual if own.perceptual is None else own.perceptual

    def _options(self, ctx: StepContext) -> BaseStageOptions:
        options = ctx.stage.options
        return options if isinstance(options, BaseStageOptions) else BaseStageOptions()

    def _opinion(self, faces: Tensor, wanted: float) -> Tensor:
        """Cross entropy of the discriminator's probabilities; `sync_loss` is that of any."""
        return sync_loss(self.discriminator(faces), wanted)

    # -- held-out values -----------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`l1`, `sync` (windows of 5 frames and more), `perceptual`, `real`, `fake`, and `loss`, their weighted sum.

        `loss` weighs the sync term as if it were on.
        """
        if ctx.stage.kind == "expert":
            return self.expert_validation(batch, ctx)
        drawn, target = self.draw(batch)
        sync, perceptual = self._shares(ctx)
        weights = {"perceptual": perceptual}
        values = {
            "l1": halves_l1(drawn, target, self.config.loss.mouth),
            "perceptual": self._opinion(drawn, 1.0),
        }
        if drawn.shape[2] >= FRAMES:
            weights["sync"] = sync
            values["sync"] = self.sync_loss(drawn, batch)
        loss = (1 - sum(weights.values())) * values["l1"] + sum(w * values[name] for name, w in weights.items())
        return {**values, "real": self._opinion(target, 1.0), "fake": self._opinion(drawn, 0.0), "loss": loss}

    # -- generation ----------------------------------------------------------------------------------------------------

    def drawer(self, above: float = 0.5, fps: float = FPS) -> Drawer:
        """Frame by frame, or remembering; of faces that are pasted in part no more than that part."""
        if self.config.generator.temporal:
            return FollowingDrawer(self)
        return LowerHalfDrawer(self, above) if above < 0.5 else Drawer(self)

    def graphs(self) -> tuple[Graph, ...]:
        """Generator and sync expert; a borrower keeps the generator alone."""
        generator = generator_graph(self.generator, self.config)
        has_expert = "sync_expert" in dict(self.named_children())
        return (generator, expert_graph(self.sync_expert, self.config.crop)) if has_expert else (generator,)
