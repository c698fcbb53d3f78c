"""What an evaluation needs to know besides clips and pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.clips.layouts import of_split
from talkingface.config.sections import EvaluationConfig, LandmarkConfig
from talkingface.errors import DataError
from talkingface.evaluation.metric import Metric, MetricContext, make_metric
from talkingface.evaluation.tracking import Tracker
from talkingface.faces.detectors import Place
from talkingface.plugin.assembly import hash_in_use
from talkingface.plugin.hearing import spoken
from talkingface.stored.jsons import read_json

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.config.sections import Config
    from talkingface.faces.track import LandmarkProvider


@dataclass(frozen=True)
class EvaluationSetup:
    """What is computed, with what, and what the report says about itself.

    Attributes:
        metrics: names, or metrics already built.
        settings: the configuration's `evaluation` section.
        weights_dir: folder of weight files.
        device: where metric networks run.
        landmarks: how landmarks of generated videos are found: as in preprocessing, or the numbers do not compare.
        provider: a landmark detector to use instead.
        pool: clips that may lend reference frames, usually those of the training split, and audio to a lone clip.
        trained_speakers: people in the training clips; empty where they are not known.
        identity: what the report says about itself: `model`, `dataset`, `checkpoint`, ...
        synthetic: whether the data are synthetic; None where that is not known.
        context: what surrounds the evaluation, for metrics that ask.
        progress: whether progress bars are shown.
        preset: effort of x264 for the videos written here.
        video_cache_mb: memory for decoded videos; what fits is decoded once for all rows and metrics.
    """

    metrics: Sequence[str | Metric] = ()
    settings: EvaluationConfig = EvaluationConfig()
    weights_dir: str | Path = "checkpoints"
    device: str = "cpu"
    landmarks: LandmarkConfig = LandmarkConfig()
    provider: LandmarkProvider | None = None
    pool: Sequence[ClipFolder] = ()
    trained_speakers: frozenset[str] = frozenset()
    identity: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool | None = None
    context: MetricContext = MetricContext()
    progress: bool = True
    preset: str = "medium"
    video_cache_mb: int = 512

    @classmethod
    def from_config(cls, config: Config, pipeline: Any, pool: Sequence[ClipFolder] = ()) -> EvaluationSetup:
        """As the configuration describes it.

        Args:
            config: the resolved configuration.
            pipeline: what generates; metrics run on its model's device, and its `checkpoint`, where it has one, is
                named in the report, with a hash of the weights.
            pool: see above.
        """
        checkpoint = getattr(pipeline, "checkpoint", None)
        identity = {"model": config.model_name, "dataset": config.dataset}
        identity |= {"checkpoint": str(checkpoint)} if checkpoint else {}
        if checkpoint and hasattr(pipeline.model, "needed_to_speak"):
            identity |= {"weights": hash_in_use(pipeline.model)}  # the file may hold others later
        precision = getattr(pipeline.model, "inference_precision", None)
        identity |= {"inference_precision": precision} if precision else {}
        front_end = spoken(pipeline.model) if hasattr(pipeline.model, "hears") else ""
        identity |= {"front_end": front_end} if front_end else {}
        licence = getattr(pipeline.model, "licence", "")
        identity |= {"licence": licence} if licence else {}
        return cls(
            metrics=config.metrics,
            settings=config.evaluation,
            weights_dir=config.weights_dir,
            device=str(getattr(pipeline.model, "device", "cpu")),
            landmarks=config.preprocess.landmarks,
            pool=pool,
            trained_speakers=_trained_speakers(config, pool),
            identity=identity,
            synthetic=is_synthetic(Path(config.data_root)) if config.data_root else None,
            context=MetricContext(config.saved_dir, config.dataset, pipeline.model, checkpoint),
            progress=config.show_progress,
            preset=config.output.preset,
            video_cache_mb=config.video_cache_mb,
        )

    def build_metrics(self) -> list[Metric]:
        """The metrics, each once.

        Raises:
            RegistryError: a metric is not known.
        """
        return [
            metric
            if isinstance(metric, Metric)
            else make_metric(metric, self.settings, self.weights_dir, self.device, self.context)
            for metric in dict.fromkeys(self.metrics)
        ]

    def build_tracker(self) -> Tracker:
        """What finds landmarks in generated videos."""
        return Tracker(self.landmarks, self.provider, Place(str(self.weights_dir), self.device))


def _trained_speakers(config: Config, pool: Sequence[ClipFolder]) -> frozenset[str]:
    """Who speaks in those of the clips that are in the training split."""
    try:
        return frozenset(clip.speaker for clip in of_split(config, "train", pool) if clip.speaker)
    except DataError:
        return frozenset()


def is_synthetic(data_root: Path) -> bool | None:
    """What the corpus' manifest says, None without one."""
    try:
        manifest = read_json(data_root / "manifest.json")
    except DataError:
        return None
    return bool(manifest.get("synthetic")) if isinstance(manifest, dict) else None
