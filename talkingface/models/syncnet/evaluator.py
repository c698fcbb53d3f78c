"""Evaluation of a lip-sync expert: right decisions and offset sweeps on held-out clips, for seen and unseen people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from talkingface.clips.layouts import UNSEEN, of_split
from talkingface.clips.windows import known_columns
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import DataError, TalkingFaceError
from talkingface.evaluation.bootstrap import SEED, mean_interval
from talkingface.evaluation.metric import Figure, mean_of
from talkingface.evaluation.report.result import ClipScore, EvalResult, RowResult, one_line
from talkingface.evaluation.report.write import write_report
from talkingface.evaluation.setup import is_synthetic
from talkingface.lipsync.dubbing.windows import MouthWindows
from talkingface.lipsync.expert.data import sync_starts
from talkingface.lipsync.expert.embedding import ClipEmbeddings, embed_clip
from talkingface.lipsync.expert.inputs import MEL, MEL_CONFIG
from talkingface.lipsync.expert.judge import Judge, inner_judge, weights_hash
from talkingface.lipsync.expert.plots import plot_clips, plot_sweeps
from talkingface.lipsync.expert.scores import HIT_PROMINENCE, NEGATIVE_SHIFT, THRESHOLD, Sweep, clip_figures, sweep_of
from talkingface.media import VideoReader
from talkingface.networks.sync_expert import FRAMES
from talkingface.sound.mel import melspectrogram

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import Config

SHOWN_CLIPS = 40
SHOWN_OFFSETS = (-15, -10, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 10, 15)
FAR = f"{NEGATIVE_SHIFT} frames or more apart"
FIGURES = {
    "accuracy": Figure("", True, f"right decisions at a cosine of {THRESHOLD}: true pairs, and pairs {FAR}, half each"),
    "accuracy_any_shift": Figure("", True, "the same with any other window of the clip as false pair, as published"),
    "two_alternative": Figure("", True, f"mouths closer to their own sound than to one {FAR}"),
    "cosine_in_sync": Figure("", None, "mean cosine of true pairs"),
    "cosine_off_sync": Figure("", None, f"mean cosine of pairs {FAR}"),
    "sweep_peak": Figure("frames", None, "offset of the largest mean cosine; positive: earlier audio"),
    "sweep_prominence": Figure("", True, "largest mean cosine over all offsets less their median"),
    "sweep_hits": Figure("", True, f"share of clips with their peak at 0 and a prominence of {HIT_PROMINENCE} or more"),
}


def figures_of(measure: str) -> dict[str, Figure]:
    """The figures of an expert whose scores are called so."""
    return {name: each._replace(about=each.about.replace("cosine", measure)) for name, each in FIGURES.items()}


@dataclass
class SyncResult(EvalResult):
    """What is known of an expert; rows are groups of people: `seen` in training, `unseen`, `unknown`."""

    sweeps: dict[str, dict[str, Sweep]] = field(default_factory=dict)
    measure: str = "cosine"

    def table(self) -> str:
        """The printed table, the mean offset sweep of every row, and peak and prominence of every clip."""
        lines = [
            super().table(),
            "",
            f"offset sweep: mean {self.measure} by offset in frames (positive: earlier audio)",
        ]
        lines.append(" " * 10 + "".join(f"{offset:>6}" for offset in SHOWN_OFFSETS))
        for row, sweeps in self.sweeps.items():
            curve = Sweep.mean(list(sweeps.values())).curve
            values = [curve[offset + len(curve) // 2] for offset in SHOWN_OFFSETS]
            lines.append(f"{row:<10}" + "".join(f"{value:>6.2f}" for value in values))
        lines += ["", "peak (frames) and prominence of every clip"]
        clips = [(row, clip_id, sweep) for row, sweeps in self.sweeps.items() for clip_id, sweep in sweeps.items()]
        lines += [f"{row:<10}{name:<20}{s.peak:>+4}{s.prominence:>7.2f}" for row, name, s in clips[:SHOWN_CLIPS]]
        more = len(clips) - SHOWN_CLIPS
        return "\n".join([*lines, f"... and {more} more, see per_clip.csv"] if more > 0 else lines)


class SyncEvaluator:
    """Scores a lip-sync expert on prepared clips; it makes no videos.

    Args:
        model: a model with a network `sync_expert` and its configuration.
        settings: the configuration's `evaluation` section.
        strangers: further clips, usually of people who are in no training clip.
        speakers: people who are in training clips; empty where that is not known.
        identity: what the report says about itself.
        synthetic: whether the data are synthetic.
    """

    needs_video: ClassVar[bool] = False  # stored crops will do
    measure: ClassVar[str] = "cosine"

    def __init__(
        self,
        model: Any,
        settings: EvaluationConfig | None = None,
        *,
        strangers: Sequence[ClipFolder] = (),
        speakers: Sequence[str] = (),
        identity: Mapping[str, Any] | None = None,
        synthetic: bool | None = None,
    ) -> None:
        self.model = model.eval()
        self.network = model.sync_expert
        self.settings = settings or EvaluationConfig()
        self.strangers = list(strangers)
        self.speakers = set(speakers)
        self.identity = dict(identity or {})
        self.synthetic = synthetic

    @cached_property
    def judge(self) -> Judge:
        """The expert with the crop that it sees."""
        return inner_judge(self.model)

    @classmethod
    def from_config(cls, config: Config, pipeline: Any, pool: Sequence[ClipFolder] = ()) -> SyncEvaluator:
        """An evaluator as the configuration describes it; see `Evaluator.from_config`."""
        identity = {"model": config.model_name, "dataset": config.dataset, "checkpoint": str(pipeline.checkpoint)}
        return cls(
            pipeline.model,
            config.evaluation,
            strangers=of_split(config, UNSEEN, pool),
            speakers=[clip.speaker for clip in of_split(config, "train", pool)],
            identity=identity,
            synthetic=is_synthetic(Path(config.data_root)) if config.data_root else None,
        )

    def run(self, clips: Sequence[ClipFolder], out: str | Path, *, quiet: bool = False, **_: Any) -> SyncResult:
        """Score `clips` and the strangers.

        Args:
            clips: prepared clips, usually the test split; at most `settings.max_clips` of them are used.
            out: folder for `metrics.json`, `per_clip.csv`, `report.html`, `sweep.png` and `sweep_clips.png`.
            quiet: no `report.html`; used while training.

        Raises:
            DataError: no clip could be scored.
            OutputError: `out` cannot be written.
        """
        most = self.settings.max_clips
        chosen = {clip.clip_id: clip for clip in [*list(clips)[:most], *self.strangers[:most]]}
        result = SyncResult(figures=figures_of(self.measure), metric_of=dict.fromkeys(FIGURES, "SyncNet"))
        result.measure = self.measure
        for clip in chosen.values():
            row = self.group(clip)
            try:
                score, sweep = self._score(clip, row)
            except TalkingFaceError as error:
                result.skipped.append((row, clip.clip_id, "clip", one_line(error)))
                continue
            result.clips.append(score)
            result.sweeps.setdefault(row, {})[clip.clip_id] = sweep
        if not result.clips:
            raise DataError(f"none of {len(chosen)} clips could be scored; the first: {result.skipped[0][3]}")
        result.sweeps = {row: result.sweeps[row] for row in sorted(result.sweeps)}
        result.rows = {row: self._summary(result, row) for row in result.sweeps}
        self._describe(result)
        self._write(result, Path(out), html=self.settings.html and not quiet)
        return result

    def group(self, clip: ClipFolder) -> str:
        """`seen`, `unseen` or `unknown`: whether the speaker is in a training clip."""
        if not clip.speaker or not self.speakers:
            return "unknown"
        return "seen" if clip.speaker in self.speakers else "unseen"

    def _score(self, clip: ClipFolder, row: str) -> tuple[ClipScore, Sweep]:
        embedded = self.embedded(clip)
        figures, sweep = clip_figures(embedded), sweep_of(embedded)
        values = {name: figures[name] for name in ("accuracy", "accuracy_any_shift", "two_alternative")}
        values |= {"cosine_in_sync": figures["positive"], "cosine_off_sync": figures["negative"]}
        values |= {
            "sweep_peak": float(sweep.peak),
            "sweep_prominence": sweep.prominence,
            "sweep_hits": float(sweep.hit),
        }
        frames = dict.fromkeys(values, len(embedded.starts))
        return ClipScore(row, clip.clip_id, values, frames, curves={"expert": sweep.curve.tolist()}), sweep

    def embedded(self, clip: ClipFolder) -> ClipEmbeddings:
        """All windows of a clip.

        Raises:
            DataError: there are fewer than two.
        """
        mel = clip.mel(MEL) if clip.has(MEL) else melspectrogram(clip.audio(), MEL_CONFIG)
        halves, valid = self._faces(clip)
        starts = sync_starts(valid, known_columns(clip, mel.shape[1]), clip.fps)
        return _enough(embed_clip(self.network, halves, mel, starts, clip.fps))

    def _faces(self, clip: ClipFolder) -> tuple[Iterator[np.ndarray], np.ndarray]:
        """Lower halves, and which frames have a face: from stored crops, or from the video where those are others."""
        judge = self.judge
        if clip.has(judge.crop.artefact):
            faces = clip.faces(judge.crop.artefact)
            if not judge.crop.differs_from(faces.meta):
                return (crop[faces.size // 2 :] for crop in faces.each()), faces.valid
        track = clip.track()
        return judge.cut(VideoReader(clip.video, fps=clip.fps), track), track.valid

    def _summary(self, result: SyncResult, row: str) -> RowResult:
        summary = RowResult(clips=len(result.sweeps[row]))
        for key in FIGURES:
            values = [clip.values[key] for clip in result.clips if clip.row == row]
            mean, summary.scored[key], lost = mean_of(values)
            if summary.scored[key]:
                summary.values[key] = mean
            if lost:
                summary.non_finite[key] = lost
            if ends := mean_interval(values, self.settings.bootstrap):
                summary.intervals[key] = ends
        return summary

    def _describe(self, result: SyncResult) -> None:
        result.definitions = {
            "expert": {
                "sha256": weights_hash(self.network),
                **self.form(),
                "parameters": sum(p.numel() for p in self.network.parameters()),
                "threshold": THRESHOLD,
                "negatives_from_frames": NEGATIVE_SHIFT,
            }
        }
        result.provenance = {
            **self.identity,
            "clips": len(result.clips),
            "interval95": {"method": "percentile bootstrap of the mean over clips", "seed": SEED}
            | {"resamples": self.settings.bootstrap},
            "synthetic": self.synthetic,
            "remarks": ["synthetic data, no evidence of model quality"] if self.synthetic else [],
        }

    def form(self) -> dict[str, Any]:
        """What the expert sees, for reports."""
        return {"lower_half": list(self.network.size)}

    def _write(self, result: SyncResult, out: Path, html: bool) -> None:
        write_report(result, out, html)
        groups = {row: list(sweeps.values()) for row, sweeps in result.sweeps.items()}
        title = " on ".join(str(self.identity[key]) for key in ("model", "dataset") if key in self.identity)
        plot_sweeps(groups, out / "sweep.png", f"{title}: {len(result.clips)} held-out clips".removeprefix(": "))
        plot_clips(result.sweeps, out / "sweep_clips.png")


class MouthSyncEvaluator(SyncEvaluator):
    """The same for an expert that is no cosine; of prepared clips it reads crops and rows.

    Args: see `SyncEvaluator`.
    """

    measure = "score"

    def embedded(self, clip: ClipFolder) -> ClipEmbeddings:
        """See `SyncEvaluator.embedded`."""
        options = {"mouth": self.model.config.expert.side, "windows": 2, "augment": None, "cache_mb": 0}
        windows = MouthWindows([clip], "test", options, self.model.config)
        return embed_clip(self.network, *windows.whole(clip))

    def form(self) -> dict[str, Any]:
        """See `SyncEvaluator.form`."""
        config = self.model.config
        return {"mouth": config.expert.side, "crop": config.crop.artefact, "hears": config.audio.sync.name}


def _enough(clip: ClipEmbeddings) -> ClipEmbeddings:
    """The windows of a clip.

    Raises:
        DataError: there are fewer than two.
    """
    if len(clip.starts) < 2:
        raise DataError(f"fewer than two windows of {FRAMES} frames with a face and sound")
    return clip
