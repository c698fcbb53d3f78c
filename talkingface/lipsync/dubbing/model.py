"""Base class of DINet and LawDNet: the stages that train them, what is measured meanwhile, and generation."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from talkingface.config.sections import Section
from talkingface.config.stages import Origin
from talkingface.errors import CheckpointError, ConfigError, NothingLearnt
from talkingface.lipsync.dubbing.data import DubbingClips, DubbingFrames
from talkingface.lipsync.dubbing.expert import (
    build_mouth_expert,
    how_to_train,
    learnt_otherwise,
    load_mouth_expert,
    refuse_poor_expert,
)
from talkingface.lipsync.dubbing.generate import generate
from talkingface.lipsync.dubbing.graphs import generator_graphs, mouth_expert_graph
from talkingface.lipsync.dubbing.networks import DubbingNetworks, crop_of, running_statistics
from talkingface.lipsync.dubbing.preview import sheet
from talkingface.lipsync.dubbing.response import audio_response
from talkingface.lipsync.dubbing.scores import mouth_scores
from talkingface.lipsync.dubbing.settings import DubbingStageOptions, TrainedDubbingConfig
from talkingface.lipsync.dubbing.sound import FPS
from talkingface.lipsync.dubbing.windows import MouthWindows
from talkingface.lipsync.expert.training import TrainsSyncExpert
from talkingface.networks.dubbing.discriminator import FRAMES, DubbingDiscriminator, least_side
from talkingface.networks.dubbing.generator import DubbingGenerator
from talkingface.networks.dubbing.geometry import MouthCrop
from talkingface.networks.dubbing.losses import Clips, discriminator_loss, sync_loss
from talkingface.networks.dubbing.objective import Weights, clip_terms, frame_terms, reconstruction_terms
from talkingface.networks.vgg19 import VGG19Features
from talkingface.plugin.contract import Batch, Borrowed, Drawn, Plan, StepContext, Update, frozen

if TYPE_CHECKING:
    import numpy as np

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.source import Audio, Source
    from talkingface.config.sections import StageConfig
    from talkingface.plugin.graphs import Graph

log = logging.getLogger("talkingface")

VGG = "vgg19"

LEAST_SECONDS = 300
"""Of video, with which a trained generator is worth being fine-tuned."""


class DubbingModel(TrainsSyncExpert, DubbingNetworks):
    """Sync expert (stage kind `expert`), frames of growing size (`frame`), clips of five frames (`clip`).

    Args:
        config: its settings.
        generator: of the model.
    """

    hears = "audio.generator_features"
    trains_without = ("audio", "landmarks")
    loss_experts = ("sync_expert",)
    borrows: ClassVar[dict[str, Borrowed]] = {
        "sync_expert": Borrowed(
            "SyncNetDINet",
            settings={f"expert.{name}": f"expert.{name}" for name in ("width", "norm", "side")},
            optional=True,
        )
    }
    own_figures: ClassVar[tuple[str, ...] | None] = (*TrainsSyncExpert.own_figures, "audio_response")
    plans: ClassVar[dict[str, Plan]] = {
        "expert": Plan(MouthWindows, trains=("sync_expert",)),
        "frame": Plan(
            DubbingFrames,
            trains=("generator", "discriminator"),
            frozen=(VGG,),
            restarts=("discriminator",),
            options=DubbingStageOptions,
        ),
        "clip": Plan(
            DubbingClips,
            trains=("generator", "discriminator", "clip_discriminator"),
            frozen=(VGG,),
            uses=("sync_expert",),
            restarts=("discriminator", "clip_discriminator"),
            options=DubbingStageOptions,
        ),
    }
    config: TrainedDubbingConfig

    def __init__(self, config: TrainedDubbingConfig) -> None:
        super().__init__()
        self.config, self.expert_config = config, config.expert
        self.generator = self.build_generator()
        sizes = config.discriminator
        self.discriminator = DubbingDiscriminator(3, sizes.blocks, sizes.width)
        self.clip_discriminator = DubbingDiscriminator(3 * FRAMES, sizes.blocks, sizes.width)
        self.sync_expert = build_mouth_expert(config.expert, config.audio)
        self._has_vgg = False
        perceptual = config.loss.reconstruction == "perceptual"
        self.vgg19 = VGG19Features() if perceptual else None
        if not perceptual:  # what the chosen loss does not need is neither built nor asked for
            self.plans = {kind: replace(plan, frozen=()) for kind, plan in type(self).plans.items()}

    @abstractmethod
    def build_generator(self) -> DubbingGenerator:
        """The generator that the settings describe."""

    # -- what belongs to it --------------------------------------------------------------------------------------------

    @classmethod
    def needed_to_speak(cls, config: Section) -> tuple[str, ...]:
        """The generator; all else judges it."""
        return ("generator",)

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Crops as these settings cut them, and rows of both front ends."""
        return config.artefacts

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """How crops are cut, and the front ends."""
        return config.steps

    @classmethod
    def trained_otherwise(
        cls, kind: str, networks: Collection[str], trained: Mapping[str, Any], here: TrainedDubbingConfig
    ) -> str | None:
        """Quirks and crops that a generator's weights were made for, and what an expert learnt on that is only used."""
        before = cls.Config.model_validate(trained)
        if "generator" in networks and (lacking := here.lacks_for(before)):
            options = " ".join(f"--model.{key}={_written(value)}" for key, value in lacking.items())
            return f"its generator was trained with other settings and draws something else with these; give {options}"
        if "sync_expert" in networks and "sync_expert" in cls.plans[kind].uses:
            reason = learnt_otherwise(trained, here)
            return f"{reason}; {how_to_train(here)}" if reason else None
        return None

    def expert_hint(self, name: str) -> str:
        """How to do without VGG19."""
        return "; --model.loss.reconstruction=l1_gradient trains without" if name == VGG else ""

    def load_expert(self, name: str, path: Path) -> None:
        """Load VGG19 from torchvision's file, the sync expert from a run or from the published file.

        Raises:
            CheckpointError: the sync expert learnt from other crops or features.
        """
        if name == VGG:
            self.vgg19.load(path)
            self._has_vgg = True
        elif name == "sync_expert":
            load_mouth_expert(self.sync_expert, path, self.config)
        else:
            super().load_expert(name, path)

    @classmethod
    def check_stages(cls, config: Section, stages: Sequence[StageConfig]) -> None:
        """See that the expert is not said to have learnt on other crops than those that it is trained on.

        Raises:
            ConfigError: it is.
        """
        if config.expert.crop is not None:
            raise ConfigError(
                "model.expert.crop tells of imported experts; leave it null in training: model.crop counts"
            )

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """See that sizes fit, that VGG19 has learnt what it judges by, and that fine-tuning has enough to learn from.

        Raises:
            ConfigError: see `check_size`.
            CheckpointError: VGG19 has random weights.
        """
        self.check_size(ctx)
        if VGG in self.plans[ctx.stage.kind].frozen and not self._has_vgg:
            raise CheckpointError(f"no weights of '{VGG}' are loaded{self.expert_hint(VGG)}")
        from_file = any(Origin.parse(entry).place.endswith(".pt") for entry in ctx.stage.init_from)
        seconds = sum(map(len, dataset.clips)) / FPS
        if from_file and seconds < LEAST_SECONDS:
            log.warning(
                "stage %s goes on from a file with %.0f s of video; below %d s it learns the clips by heart: compare"
                " val/loss with train/ (docs/dinet.md#fine-tuning-to-one-person)",
                ctx.stage.name,
                seconds,
                LEAST_SECONDS,
            )

    def check_size(self, ctx: StepContext) -> None:
        """See that the crops hold a stage's mouths, and that these are large enough for the discriminators.

        Raises:
            ConfigError: they do not, or are not.
        """
        mouth, name, blocks = ctx.stage.data.mouth, ctx.stage.name, self.config.discriminator.blocks
        if mouth > self.config.crop.mouth:
            raise ConfigError(
                f"stage '{name}': data.mouth {mouth} is more than the {self.config.crop.mouth} pixels of the stored"
                f" crops; set model.crop.width to {MouthCrop(mouth).width} or more"
            )
        if ctx.stage.kind != "expert" and MouthCrop(mouth).width < least_side(blocks):
            raise ConfigError(
                f"stage '{name}': crops of mouths of {mouth} pixels are too small for a discriminator of {blocks}"
                " blocks; set model.discriminator.blocks to 3 or data.mouth to 64"
            )

    # -- steps ---------------------------------------------------------------------------------------------------------

    def frame_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Discriminator, then generator."""
        fake, real = self._drawn_to_train(batch, ctx)
        weights = self.weights(ctx)
        if weights.frame:
            yield Update("discriminator", {"frame": discriminator_loss(self.discriminator, fake, real)})
        yield Update("generator", self._frame_terms(fake, real, weights))

    def clip_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """Both discriminators, then the generator, with the expert's opinion."""
        fake, real = self._drawn_to_train(batch, ctx)
        clips, weights = self.clips(batch), self.weights(ctx)
        if weights.frame:
            yield Update("discriminator", {"frame": discriminator_loss(self.discriminator, fake, real)})
        if weights.clip:
            stacked = clips.stacked(fake.detach()), clips.stacked(real)
            yield Update("clip_discriminator", {"clip": discriminator_loss(self.clip_discriminator, *stacked)})
        terms = self._frame_terms(fake, real, weights)
        with frozen(self.clip_discriminator):
            terms |= clip_terms(self.clip_discriminator, self.sync_expert, fake, clips, weights)
        yield Update("generator", terms)

    def _drawn_to_train(self, batch: Batch, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """See `draw`; with the statistics that the stage asks for."""
        if _options(ctx).norms == "batch":
            return self.draw(batch)
        with running_statistics(self.generator):
            return self.draw(batch)

    def clips(self, batch: Batch) -> Clips:
        """How the frames of a batch of clips belong together, and what the expert hears with them."""
        expert, clipped = self.config.expert, self.config.loss.clipped
        clipped = self.config.compat == "corrected" if clipped is None else clipped
        return Clips(crop_of(batch["faces"][..., 0]), batch["heard"], expert.side, clipped)

    def weights(self, ctx: StepContext, ramped: bool = True) -> Weights:
        """Weights of the terms where training stands; that of the expert grows from 0, unless not `ramped`."""
        loss, own = self.config.loss, _options(ctx)
        frame, clip, sync = (
            getattr(loss, name) if getattr(own, name) is None else getattr(own, name)
            for name in ("frame", "clip", "sync")
        )
        steps = loss.sync_ramp * ctx.epoch_length
        sync *= min(1.0, (ctx.step + 1) / steps) if ramped and steps else 1.0
        return Weights(loss.perception, loss.image, frame, clip, sync, loss.mouth)

    def _frame_terms(self, fake: Tensor, real: Tensor, weights: Weights) -> dict[str, Tensor]:
        with frozen(self.discriminator):
            return frame_terms(self.vgg19, self.discriminator, fake, real, weights, self.hole_in(real))

    # -- held-out values and pictures ----------------------------------------------------------------------------------

    def before_training(self, train: ClipDataset, held_out: ClipDataset | None, ctx: StepContext) -> None:
        """Refuse to train against an expert that cannot tell true sounds from false ones.

        Raises:
            NothingLearnt: with the command that trains one.
        """
        if ctx.stage.kind == "clip" and self.weights(ctx, ramped=False).sync:
            refuse_poor_expert(self.sync_expert, held_out or train, self.config, ctx)

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """Terms without the discriminators, `mouth_l1`, and `loss`, the weighted sum of what compares and of `sync`."""
        if ctx.stage.kind == "expert":
            return self.expert_validation(batch, ctx)
        self.check_size(ctx)
        fake, real = self.draw(batch)
        weights, crop = self.weights(ctx, ramped=False), crop_of(real)
        values = reconstruction_terms(self.vgg19, fake, real, weights, self.hole_in(real))
        if ctx.stage.kind == "clip" and weights.sync:
            values["sync"] = weights.sync * sync_loss(self.sync_expert, fake, self.clips(batch))
        loss = sum(values.values())
        return {**values, "mouth_l1": (crop.cut(fake) - crop.cut(real)).abs().mean(), "loss": loss}

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: ClipDataset, held_out: ClipDataset, folder: Path
    ) -> dict[str, float]:
        """`audio_response`, or the expert's figures."""
        if ctx.stage.kind == "expert":
            return self.expert_after_validation(values, ctx, train, held_out, folder)
        return {"audio_response": audio_response(self, held_out)}

    def stage_ended(self, ctx: StepContext) -> None:
        """Refuse to go on with a generator that does not hear.

        Raises:
            NothingLearnt: the mouths it draws hardly change with the sound.
        """
        least, found = self.config.least_response, ctx.best.get("last/audio_response")
        if ctx.stage.kind == "frame" and least is not None and found is not None and found < least:
            raise NothingLearnt(
                f"stage '{ctx.stage.name}' ends with val/audio_response {found:.3f}, below {least:g}: mouths hardly"
                f" change with the sound. Train it longer (--stages.{ctx.stage.name}.max_steps), with a norm"
                " (model.generator.norm) or pooled codes; model.least_response=null goes on without being asked"
            )

    def preview(self, batch: Batch, ctx: StepContext, dataset: ClipDataset) -> dict[str, Tensor]:
        """Hidden face, a reference, drawn and true face of four items."""
        return {} if ctx.stage.kind == "expert" else {"faces": sheet(self, batch)}

    def graphs(self) -> tuple[Graph, ...]:
        """The generator in two parts, and the expert."""
        config = self.config
        crop = config.expert.crop or config.crop
        expert = mouth_expert_graph(self.sync_expert, config.expert.side, config.audio.sync, crop)
        return (*generator_graphs(self), expert)

    # -- generation ----------------------------------------------------------------------------------------------------

    def generate(self, source: Source, audio: Audio) -> Iterator[np.ndarray | Drawn]:
        """Yield full frames; see `dubbing.generate`."""
        return generate(self, source, audio)

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Distance of drawn mouths from the true ones, with their own sound and the donors'."""
        return mouth_scores(self, clips, donors)


def _options(ctx: StepContext) -> DubbingStageOptions:
    return ctx.stage.options if isinstance(ctx.stage.options, DubbingStageOptions) else DubbingStageOptions()


def _written(value: Any) -> str:
    """A plain value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
