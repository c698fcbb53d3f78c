"""How a lip-sync expert is trained and watched, for every model that has a network `sync_expert` and trains it.

Objectives: the published one, and `in_clip`, which compares every mouth with every sound of several windows of a clip.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.alarm import Alarm, measure
from talkingface.lipsync.expert.config import SyncExpertConfig
from talkingface.lipsync.expert.embedding import embed_clips
from talkingface.lipsync.expert.objectives import expert_loss
from talkingface.lipsync.expert.plots import plot_sweeps
from talkingface.lipsync.expert.scores import Sweep
from talkingface.networks.sync_expert import SIZES, SyncExpert
from talkingface.plugin.contract import Batch, StepContext, Update
from talkingface.weights import checkpoint
from talkingface.weights.checkpoint import CheckpointContent

if TYPE_CHECKING:
    from talkingface.lipsync.expert.data import SyncWindows

log = logging.getLogger("talkingface")


def build_expert(config: SyncExpertConfig, crop_size: int) -> SyncExpert:
    """The expert for the lower halves of square crops.

    Raises:
        ValueError: there is none for this size.
    """
    return SyncExpert(expert_size(crop_size), config.width)


def expert_size(crop_size: int) -> tuple[int, int]:
    """Height and width of the lower half of a crop.

    Raises:
        ValueError: there is no expert for it.
    """
    size = (crop_size // 2, crop_size)
    if size not in SIZES:
        known = ", ".join(str(width) for _, width in SIZES)
        raise ValueError(f"crop.size must be one of {known} (the expert's forms), got {crop_size}")
    return size


def warn_of_other_crop(path: str | Path, crop: CropConfig) -> None:
    """Say so when a trained expert saw faces that were cut in another way than the model's; it judges these worse.

    Args:
        path: run or file of the expert; nothing is known of published files.
        crop: the model's. Another size does not matter, the faces are resized for the expert.
    """
    content = CheckpointContent.recognise(checkpoint.read(checkpoint.find_checkpoint(path)))
    model = content.config.get("model") if content else None
    crop_of_theirs = model.get("crop") if isinstance(model, dict) else None
    recorded = {**(crop_of_theirs if isinstance(crop_of_theirs, dict) else {}), "size": crop.size}
    wanted = crop.model_dump()
    other = [name for name, value in wanted.items() if name in recorded and recorded[name] != value]
    if other:
        theirs, ours = (", ".join(f"{name} {values[name]}" for name in other) for values in (recorded, wanted))
        log.warning(
            "%s: this sync expert learnt on faces cut with %s, the model's are cut with %s; train one on the same crop,"
            " or set model.crop to the expert's",
            path,
            theirs,
            ours,
        )


class TrainsSyncExpert:
    """Mixin of a `TalkingFaceModel` with a network `sync_expert`, its `expert_config`, and a plan `expert`.

    A model with further stages calls `expert_validation` and `expert_after_validation` in stages of this kind.
    """

    own_figures: ClassVar[tuple[str, ...] | None] = (
        *("accuracy", "accuracy_any_shift", "two_alternative", "positive", "negative"),
        *("sweep_peak", "sweep_prominence", "sweep_hits"),
    )
    sync_expert: nn.Module
    expert_config: SyncExpertConfig

    def expert_step(self, batch: Batch, ctx: StepContext) -> Iterator[Update]:
        """One update of the expert by the objective that the data were drawn for."""
        yield Update("sync_expert", {"sync": expert_loss(self.sync_expert, batch)})

    def expert_validation(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """`loss`; its expectation is the same for both objectives."""
        return {"loss": expert_loss(self.sync_expert, batch)}

    def expert_after_validation(
        self, values: Mapping[str, float], ctx: StepContext, train: SyncWindows, held_out: SyncWindows, folder: Path
    ) -> dict[str, float]:
        """Figures and offset sweep of all windows of held-out clips, with a plot in `folder`, and the chance alarm.

        Besides those of `scores.pair_figures`: `sweep_peak` and `sweep_prominence` are those of the mean curve,
        `sweep_hits` is the share of clips with a clear peak at 0.
        """
        clips = held_out.some_clips(self.expert_config.sweep_clips)
        standing = measure(embed_clips(self.sync_expert, held_out, clips))
        title = f"stage {ctx.stage.name}, step {ctx.step}, {len(clips)} held-out clips"
        plot_sweeps({"held-out": standing.sweeps}, folder / f"sweep_{ctx.step:07d}.png", title)
        Alarm(self.sync_expert, self.expert_config.alarm, ctx, train, held_out, folder).watch(standing)
        mean = Sweep.mean(standing.sweeps)
        return {
            **standing.figures,
            "sweep_peak": mean.peak,
            "sweep_prominence": mean.prominence,
            "sweep_hits": sum(sweep.hit for sweep in standing.sweeps) / len(standing.sweeps),
        }
