"""SyncNet: the lip-sync expert of Wav2Lip and HyperLips, trained on any prepared data set. It makes no videos.

Paper: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild", ACM MM 2020,
arXiv:2008.10010, section 3.1. Objectives, figures and deviations: docs/syncnet.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator
from torch import Tensor

from talkingface.config.sections import Section
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.config import SyncExpertConfig
from talkingface.lipsync.expert.data import SyncWindows
from talkingface.lipsync.expert.graphs import expert_graph
from talkingface.lipsync.expert.inputs import CROP, PUBLISHED_SETTINGS, expert_artefacts, expert_steps
from talkingface.lipsync.expert.training import TrainsSyncExpert, build_expert, expert_size
from talkingface.models.syncnet.evaluator import SyncEvaluator
from talkingface.plugin.contract import Batch, Official, Plan, StepContext, TalkingFaceModel
from talkingface.plugin.registry import register

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset
    from talkingface.plugin.graphs import Graph


class SyncNetConfig(Section):
    """All of SyncNet.

    Attributes:
        crop: how faces are cut out; its `size` chooses the form: 96 as in Wav2Lip, 128 as in HyperLips, 48 for trials.
        expert: the network, and what is watched in training.
    """

    crop: CropConfig = CROP
    expert: SyncExpertConfig = SyncExpertConfig()

    @model_validator(mode="after")
    def _known_size(self) -> SyncNetConfig:
        expert_size(self.crop.size)
        return self


@register("SyncNet", evaluator=SyncEvaluator)
class SyncNet(TrainsSyncExpert, TalkingFaceModel):
    """Tells whether a mouth and a sound belong together."""

    Config = SyncNetConfig
    trains_without = ("audio", "landmarks")
    plans: ClassVar[dict[str, Plan]] = {"expert": Plan(SyncWindows, trains=("sync_expert",))}
    official = (
        Official("lipsync_expert.pth", "sync_expert", settings={"crop.size": 96, **PUBLISHED_SETTINGS}),
        Official("pretrain_sync_expert.pth", "sync_expert", settings={"crop.size": 128, **PUBLISHED_SETTINGS}),
    )

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__()
        self.config = config
        self.expert_config = config.expert
        self.sync_expert = build_expert(config.expert, config.crop.size)

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Crops as these settings cut them, beside those of others."""
        return expert_artefacts(config.crop)

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """Crops as the expert sees them, and the mel of the published weights."""
        return expert_steps(config.crop)

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """The loss; see `TrainsSyncExpert.expert_validation`."""
        return self.expert_validation(batch, ctx)

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: ClipDataset, held_out: ClipDataset, folder: Path
    ) -> dict[str, float]:
        """Accuracies, offset sweep and alarm; see `TrainsSyncExpert.expert_after_validation`."""
        return self.expert_after_validation(values, ctx, train, held_out, folder)

    def graphs(self) -> tuple[Graph, ...]:
        """The expert."""
        return (expert_graph(self.sync_expert, self.config.crop),)
