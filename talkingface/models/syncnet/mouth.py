"""SyncNetDINet: the lip-sync expert of DINet and LawDNet, trained on any prepared data set. It makes no videos.

Paper: DINet, arXiv:2303.03988, section 3.3. Nobody has published how it was trained; objectives and figures are those
of SyncNet, docs/syncnet.md, and docs/dinet.md says what helps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from talkingface.config.sections import Section
from talkingface.lipsync.dubbing.expert import PUBLISHED_ALONE, build_mouth_expert
from talkingface.lipsync.dubbing.graphs import mouth_expert_graph
from talkingface.lipsync.dubbing.settings import MouthSyncConfig
from talkingface.lipsync.dubbing.windows import MouthWindows
from talkingface.lipsync.expert.training import TrainsSyncExpert
from talkingface.models.syncnet.evaluator import MouthSyncEvaluator
from talkingface.plugin.contract import Batch, Plan, StepContext, TalkingFaceModel
from talkingface.plugin.registry import register

if TYPE_CHECKING:
    from talkingface.clips.dataset import ClipDataset
    from talkingface.plugin.graphs import Graph


@register("SyncNetDINet", evaluator=MouthSyncEvaluator)
class SyncNetDINet(TrainsSyncExpert, TalkingFaceModel):
    """Tells whether five mouths and nine rows of features belong together."""

    Config = MouthSyncConfig
    hears = "audio.generator_features"
    trains_without = ("audio", "landmarks")
    plans: ClassVar[dict[str, Plan]] = {"expert": Plan(MouthWindows, trains=("sync_expert",))}
    official = (PUBLISHED_ALONE,)

    def __init__(self, config: MouthSyncConfig) -> None:
        super().__init__()
        self.config, self.expert_config = config, config.expert
        self.sync_expert = build_mouth_expert(config.expert, config.audio)

    @classmethod
    def artefacts_for(cls, config: Section) -> tuple[str, ...]:
        """Crops as these settings cut them, and what the expert hears."""
        return config.artefacts

    @classmethod
    def step_settings(cls, config: Section) -> dict[str, dict[str, Any]]:
        """How crops are cut, and the front ends."""
        return config.steps

    def graphs(self) -> tuple[Graph, ...]:
        """The expert."""
        config = self.config
        return (mouth_expert_graph(self.sync_expert, config.expert.side, config.audio.sync, config.crop),)

    def validation_step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """The loss; see `TrainsSyncExpert.expert_validation`."""
        return self.expert_validation(batch, ctx)

    def after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: ClipDataset, held_out: ClipDataset, folder: Path
    ) -> dict[str, float]:
        """Accuracies, offset sweep and alarm; see `TrainsSyncExpert.expert_after_validation`."""
        return self.expert_after_validation(values, ctx, train, held_out, folder)
