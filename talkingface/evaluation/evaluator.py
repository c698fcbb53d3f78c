"""The evaluator: generates every clip through the pipeline a user calls, then scores the files beside reference rows.

Rows: `generated`; `real`, the real video itself; `still`, a still face in the true box; `shuffled`, the same model
driven by another clip's audio. Pixel scores of a talking face mean little without the last two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tqdm import tqdm

from talkingface.clips.source import Audio, Source
from talkingface.errors import DataError, OutputError, TalkingFaceError, Unavailable
from talkingface.evaluation.bootstrap import SEED
from talkingface.evaluation.metric import Metric
from talkingface.evaluation.provenance import OWN_WAY, definitions_of, detector_of, head_remark, seen_speakers, whose
from talkingface.evaluation.report.evidence import TITLES, typical_clip
from talkingface.evaluation.report.result import ClipScore, EvalResult, RowResult, one_line, safe_name
from talkingface.evaluation.report.samples import write_sample
from talkingface.evaluation.report.write import write_report
from talkingface.evaluation.rows import Reference, assign_donors, choose_references, write_still
from talkingface.evaluation.sample import EvalSample
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.media import KeptFrames, samples_of
from talkingface.team import Team

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import Config
    from talkingface.faces.track import LandmarkTrack

log = logging.getLogger("talkingface")


class GeneratesFiles(Protocol):
    """What the evaluator needs of a pipeline."""

    name: str
    model: Any

    def generate_file(self, source: Source, audio: Audio, output: Path, progress: bool = False) -> Any:
        """Write the talking video `output`."""
        ...


class Evaluator:
    """Generates, scores, reports. A subclass may get its videos otherwise, see `generate`.

    Args:
        pipeline: what generates; None where a subclass needs none.
        setup: what is computed, and with what.

    Raises:
        RegistryError: a metric is not known.
    """

    needs_video: ClassVar[bool] = True  # of the clips; one that reads prepared clips alone says no

    def __init__(self, pipeline: GeneratesFiles | None, setup: EvaluationSetup) -> None:
        self.pipeline = pipeline
        self.setup = setup
        self.settings = setup.settings
        self.metrics = setup.build_metrics()
        self.tracker = setup.build_tracker()
        self.kept = KeptFrames(setup.video_cache_mb)
        self.left_out: list[tuple[str, str, str, str]] = []  # entries of `EvalResult.skipped` known beforehand
        self.team = Team()  # the processes that share the clips

    @classmethod
    def from_config(cls, config: Config, pipeline: GeneratesFiles, pool: Sequence[ClipFolder] = ()) -> Evaluator:
        """An evaluator as the configuration describes it; see `EvaluationSetup.from_config`."""
        return cls(pipeline, EvaluationSetup.from_config(config, pipeline, pool))

    def run(
        self,
        clips: Sequence[ClipFolder],
        out: str | Path,
        rows: Sequence[str] | None = None,
        *,
        quiet: bool = False,
        stage_scores: bool | None = None,
    ) -> EvalResult:
        """Generate and score clips; a clip that fails is left out with its reason, the others go on.

        Where several processes share the clips, each has the figures of all of them in the end, and the first one
        writes the report.

        Args:
            clips: prepared clips (landmarks and audio), at most `settings.max_clips` of them are used.
            out: folder for `metrics.json`, `per_clip.csv`, `report.html`, `videos/<row>/` and `samples/`.
            rows: default `settings.rows`.
            quiet: no progress bars, no side-by-side videos and no `report.html`; used while training.
            stage_scores: whether the model's own figures are computed; default unless `quiet`.

        Raises:
            DataError: there are no clips, or not one could be generated; with `settings.strict`, a metric cannot be
                computed here.
            OutputError: `out` cannot be written.
        """
        clips = list(clips)[: self.settings.max_clips]
        if not clips:
            raise DataError("nothing to evaluate: the list of clips is empty")
        rows = tuple(rows or self.settings.rows)
        job = _Job(self, clips, Path(out), quiet)
        metrics = self._available(job.result, rows)
        # The generated row first: a clip that cannot be generated is left out of every row: rows stay comparable.
        for row in sorted(dict.fromkeys(rows), key=lambda name: name != "generated"):
            job.score_row(row, metrics)
        job.result.rows = {row: job.result.rows[row] for row in rows}
        if self.team.is_first:
            self._report(job, metrics, quiet, stage_scores)
        self.kept.clear()
        if not job.clips:
            raise DataError(f"none of {len(clips)} clips could be scored; the first: {job.result.skipped[0][3]}")
        return job.result

    def _report(self, job: _Job, metrics: Sequence[Metric], quiet: bool, stage_scores: bool | None) -> None:
        """What is found and written once."""
        if not quiet if stage_scores is None else stage_scores:
            job.add_stage_figures()
        job.describe(metrics)
        if not quiet:
            job.write_samples()
        job.result.skipped += self.left_out
        write_report(job.result, job.out, self.settings.html and not quiet, self.kept)

    def generate(self, clip: ClipFolder, reference: Reference, speaker: ClipFolder, output: Path) -> Path:
        """Make the video of `clip` with the voice of `speaker`.

        Args:
            clip: whose face speaks.
            reference: where the identity frames come from.
            speaker: the clip whose sound is spoken: `clip` itself, or another one for the shuffled row.
            output: file to write.

        Returns:
            Where the video lies: `output`, unless a subclass has the video already.
        """
        assert self.pipeline is not None
        source = self.source(clip, reference)
        audio = self.audio(speaker, min(len(clip), len(speaker)))
        self.pipeline.generate_file(source, audio, output, progress=False)
        return output

    def check(self, clip: ClipFolder, sample: EvalSample, metrics: Sequence[Metric]) -> None:
        """See, before a sample is scored, that it can be; what this raises is why the clip is skipped.

        Clips that were prepared and videos made here need no check; a subclass may judge strangers' files.
        """

    def remarks(self, references: Sequence[Reference], own: int) -> list[str]:
        """What the report's first line says about the references, of which `own` come from the clip itself."""
        return [f"references from {whose(own, len(references))}"]

    def describe_references(self, used: Mapping[str, Reference]) -> dict[str, Any]:
        """Where the identity frames of the clips came from, by clip id; a subclass may not know."""
        names = {name: reference.clip.clip_id for name, reference in used.items()}
        own = sum(key == value for key, value in names.items())
        return {
            "policy": self.settings.references,
            "from_the_same_clip": own,
            "from_another_clip": len(used) - own,
            "reasons": sorted({reference.reason for reference in used.values() if reference.reason}),
            "clip": names,
        }

    def source(self, clip: ClipFolder, reference: Reference) -> Source:
        """What drives the picture: the clip's video, its landmarks from disk, references from another clip."""
        other = reference.clip
        lent = None if other is clip else Source(other.video, fps=other.fps, clip=other)
        if lent is not None:
            lent.kept = self.kept
        source = Source(clip.video, fps=clip.fps, clip=clip, reference=lent)
        source.held_out, source.kept = True, self.kept
        return source

    def audio(self, clip: ClipFolder, frames: int) -> Audio:
        """The clip's sound, cut to `frames` frames of the clip."""
        return Audio(clip.audio()[: samples_of(frames, clip.fps)])

    @property
    def head(self) -> str:
        """What the head of the generated videos follows; see `TalkingFaceModel.head_follows`. Of files: the source."""
        declared = getattr(getattr(self.pipeline, "model", None), "head_follows", None)
        return declared(picture=False) if declared is not None else "source"

    def _available(self, result: EvalResult, rows: Sequence[str]) -> list[Metric]:
        """The metrics that can be computed here; notes why the others cannot."""
        usable = []
        for metric in self.metrics:
            result.figures |= metric.figures
            result.metric_of |= dict.fromkeys(metric.figures, metric.name)
            if not set(metric.needs_rows) <= set(rows):
                # Nothing is missing on this machine, so `strict` has no say.
                result.unavailable[metric.name] = self._needed_rows(metric, rows)
                continue
            if metric.pointwise and self.head != "source":
                result.unavailable[metric.name] = (
                    f"compares pictures point by point, but the head of these videos follows {OWN_WAY[self.head]}"
                )
                continue
            try:
                if metric.needs_landmarks:
                    self.tracker.require_points()
                metric.prepare()
                usable.append(metric)
            except Unavailable as error:
                if self.settings.strict:
                    raise DataError(f"metric {metric.name} is not available: {error}") from error
                result.unavailable[metric.name] = str(error)
        # What one of several machines lacks, no row is scored with.
        common = set.intersection(*map(set, self.team.gather([metric.name for metric in usable])))
        for metric in usable:
            if metric.name not in common:
                result.unavailable[metric.name] = "another of the processes that share the clips cannot compute it"
        return [metric for metric in usable if metric.name in common]

    def _needed_rows(self, metric: Metric, rows: Sequence[str]) -> str:
        """Why a metric has no figures with these rows, and what to set."""
        reason = f"needs the rows {' and '.join(metric.needs_rows)}"
        if self.pipeline is None:
            return f"{reason}, which only a model can make that is given another voice"
        wanted = ", ".join(dict.fromkeys([*metric.needs_rows, *rows]))
        return f'{reason}; set --evaluation.rows="[{wanted}]"'


