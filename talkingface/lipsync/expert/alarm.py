"""The chance alarm: says when a lip-sync expert is learning nothing, and why.

A loss of 0.69 (log 2, the loss of a coin) does not tell: a healthy run stays near it for 5,000 to 10,000 windows.
Later, an expert is stuck when it decides at chance on training and held-out clips alike, its cosines do not differ, and
its offset curve is flat. All of it is measured a second time with the statistics of the batch, for a network that only
has stale running averages in its batch norms looks the same. `causes` then looks for the reason.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.errors import DataError, TalkingFaceError
from talkingface.files import write_text
from talkingface.lipsync.expert.causes import Finding, check_averages, find_causes
from talkingface.lipsync.expert.config import SyncAlarmConfig
from talkingface.lipsync.expert.embedding import ClipEmbeddings, embed_clips, embed_mixed
from talkingface.lipsync.expert.scores import Sweep, clip_figures, mean_figures, sweep_of
from talkingface.stored.jsons import read_json

if TYPE_CHECKING:
    from talkingface.lipsync.expert.data import SyncWindows
    from talkingface.networks.sync_expert import SyncExpert
    from talkingface.plugin.contract import StepContext

log = logging.getLogger("talkingface")
FILE = "alarm.json"
AGAIN = 4  # it rings again when this many times the windows have been seen


@dataclass(frozen=True)
class Standing:
    """How an expert does on some clips: mean `pair_figures`, and the offset curve of every clip."""

    figures: dict[str, float]
    sweeps: list[Sweep]

    @property
    def prominence(self) -> float:
        """Of the mean offset curve."""
        return Sweep.mean(self.sweeps).prominence

    def at_chance(self, options: SyncAlarmConfig) -> bool:
        """Whether nothing tells true pairs from others."""
        figures = self.figures
        return (
            abs(figures["two_alternative"] - 0.5) <= options.chance + 1e-9  # 0.53 is not quite 0.5 + 0.03
            and abs(figures["positive"] - figures["negative"]) < options.gap
            and self.prominence < options.flat
        )

    def to_json(self) -> dict[str, float]:
        """For `alarm.json`."""
        return {**self.figures, "sweep_prominence": self.prominence}


def measure(clips: Iterable[ClipEmbeddings]) -> Standing:
    """Figures and offset curves from the embeddings of some clips, which are asked for one by one."""
    each = [(clip_figures(clip), sweep_of(clip)) for clip in clips]
    return Standing(mean_figures([figures for figures, _ in each]), [sweep for _, sweep in each])


def windows_seen(ctx: StepContext, dataset: SyncWindows) -> int:
    """Windows that training has looked at so far."""
    options = dataset.options
    return ctx.step * ctx.stage.batch_size * (1 if options.objective == "published" else options.windows)


@dataclass(frozen=True)
class Alarm:
    """Watches over the training of one expert; rings with one warning, and `alarm.json` in `folder`.

    Attributes:
        network: the expert, in eval mode.
        options: limits.
        ctx: where training stands.
        train: training data.
        held_out: held-out data.
        folder: of the stage.
    """

    network: SyncExpert
    options: SyncAlarmConfig
    ctx: StepContext
    train: SyncWindows
    held_out: SyncWindows
    folder: Path

    def watch(self, held: Standing) -> None:
        """Ring when the expert, which stands as `held` on held-out clips, is at chance.

        What keeps the alarm from looking is a warning as well: training goes on without it.
        """
        least, rung = self.options.windows, _windows_at_last_ring(self.folder / FILE)
        seen = windows_seen(self.ctx, self.train)
        if least is None or seen < max(least, AGAIN * rung) or not held.at_chance(self.options):
            return
        try:
            self._look(held, seen)
        except TalkingFaceError as error:
            name = self.ctx.stage.name
            log.warning("stage %s: the chance alarm could not look at the expert: %s", name, error)

    def _look(self, held: Standing, seen: int) -> None:
        """Hold the expert against training clips and batch statistics; ring when it is at chance there, too."""
        count = len(held.sweeps)
        clips = self.train.some_clips(count)
        standings = {"held_out": held, "train": measure(embed_clips(self.network, self.train, clips))}
        # At chance on held-out clips alone: it learns, but by heart. That is another matter.
        if not standings["train"].at_chance(self.options):
            return
        rng = np.random.default_rng(0)
        pairs = {"train": (self.train, clips), "held_out": (self.held_out, self.held_out.some_clips(count))}
        batch = {name: measure(embed_mixed(self.network, *pair, rng)) for name, pair in pairs.items()}
        standings |= {f"{name}_batch_statistics": standing for name, standing in batch.items()}
        if all(standing.at_chance(self.options) for standing in batch.values()):
            what, findings = "learns nothing", find_causes(self.network, self.options, self.ctx, self.train, clips)
        else:
            # With the statistics of the batch it decides well: trained it is, only its averages are not.
            accuracies = (standing.figures["two_alternative"] for standing in batch.values())
            what, findings = "is of no use", check_averages(self.ctx, *accuracies)
        _ring(f"stage {self.ctx.stage.name}: the expert {what}", self.ctx, seen, standings, findings, self.folder)


def _ring(
    head: str,
    ctx: StepContext,
    seen: int,
    standings: dict[str, Standing],
    findings: Sequence[Finding],
    folder: Path,
) -> None:
    causes = [finding for finding in findings if finding.cause]
    text = "\n".join(
        [
            f"{head}; after {seen:,} windows it decides at chance",
            *(f"  {_describe(name, standing)}" for name, standing in standings.items()),
            "  likely cause, the likeliest first:" if causes else "  no cause was found; what was looked at:",
            *(f"  - {finding.cause}; {finding.remedy}" for finding in causes),
            *(["  what was looked at:"] if causes else []),
            *(f"  - {finding.check}: {finding.text}" for finding in findings),
        ]
    )
    log.warning("%s", text)
    content: dict[str, Any] = {"windows": seen, "step": ctx.step}
    content |= {"standings": {name: standing.to_json() for name, standing in standings.items()}}
    content |= {"findings": [finding.to_json() for finding in findings], "text": text}
    write_text(folder / FILE, json.dumps(content, indent=1) + "\n")


def _describe(name: str, standing: Standing) -> str:
    figures = standing.figures
    return (
        f"{name.replace('_', ' ')}: two-alternative accuracy {figures['two_alternative']:.3f}, mean cosine"
        f" {figures['positive']:.3f} in sync and {figures['negative']:.3f} off, offset curve with a prominence of"
        f" {standing.prominence:.3f}"
    )


def _windows_at_last_ring(path: Path) -> int:
    """Windows seen when the alarm last rang in this folder; 0 if it has not, or its file is damaged."""
    try:
        content = read_json(path)
    except DataError:
        return 0
    windows = content.get("windows") if isinstance(content, dict) else 0
    return windows if isinstance(windows, int) else 0
