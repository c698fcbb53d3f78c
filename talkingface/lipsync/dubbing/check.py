"""What a sync expert of DINet's kind is worth on real clips, before anything is trained against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from talkingface.errors import CheckpointError, DataError
from talkingface.lipsync.dubbing.expert import learnt_otherwise, standing_on
from talkingface.lipsync.dubbing.judge import StoredExpert
from talkingface.lipsync.expert.judge import ExpertFile, is_no_cosine
from talkingface.lipsync.expert.scores import Sweep

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.lipsync.dubbing.settings import MouthSyncConfig, TrainedDubbingConfig
    from talkingface.lipsync.expert.alarm import Standing

HEADS = ("clips", "two_alternative", "accuracy", "true", "other", "peak", "prominence", "at 0")


class ExpertCheck(NamedTuple):
    """Figures of an expert.

    Attributes:
        about: the expert in a line.
        standings: by the name of a list of clips, the one that decides first.
        least: two-alternative accuracy that it must have there.
    """

    about: str
    standings: dict[str, Standing]
    least: float

    @property
    def passed(self) -> bool:
        """Whether something may be trained against it."""
        return next(iter(self.standings.values())).figures["two_alternative"] >= self.least

    def table(self) -> str:
        """A line per list of clips; `at 0` is the share of clips whose curve over offsets has a clear peak there."""
        lines = [self.about, f"{'':<8}" + "".join(f"{head:>16}" for head in HEADS)]
        for name, standing in self.standings.items():
            lines.append(f"{name:<8}" + "".join(f"{cell:>16}" for cell in _cells(standing)))
        right = next(iter(self.standings.values())).figures["two_alternative"]
        verdict = "good enough" if self.passed else "too little"
        return "\n".join([*lines, f"two-alternative accuracy {right:.2f}, {self.least:.2f} is needed: {verdict}"])


def _cells(standing: Standing) -> list[str]:
    figures, mean = standing.figures, Sweep.mean(standing.sweeps)
    shares = (figures[name] for name in ("two_alternative", "accuracy", "positive", "negative"))
    hits = sum(sweep.hit for sweep in standing.sweeps) / len(standing.sweeps)
    return [str(len(standing.sweeps)), *(f"{share:.2f}" for share in shares), f"{mean.peak:+d}"] + [
        f"{value:.2f}" for value in (mean.prominence, hits)
    ]


def check_expert(
    path: str | Path,
    clips: Mapping[str, Sequence[ClipFolder]],
    config: MouthSyncConfig | TrainedDubbingConfig,
    device: str = "cpu",
) -> ExpertCheck:
    """Measure an expert.

    Args:
        path: run folder, checkpoint or published `syncnet_256mouth.pth`.
        clips: lists of prepared clips by name, the one that decides first; empty ones are passed over.
        config: of the model that is to be trained against it.
        device: where it computes.

    Raises:
        CheckpointError: no such expert, or it learnt on other crops or features than the model has.
        DataError: no clip can be used.
    """
    file = ExpertFile.read(path)
    if not is_no_cosine(file.state):
        command = f"`python run_talkingface.py evaluate --model=SyncNet --dataset=NAME --checkpoint={path}`"
        raise CheckpointError(f"{file.path}: an expert of SyncNet's kind, not of DINet's; {command} scores it")
    if file.content and (reason := learnt_otherwise(file.content.config.get("model"), config)):
        raise CheckpointError(f"{file.path}: {reason}")
    expert = StoredExpert.of(file)
    side, network = expert.crop.mouth, expert.network.to(device)
    most = config.expert.sweep_clips
    found = {name: standing_on(network, some, config, side, most) for name, some in clips.items() if some}
    if not found:
        raise DataError("there is no clip to measure the expert on; name a data set with clips in val or test")
    hears = config.audio.sync.name
    about = f"{file.path}: mouths of {side} px, {config.crop.kind} crops, hears {hears}"
    return ExpertCheck(about, found, config.expert.least or 0.0)
