"""Scores videos that another system made, folder against folder. No model, no data set.

A video belongs to the real one of the same path below its folder, whatever the two suffixes, or of the same path
written otherwise (see `pairing`). It is read at the real
video's frame rate, and judged against the real video's sound: encoding a sound again shifts it. A real video without a
generated one is a clip that the system failed on.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface.clips.layouts import VIDEO_SUFFIXES, ClipItem, FolderLayout
from talkingface.clips.source import Audio
from talkingface.devices import resolve_device
from talkingface.errors import ConfigError, DataError, MediaError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.metric import Metric, MetricContext
from talkingface.evaluation.pairing import pair, videos_of_run
from talkingface.evaluation.rows import Reference
from talkingface.evaluation.sample import EvalSample
from talkingface.evaluation.setup import EvaluationSetup, is_synthetic
from talkingface.evaluation.tracking import TrackCache
from talkingface.faces.zoom import Again
from talkingface.files import writable_folder
from talkingface.lipsync.mouth_motion import best_lag, log_energy
from talkingface.media import SAMPLE_RATE, KeptFrames, count_frames, probe
from talkingface.plugin.configuration import LoadedConfig

if TYPE_CHECKING:
    from talkingface.evaluation.report.result import EvalResult
    from talkingface.faces.track import LandmarkTrack

log = logging.getLogger("talkingface")

EXAMPLES = 3
LEAST_LENGTH = 0.5  # of the real video: figures of a shorter one would stand beside whole clips as if it were one
SAME_SOUND = 0.6
"""Correlation of two loudness curves from which on two tracks are taken for the same speech; a copy has about 1."""


def score_folders(loaded: LoadedConfig, generated: Path, reference: Path, output: str) -> EvalResult:
    """Score the videos of one folder against those of the same names in another, and write the report.

    Args:
        loaded: the configuration, without a model.
        generated: folder of videos that some system made.
        reference: folder of the real videos.
        output: folder of the report.

    Raises:
        ConfigError: a row is asked for that only a model can make.
        DataError: no pair of videos, or not one that could be scored.
        OutputError: `output` cannot be written.
    """
    if "shuffled" in loaded.config.evaluation.rows:
        raise ConfigError("evaluation.rows: 'shuffled' needs a model that can be given another voice; leave it out")
    report = writable_folder(output)
    generated = videos_of_run(generated)
    made, real = find_videos(generated, report), find_videos(reference, report)
    pairing = pair(made, real)
    if not pairing.partner:
        raise DataError(_no_pair(generated, reference, report))
    pairs = [(made[name], real[other]) for name, other in sorted(pairing.partner.items())]
    evaluator = FolderEvaluator(None, _setup(loaded, generated, reference, pairing.strange))
    evaluator.left_out = [("generated", name, "clip", "no generated video of this name") for name in pairing.unmade]
    rate = loaded.config.fps if loaded.asked("fps") else None
    with tempfile.TemporaryDirectory(prefix="talkingface-") as landmarks:
        cache = TrackCache(evaluator.tracker, Path(landmarks))
        clips = [FileClip(file.video, item, cache, rate, evaluator.kept) for file, item in pairs]
        result = evaluator.run(clips, report)
    log.info("the report is in %s", report)
    return result


def _setup(loaded: LoadedConfig, generated: Path, reference: Path, strange: list[str]) -> EvaluationSetup:
    """What the configuration says, for two folders; `strange`: generated videos that no real one belongs to."""
    config = loaded.config
    return EvaluationSetup(
        metrics=config.metrics,
        settings=config.evaluation,
        weights_dir=config.weights_dir,
        device=str(resolve_device(config.device)),
        landmarks=config.preprocess.landmarks,
        identity={
            "model": generated.resolve().name,
            "dataset": reference.resolve().name,
            "generated": str(generated),
            "reference": str(reference),
            "sound": "real",
            "without_a_real_video": strange,
        },
        synthetic=is_synthetic(reference if (reference / "manifest.json").is_file() else reference.parent),
        context=MetricContext(config.saved_dir),
        progress=config.show_progress,
        preset=config.output.preset,
        video_cache_mb=config.video_cache_mb,
    )


def require_figures(result: EvalResult) -> None:
    """See that there is a figure at all, once the report is written.

    Raises:
        DataError: no metric could be computed; the message gives the first reason.
    """
    if not any(row.values for row in result.rows.values()):
        reasons = [*result.unavailable.values(), *(skip[3] for skip in result.skipped)]
        why = f"the first reason: {reasons[0]}" if reasons else "they say nothing about single video files"
        raise DataError(f"no metric could be computed; {why}")


def find_videos(folder: Path, output: Path) -> dict[str, ClipItem]:
    """Videos below a folder by their path without suffix; those of a report below it do not count."""
    own = output.resolve()
    inside = own.is_relative_to(folder.resolve())
    items = FolderLayout().scan(folder)
    return {item.clip_id: item for item in items if not (inside and item.video.resolve().is_relative_to(own))}


def _no_pair(generated: Path, reference: Path, output: Path) -> str:
    shown = []
    for folder in (generated, reference):
        names = sorted(find_videos(folder, output))
        if not names:
            return f"{folder}: no video in it (suffixes {', '.join(VIDEO_SUFFIXES)})"
        more = f", ... ({len(names)} videos)" if len(names) > EXAMPLES else ""
        shown.append(f"{folder} has {', '.join(names[:EXAMPLES])}{more}")
    return (
        f"no video has the same name in both folders: {'; '.join(shown)}. The path below the folder must be the same,"
        " only the suffix may differ, and _ may stand for the folders"
    )


@dataclass(eq=False)
class FileClip:
    """A pair of video files with the manners of a prepared clip (`ClipFolder`).

    Attributes:
        made: the video to score.
        real: the real video, with the sound file beside it if there is one.
        find: finds landmarks, once for every file.
        rate: frame rate at which both are read; None: the real video's own.
        kept: memory for decoded videos.
        heard: where the sound came from, once `audio` was called.
    """

    made: Path
    real: ClipItem
    find: Callable[[Path, Any], LandmarkTrack]
    rate: float | None = None
    kept: KeptFrames = field(default_factory=partial(KeptFrames, 0))
    heard: Path | None = field(default=None, init=False)

    @property
    def clip_id(self) -> str:
        """Path below the folder, without suffix."""
        return self.real.clip_id

    @property
    def speaker(self) -> str:
        """Not known: the folders of a path may be people, or splits, or anything."""
        return ""

    @property
    def video(self) -> Path:
        """The real video."""
        return self.real.video

    @cached_property
    def fps(self) -> float:
        """Frame rate at which both videos are read."""
        return self.rate or probe(self.video).fps

    def __len__(self) -> int:
        """Number of frames of the real video."""
        return count_frames(self.video, self.fps)

    def record(self, artefact: str) -> dict[str, Any]:
        """Nothing: no preprocessing has been here."""
        return {}

    def track(self) -> LandmarkTrack:
        """Landmarks of the real video."""
        # Frames that can be read again, for a second look at a small face; generated videos get one, too.
        return self.find(self.video, Again(lambda: self.kept.frames(self.video, self.fps)))

    def audio(self) -> np.ndarray:
        """(n,) float32 mono 16 kHz: of the sound file beside the real video, of that video, or of the generated one.

        Raises:
            MediaError: none of them has a sound that can be heard.
        """
        reasons = []
        for path in filter(None, (self.real.audio, self.video, self.made)):
            try:
                samples = Audio.load(path).samples
            except MediaError as error:
                reasons.append(str(error))
            else:
                self.heard = path
                return samples
        raise MediaError(f"{reasons[0]}; the generated video has none either")


class FolderEvaluator(Evaluator):
    """Scores video files that are there already. A clip that one of the metrics cannot score is left out of all."""

    def generate(self, clip: Any, reference: Reference, speaker: Any, output: Path) -> Path:
        """The file that is there already."""
        return clip.made

    def remarks(self, references: Sequence[Reference], own: int) -> list[str]:
        """What is known about videos of strangers: nothing but the files."""
        remarks = ["video files of another system", "the still face is a frame of the clip itself"]
        if strange := self.setup.identity.get("without_a_real_video"):
            remarks.append(f"{len(strange)} further videos have no real one of their name and are not judged")
        folders = [Path(self.setup.identity[name]).resolve() for name in ("generated", "reference")]
        if folders[0] == folders[1]:
            remarks.append("generated and reference are the same folder: every video is compared with itself")
        return remarks

    def describe_references(self, used: Mapping[str, Reference]) -> dict[str, Any]:
        """Where the identity frames came from: whoever made the videos knows."""
        return {"policy": None}

    def check(self, clip: Any, sample: EvalSample, metrics: Sequence[Metric]) -> None:
        """Decode both videos to their ends, and find the faces and the sound that any of the metrics needs."""
        for _ in sample.pairs():
            pass
        made, real = sample.lengths or (0, 0)
        if made < LEAST_LENGTH * real:
            raise DataError(f"{sample.generated}: {made} frames, but the real video has {real}: too short to be scored")
        sample.notes += _rate_note(sample)
        listening = [metric.name for metric in metrics if metric.needs_sound]
        if listening:
            try:
                sample.driving_audio()
            except MediaError as error:
                raise MediaError(f"{error} (needed by {', '.join(listening)}; choose others with --metrics)") from error
            sample.notes += _sound_note(clip, sample)
        if any(metric.needs_landmarks for metric in metrics):
            sample.real_track()
            sample.generated_track()


def _rate_note(sample: EvalSample) -> list[str]:
    """Whether the video was resampled."""
    rate = probe(sample.generated).fps
    return [] if abs(rate - sample.fps) < 0.01 else [f"a video of {rate:.2f} fps, read at {sample.fps:.2f}"]


def _sound_note(clip: FileClip, sample: EvalSample) -> list[str]:
    """Whose sound was used if not the real one's; and how the generated file's own sound differs from that."""
    if clip.heard == clip.made:
        return ["scored against the generated video's own sound, the real one has none"]
    if sample.row != "generated":
        return []
    try:
        own = Audio.load(clip.made).samples
    except MediaError:
        return []
    heard = sample.driving_audio()
    frames = int(min(len(own), len(heard)) * sample.fps / SAMPLE_RATE)
    lag, alike = best_lag(log_energy(heard, frames, sample.fps), log_energy(own, frames, sample.fps))
    if not math.isfinite(alike):
        return []
    if alike < SAME_SOUND:
        return [f"scored against the real video's sound; its own seems to be another (correlation {alike:.2f})"]
    return [f"scored against the real video's sound; its own lies {lag:+.0f} frames later"] if lag else []
