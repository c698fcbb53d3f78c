"""Base classes of models that redraw the lower half of a face."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from talkingface.config.sections import Section
from talkingface.errors import ConfigError
from talkingface.lipsync.expert.inputs import expert_artefacts, expert_steps
from talkingface.lipsync.expert.objectives import published_loss
from talkingface.lipsync.expert.training import TrainsSyncExpert, warn_of_other_crop
from talkingface.lipsync.half_face.draw import HalfFaceNetworks
from talkingface.lipsync.half_face.generate import generate
from talkingface.lipsync.half_face.objective import sync_cosine
from talkingface.lipsync.half_face.preview import face_preview
from talkingface.lipsync.half_face.scores import face_scores
from talkingface.networks.sync_expert import FRAMES
from talkingface.plugin.contract import Batch, Borrowed, StepContext

if TYPE_CHECKING:
    import numpy as np

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder
    from talkingface.clips.source import Audio, Source
    from talkingface.lipsync.half_face.config import JudgedConfig

log = logging.getLogger("talkingface")


class HalfFaceModel(HalfFaceNetworks):
    """Such networks with generation and scores."""

    trains_without = ("audio", "landmarks")

    @property
    def keeps_frame_rate(self) -> bool:
        """Whether videos are made at the frame rate of their source (`inference.fps: keep`)."""
        return self.config.inference.fps == "keep"

    def generate(self, source: Source, audio: Audio) -> Iterator[np.ndarray]:
        """Yield full frames; see `half_face.generate`."""
        return generate(self, source, audio)

    def stage_scores(self, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
        """Distance of generated face crops from the true ones, with their own audio and the donors'."""
        return face_scores(self, clips, donors)


class JudgedHalfFace(TrainsSyncExpert, HalfFaceModel):
    """One that trains a lip-sync expert first and a generator against it.

    Attributes:
        config: its settings, with `loss.expert_batch_stats` and `loss.sync_start`; see the models' own.
    """

    config: JudgedConfig
    loss_experts = ("sync_expert",)
    borrows: ClassVar[dict[str, Borrowed]] = {
        "sync_expert": Borrowed("SyncNet", settings={"expert.width": "expert.width"}, optional=True)
    }

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

    def load_expert(self, name: str, path: Path) -> None:
        """Load the weights of the expert, and say so when it learnt on faces that were cut in another way."""
        super().load_expert(name, path)
        warn_of_other_crop(path, self.config.crop)

    def initialise(self, dataset: ClipDataset, ctx: StepContext) -> None:
        """Say before the training what would make it worthless.

        Raises:
            ConfigError: batches are too small for the expert's statistics.
        """
        if ctx.stage.kind == "expert" or dataset.options.frames < FRAMES:
            return
        if self.config.loss.expert_batch_stats and ctx.stage.batch_size == 1 and dataset.options.frames == FRAMES:
            raise ConfigError(
                f"stage '{ctx.stage.name}': model.loss.expert_batch_stats needs a batch_size of 2 or more: one window"
                " has no statistics"
            )
        if not self._expert_is_trained():
            log.warning("stage %s: the sync expert has no trained weights, its loss will mean nothing", ctx.stage.name)

    def _expert_is_trained(self) -> bool:
        counts = [value for name, value in self.sync_expert.state_dict().items() if name.endswith("batches_tracked")]
        return any(int(count) > 0 for count in counts)

    def sync_weight(self, ctx: StepContext, weight: float) -> float:
        """`weight` from the validation on in which the mean sync loss of the stage fell below `sync_start`, else 0.

        The best validation values are part of the checkpoint, so a resumed run stays switched on (upstream forgets).
        """
        asked = self.config.loss.sync_start is None or ctx.best.get("val/sync", math.inf) < self.config.loss.sync_start
        return weight if asked else 0.0

    def under_way(self, dataset: ClipDataset, ctx: StepContext) -> StepContext:
        """Where a validation has switched the expert on; in stages of single frames none ever does."""
        if ctx.stage.kind == "expert" or dataset.options.frames < FRAMES:
            return ctx
        return replace(ctx, best={**ctx.best, "val/sync": 0.0})

    def sync_loss(self, drawn: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of the cosine of drawn mouths (B, 3, T, S, S), BGR, and their sound, taken as a probability.

        T is at least 5; of more frames, every window of 5 is judged.
        """
        cosine = sync_cosine(self.sync_expert, drawn, batch["mel"], self.config.loss.expert_batch_stats)
        return published_loss(cosine, torch.ones_like(cosine))

    # -- held-out values and pictures ----------------------------------------------------------------------------------

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
        if ctx.stage.kind != "expert" and best is not None and start is not None and best >= start:
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
