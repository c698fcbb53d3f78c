"""Wav2Lip: redraw the lower half of a face to a sound, judged by a lip-sync expert.

Paper: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild", ACM MM 2020,
arXiv:2008.10010. Deviations and kept quirks are listed in docs/wav2lip.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from talkingface.config.sections import Section
from talkingface.errors import ConfigError
from talkingface.lipsync.expert.data import SyncWindows
from talkingface.lipsync.expert.embedding import batch_statistics
from talkingface.lipsync.expert.inputs import PUBLISHED_SETTINGS as EXPERT_SETTINGS
from talkingface.lipsync.expert.inputs import expert_artefacts, expert_steps
from talkingface.lipsync.expert.objectives import published_loss
from talkingface.lipsync.expert.training import TrainsSyncExpert, warn_of_other_crop
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.models.wav2lip.data import FaceWindows
from talkingface.models.wav2lip.generate import generate
from talkingface.models.wav2lip.parts import Wav2LipNetworks
from talkingface.models.wav2lip.preview import face_preview
from talkingface.models.wav2lip.scores import face_scores
from talkingface.networks.sync_expert import FRAMES, sync_loss
from talkingface.plugin.contract import Batch, Official, Plan, StepContext, Update, frozen
from talkingface.plugin.registry import register

if TYPE_CHECKING:
    import numpy as np

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.source import Audio, Source

log = logging.getLogger("talkingface")

PUBLISHED_SETTINGS = {
    "crop.size": 96,
    **EXPERT_SETTINGS,  # the detector's box as it is: docs/wav2lip.md#published-weights
    "inference.pads": [0, 10, 0, 0],
    "inference.smooth": "published",
    "inference.mel_offset": 0,
    "inference.precision": "32",
}


@register("Wav2Lip")
class Wav2Lip(TrainsSyncExpert, Wav2LipNetworks):
    """Sync expert (stage kind `expert`), generator (`generator`), generator against quality discriminator (`gan`)."""

    Config = Wav2LipConfig
    trains_without = ("audio", "landmarks")
    plans: ClassVar[dict[str, Plan]] = {
        "expert": Plan(SyncWindows, trains=("sync_expert",)),
        "generator": Plan(FaceWindows, trains=("generator",), uses=("sync_expert",)),
        "gan": Plan(FaceWindows, trains=("generator", "discriminator"), uses=("sync_expert",)),
    }
    loss_experts = ("sync_expert",)
    # Two files for one network: the first that is in the folder counts.
    official = (
        Official("wav2lip.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("wav2lip_gan.pth", "generator", settings=PUBLISHED_SETTINGS),
        Official("lipsync_expert.pth", "sync_expert"),
        Official("visual_quality_disc.pth", "discriminator"),
    )

    @classmethod
    def needed_to_speak(cls, config: Section) -> tuple[str, ...]:
        """The generator; expert and discriminator only judge it."""
        return ("generator",)

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """What its expert reads: crops as these settings cut them, beside those of others."""
        return expert_artefacts(config.crop)

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """Face crops as this model cuts them, and the mel of the published weights."""
        return expert_steps(config.crop)

    @property
    def keeps_frame_rate(self) -> bool:
        """Whether videos are made at the frame rate of their source (`inference.fps: keep`)."""
        return self.config.inference.fps == "keep"

    def load_expert(self, name: str, path: Path) -> None:
        """Load the weights of the expert, and say so when it learnt on faces that were cut in another way."""
        super().load_expert(name, path)
        warn_of_other_crop(path, self.config.crop)

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """Say before the training what would make it worthless.

        Raises:
            ConfigError: there is no expert of the crop's size to train, or batches are too small for its statistics.
        """
        if ctx.stage.kind == "expert" and self.config.expert_side != self.config.crop.size:
            raise ConfigError(
                f"stage '{ctx.stage.name}': there is no sync expert for faces of {self.config.crop.size} px; train one"
                f" with --model=SyncNet --model.crop.size={self.config.expert_side} and name its run with"
                " --experts.sync_expert=RUN"
            )
        if ctx.stage.kind == "expert" or not self._is_judged(dataset):
            return
        if self.config.loss.expert_batch_stats and ctx.stage.batch_size == 1:
            raise ConfigError(
                f"stage '{ctx.stage.name}': model.loss.expert_batch_stats needs a batch_size of 2 or more: one window"
                " has no statistics"
            )
        if not self._expert_is_trained():
            log.warning("stage %s: the sync expert has no trained weights, its loss will mean nothing", ctx.stage.name)

    def _expert_is_trained(self) -> bool:
        counts = [value for name, value in self.sync_expert.state_dict().items() if name.endswith("batches_tracked")]
        return any(int(count) > 0 for count in counts)

    def _is_judged(self, dataset: ClipDataset) -> bool:
        return dataset.options.frames == FRAMES

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

    def sync_weight(self, ctx: StepContext, weight: float) -> float:
        """`weight` from the validation on in which the mean sync loss of the stage fell below `sync_start`, else 0.

        The best validation values are part of the checkpoint, so a resumed run stays switched on (upstream forgets).
        """
        return weight if ctx.best.get("val/sync", math.inf) < self.config.loss.sync_start else 0.0

    def sync_loss(self, drawn: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of the cosine of drawn mouths (B, 3, 5, S, S), BGR, and their sound, taken as a probability."""
        # One window has no statistics; validation may end with such a batch.
        published = self.config.loss.expert_batch_stats and len(drawn) > 1
        with batch_statistics(self.sync_expert) if published else nullcontext():
            sounds, mouths = self.sync_expert(batch["mel"], self.sync_expert.window(drawn.flip(1)))
        cosine = (sounds * mouths).sum(dim=1)
        return published_loss(cosine, torch.ones_like(cosine))

    def _l1(self, drawn: Tensor, target: Tensor) -> Tensor:
        """Mean absolute error; see `LossConfig.mouth` for the weights of the two halves."""
        upper, lower = (drawn - target).abs().chunk(2, dim=-2)
        share = self.config.loss.mouth
        return (upper.mean() + share * lower.mean()) / (1 + share)

    # -- held-out values and pictures ----------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`l1`, `sync` (windows of 5 frames), and `loss`: both as they weigh once the sync term is on."""
        if ctx.stage.kind == "expert":
            return self.expert_validation(batch, ctx)
        drawn, target = self.draw(batch)
        values = {"l1": self._l1(drawn, target)}
        if drawn.shape[2] != FRAMES:
            return {**values, "loss": values["l1"]}
        weight = self.config.loss.gan_sync if ctx.stage.kind == "gan" else self.config.loss.sync
        values["sync"] = self.sync_loss(drawn, batch)
        return {**values, "loss": (1 - weight) * values["l1"] + weight * values["sync"]}

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: ClipDataset, held_out: ClipDataset, folder: Path
    ) -> dict[str, float]:
        """The expert's further figures; see `TrainsSyncExpert.expert_after_validation`."""
        if ctx.stage.kind == "expert":
            return self.expert_after_validation(values, ctx, train, held_out, folder)
        return {}

    def stage_ended(self, ctx: StepContext) -> None:
        """Say when the expert was never content enough to be asked."""
        best, start = ctx.best.get("val/sync"), self.config.loss.sync_start
        if ctx.stage.kind != "expert" and best is not None and best >= start:
            log.warning(
                "stage %s ends with val/sync %.3f, never below %.2f: the sync term stayed off; train longer, or look at"
                " the expert (docs/wav2lip.md#sync-loss)",
                ctx.stage.name,
                best,
                start,
            )

    def preview(self, batch: Batch, ctx: StepContext, dataset: ClipDataset) -> dict[str, Tensor]:
        """Input, reference, generated and real faces: of four items, and a second of the first held-out clip."""
        if ctx.stage.kind == "expert":
            return {}
        return face_preview(self, batch, dataset)

    # -- generation ----------------------------------------------------------------------------------------------------

    def generate(self, source: Source, audio: Audio) -> Iterator[np.ndarray]:
        """Yield full frames; see `generate.generate`."""
        return generate(self, source, audio)

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Distance of generated face crops from the true ones, with their own audio and the donors'."""
        return face_scores(self, clips, donors)