class _Job:
    """One run of an evaluator."""

    def __init__(self, evaluator: Evaluator, clips: list[ClipFolder], out: Path, quiet: bool) -> None:
        self.evaluator = evaluator
        self.clips = self.given = clips
        self.out = out
        self.quiet = quiet
        self.result = EvalResult()
        self.videos: dict[tuple[str, str], Path] = {}
        self.tracks: dict[str, dict[str, Any]] = {}  # detectors behind the prepared landmarks that were used
        self.team = evaluator.team
        self.place = {clip.clip_id: index for index, clip in enumerate(clips)}
        self.references = choose_references(clips, evaluator.setup.pool, evaluator.settings.references)

    @cached_property
    def donors(self) -> dict[str, ClipFolder]:
        """Whose audio drives which clip where it is another's."""
        return assign_donors(self.given, self.evaluator.setup.pool)

    def score_row(self, row: str, metrics: Sequence[Metric]) -> None:
        """Make and score the videos of one row."""
        for metric in metrics:
            metric.reset()
        makers: dict[str, Callable[[ClipFolder], EvalSample]] = {
            "generated": self._generated,
            "real": self._real,
            "still": self._still,
            "shuffled": self._shuffled,
        }
        done = []
        own = [clip for clip in self.clips if self.team.has(self.place[clip.clip_id])]
        # None: shown on a terminal
        hidden = self.quiet or not self.evaluator.setup.progress or not self.team.is_first or None
        for clip in tqdm(own, desc=f"evaluate: {row}", unit="clip", disable=hidden, leave=False):
            try:
                sample = makers[row](clip)
                self.evaluator.check(clip, sample, metrics)
            except Exception as error:
                if isinstance(error, OutputError) and error.lasting:
                    raise  # a full disk or read-only folder fails every clip
                self._skip(row, clip.clip_id, "clip", error)
                continue
            done.append(self._score(sample, metrics))
        scored = self._of_all(row, done, metrics)
        self.result.clips += scored
        if row == "generated":
            names = {score.clip_id for score in scored}
            self.clips = [clip for clip in self.clips if clip.clip_id in names]
        self.result.rows[row] = _summary(metrics, len(scored))

    def _of_all(self, row: str, own: list[ClipScore], metrics: Sequence[Metric]) -> list[ClipScore]:
        """Scores of the row's clips from all processes, which then know what each of them has skipped and seen."""
        if self.team.size == 1:
            return own
        skipped = [entry for entry in self.result.skipped if entry[0] == row]
        parts = self.team.gather((own, skipped, self.videos, self.tracks, [metric.part() for metric in metrics]))
        for rank, (_, theirs, videos, tracks, _) in enumerate(parts):
            self.videos |= videos
            self.tracks |= tracks
            if rank != self.team.rank:
                for _, clip_id, what, reason in theirs:
                    log.warning("evaluation of %s (%s, %s) skipped: %s", clip_id, row, what, reason)
        others = [entry for entry in self.result.skipped if entry[0] != row]
        of_row = sorted((entry for part in parts for entry in part[1]), key=lambda entry: self.place[entry[1]])
        self.result.skipped = others + of_row
        for index, metric in enumerate(metrics):
            metric.join([part[4][index] for part in parts], self.place)
        return sorted((score for part in parts for score in part[0]), key=lambda score: self.place[score.clip_id])

    def _score(self, sample: EvalSample, metrics: Sequence[Metric]) -> ClipScore:
        values: dict[str, float] = {}
        for metric in metrics:
            try:
                values |= metric.update(sample)
            except Exception as error:
                self._skip(sample.row, sample.clip_id, metric.name, error)
        if sample.lengths is not None and sample.lengths[0] != sample.lengths[1]:
            sample.notes.append("{} frames, the real video has {}".format(*sample.lengths))
        return ClipScore(
            row=sample.row,
            clip_id=sample.clip_id,
            values=values,
            frames=sample.frames,
            excluded=sample.excluded,
            notes=sample.notes,
            curves=sample.curves,
            video=sample.generated,
            reference=sample.reference,
        )

    def _skip(self, row: str, clip_id: str, what: str, error: Exception) -> None:
        reason = one_line(error)
        self.result.skipped.append((row, clip_id, what, reason))
        expected = isinstance(error, TalkingFaceError)
        log.warning("evaluation of %s (%s, %s) skipped: %s", clip_id, row, what, reason, exc_info=not expected)

    def _track(self, clip: ClipFolder) -> LandmarkTrack:
        """Prepared landmarks; notes which detector found them."""
        track = clip.track()
        found = {"provider": track.provider, "version": track.version, "layout": track.layout}
        mode = clip.record("landmarks").get("params", {}).get("mode")
        self.tracks[clip.clip_id] = found | ({"mode": mode} if mode else {})
        return track

    def _sample(self, clip: ClipFolder, row: str, video: Path, **changes: Any) -> EvalSample:
        self.videos[row, clip.clip_id] = video
        own: dict[str, Any] = {"audio": clip.audio, "reference_track": partial(self._track, clip)}
        parts = {"tracker": self.evaluator.tracker, "fps": clip.fps, "kept": self.evaluator.kept, **own, **changes}
        return EvalSample(clip.clip_id, row, video, clip.video, **parts)

    def _video(self, row: str, clip_id: str) -> Path:
        return self.out / "videos" / row / f"{safe_name(clip_id)}.mp4"

    def _generate(self, clip: ClipFolder, row: str, speaker: ClipFolder) -> Path:
        output = self._video(row, clip.clip_id)
        return self.evaluator.generate(clip, self.references[clip.clip_id], speaker, output)

    def _generated(self, clip: ClipFolder) -> EvalSample:
        return self._sample(clip, "generated", self._generate(clip, "generated", clip))

    def _real(self, clip: ClipFolder) -> EvalSample:
        if not clip.video.is_file():
            raise DataError(f"{clip.video}: the real video is not there")
        return self._sample(clip, "real", clip.video)

    def _still(self, clip: ClipFolder) -> EvalSample:
        output = self._video("still", clip.clip_id)
        preset = self.evaluator.setup.preset
        write_still(clip, self.references[clip.clip_id].clip, output, self.evaluator.kept, preset)
        return self._sample(clip, "still", output)

    def _shuffled(self, clip: ClipFolder) -> EvalSample:
        donor = self.donors.get(clip.clip_id)
        if donor is None:
            raise DataError(f"no other clip of {clip.fps:g} fps to lend its audio")
        video = self._generate(clip, "shuffled", donor)
        own = self.videos.get(("generated", clip.clip_id))
        parts = {"donor_track": partial(self._track, donor), "counterpart": own}
        return self._sample(clip, "shuffled", video, audio=donor.audio, **parts)

    def add_stage_figures(self) -> None:
        """The model's figures of its inner stages."""
        scores = getattr(getattr(self.evaluator.pipeline, "model", None), "stage_scores", None)
        if scores is None:
            return
        pairs = [(clip, self.donors[clip.clip_id]) for clip in self.clips if clip.clip_id in self.donors]
        if not pairs:
            return
        clips, donors = map(list, zip(*pairs, strict=True))
        try:
            self.result.stage_figures = dict(scores(clips, donors))
        except Exception as error:
            self._skip("generated", "all", "stage figures", error)

    def describe(self, metrics: Sequence[Metric]) -> None:
        """Fill in what a reader must know to compare the numbers."""
        detector = detector_of(self.evaluator.tracker.describe(), self.tracks.values())
        self.result.definitions = definitions_of(metrics, detector)
        used = {clip.clip_id: self.references[clip.clip_id] for clip in self.clips}
        own = sum(reference.clip.clip_id == name for name, reference in used.items())
        rates = sorted({clip.fps for clip in self.clips})
        remarks = self.evaluator.remarks(list(used.values()), own)
        remarks += head_remark(self.evaluator.head)
        remarks += seen_speakers(self.clips, self.evaluator.setup.trained_speakers)
        remarks += ["synthetic data, no evidence of model quality"] if self.evaluator.setup.synthetic else []
        remarks += [remark for metric in metrics for remark in metric.remarks()]
        self.result.provenance = {
            **self.evaluator.setup.identity,
            "clips": len(self.clips),
            "head": self.evaluator.head,
            "fps": rates[0] if len(rates) == 1 else rates,
            "references": self.evaluator.describe_references(used),
            **self._donors_used(),
            "landmarks": detector,
            "interval95": {"method": "percentile bootstrap of the mean over clips", "seed": SEED}
            | {"resamples": self.evaluator.settings.bootstrap},
            "synthetic": self.evaluator.setup.synthetic,
            "remarks": remarks,
        }

    def _donors_used(self) -> dict[str, Any]:
        """Whose audio drove which clip, and which donors are not among the clips evaluated."""
        used = "shuffled" in self.result.rows or bool(self.result.stage_figures)
        pairs = [(clip.clip_id, self.donors.get(clip.clip_id)) for clip in self.clips] if used else []
        donors = {name: donor.clip_id for name, donor in pairs if donor is not None}
        strangers = set(donors.values()) - {clip.clip_id for clip in self.given}
        return {"donors": donors, "donors_from_outside_the_list": sorted(strangers)}

    def write_samples(self) -> None:
        """Side-by-side videos with the true sound, and picture strips, of the typical clip and of the first ones."""
        most, typical = self.evaluator.settings.samples, typical_clip(self.result)
        kept, preset = self.evaluator.kept, self.evaluator.setup.preset
        for clip in sorted(self.clips, key=lambda clip: clip.clip_id != typical)[:most]:
            videos = {row: self.videos[row, clip.clip_id] for row in TITLES if (row, clip.clip_id) in self.videos}
            try:
                write_sample(clip, videos, self.out / "samples" / safe_name(clip.clip_id), kept, preset)
            except Exception as error:  # the figures are known, and not yet written
                self._skip("samples", clip.clip_id, "side by side", error)


def _summary(metrics: Sequence[Metric], clips: int) -> RowResult:
    row = RowResult(clips=clips)
    for metric in metrics:
        row.values |= metric.compute()
        row.intervals |= metric.intervals()
        row.scored |= metric.scored()
        row.frame_means |= metric.frame_means()
        row.non_finite |= metric.non_finite()
    return row
