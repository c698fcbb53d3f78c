"""What every metric shares: the `Metric` base class. The clip that it scores is in `sample.py`.

A metric is one class in one file: it names its figures with unit and direction in `figures`, scores one clip in
`score`, and is listed in `talkingface.plugin.metrics.METRICS` (a plug-in uses `@register_metric`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from talkingface.config.sections import EvaluationConfig
from talkingface.evaluation.bootstrap import mean_interval
from talkingface.plugin.metrics import metric_class

if TYPE_CHECKING:
    from talkingface.evaluation.sample import EvalSample


class Figure(NamedTuple):
    """One number of a metric: its unit, which way is better (None: neither), and what it says."""

    unit: str
    higher_is_better: bool | None
    about: str


@dataclass(frozen=True)
class MetricContext:
    """What surrounds an evaluation, for a metric that asks.

    Attributes:
        saved_dir: folder of runs.
        dataset: name of the data set; empty where there is none.
        model: the model under evaluation; None where files are scored.
        checkpoint: the file that its weights came from; None where there is none.
    """

    saved_dir: str = "saved"
    dataset: str = ""
    model: Any = None
    checkpoint: Path | None = None


class Metric(ABC):
    """Scores clips one after the other and averages them.

    Args:
        settings: the configuration's `evaluation` section.
        weights_dir: folder of weight files.
        device: where networks run, e.g. `cpu`.

    Attributes:
        name: as in the configuration's `metrics`.
        figures: every number it reports, by key in `metrics.json`.
        needs_landmarks: whether the scored video's landmarks must be found.
        uses_landmarks: whether the figures depend on landmarks of the real video, or on others where there are any; the
            report then names the detector, as it does with `needs_landmarks`.
        needs_rows: rows that an evaluation must have; without one of them the figures cannot be had.
        needs_sound: whether it listens to the driving audio.
        pointwise: whether it compares generated and real frames point by point, which means nothing where the head of
            the generated ones goes its own way.
        may_come_from_this_run: whether what it needs may be made by the very run whose result it is to score, so that
            nobody can say beforehand that it is missing.
        per_frame: whether the figures are means over frames, so that a mean over all frames of all clips exists too.
        context: what surrounds the evaluation.
    """

    name: ClassVar[str]
    figures: ClassVar[dict[str, Figure]]
    needs_landmarks: ClassVar[bool] = False
    uses_landmarks: ClassVar[bool] = False
    needs_rows: ClassVar[tuple[str, ...]] = ()
    needs_sound: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False
    may_come_from_this_run: bool = False
    per_frame: ClassVar[bool] = False
    context: MetricContext = MetricContext()

    def __init__(
        self, settings: EvaluationConfig | None = None, weights_dir: str | Path = "checkpoints", device: str = "cpu"
    ) -> None:
        self.settings = settings or EvaluationConfig()
        self.weights_dir = Path(weights_dir)
        self.device = device
        self._clips: list[tuple[dict[str, float], dict[str, int]]] = []
        self._names: list[str] = []  # of these clips

    def prepare(self) -> None:  # noqa: B027  (most metrics have nothing to load)
        """Load what is needed, once, before any clip is generated.

        Raises:
            Unavailable: a weight file or package is missing.
        """

    def definition(self) -> dict[str, Any]:
        """What makes the numbers comparable: variant, region, protocol, hash of the weights. Goes into the report."""
        return {}

    def remarks(self) -> list[str]:
        """What a reader must know before the numbers; stands in the report's first line."""
        return []

    def definitions(self) -> dict[str, dict[str, Any]]:
        """`definition` with an entry for every figure.

        What the metric says under its own name in lower case holds for all its figures.
        """
        given = self.definition()
        shared = given.get(self.name.lower(), {})
        return given | {key: {**shared, **given.get(key, {})} for key in self.figures}

    @abstractmethod
    def score(self, sample: EvalSample) -> dict[str, float]:
        """Figures of one clip; NaN or infinity where one is undefined. Calls `sample.count` for means over frames."""

    def update(self, sample: EvalSample) -> dict[str, float]:
        """Score one clip, keep the figures for `compute`, return them."""
        values = {key: float(value) for key, value in self.score(sample).items()}
        self._clips.append((values, {key: sample.frames.get(key, 0) for key in values}))
        self._names.append(sample.clip_id)
        return values

    @classmethod
    def shareable(cls) -> bool:
        """Whether several processes may score clips each: not where a subclass sums up itself and cannot say what."""
        own = cls.compute is not Metric.compute or cls.reset is not Metric.reset
        return not own or cls.part is not Metric.part

    def part(self) -> dict[str, Any]:
        """What this process has scored since `reset`, plain data for `join`; a subclass adds what it sums up itself."""
        return {"clips": list(zip(self._names, self._clips, strict=True))}

    def join(self, parts: Sequence[Mapping[str, Any]], order: Mapping[str, int]) -> None:
        """Go on as if this process had scored what all have, clip after clip.

        Args:
            parts: what `part` has said in every process.
            order: place of every clip.
        """
        clips = sorted((clip for part in parts for clip in part["clips"]), key=lambda clip: order[clip[0]])
        self._names, self._clips = [name for name, _ in clips], [figures for _, figures in clips]

    def compute(self) -> dict[str, float]:
        """Mean over clips of every figure; one that no clip has is left out. Non-finite values do not count."""
        means = {key: [v for v, _ in self._finite(key)] for key in self.figures}
        return {key: float(np.mean(values)) for key, values in means.items() if values}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap interval of every mean that at least two clips stand behind, by figure.

        A figure of the whole set, which clips have no value of, has none.
        """
        found = {key: mean_interval([v for v, _ in self._finite(key)], self.settings.bootstrap) for key in self.figures}
        return {key: interval for key, interval in found.items() if interval is not None}

    def frame_means(self) -> dict[str, float]:
        """Mean over all frames of all clips, the other convention in papers."""
        if not self.per_frame:
            return {}
        means = {}
        for key in self.figures:
            pooled = [(value, frames) for value, frames in self._finite(key) if frames]
            if pooled:
                values, weights = zip(*pooled, strict=True)
                means[key] = float(np.average(values, weights=weights))
        return means

    def scored(self) -> dict[str, int]:
        """Number of clips behind every figure."""
        return {key: len(self._finite(key)) for key in self.figures}

    def non_finite(self) -> dict[str, int]:
        """Number of clips whose figure was undefined and is left out of the mean."""
        undefined = [key for values, _ in self._clips for key, value in values.items() if not math.isfinite(value)]
        counts = {key: undefined.count(key) for key in self.figures}
        return {key: count for key, count in counts.items() if count}

    def reset(self) -> None:
        """Forget the clips, keep the networks."""
        self._clips, self._names = [], []

    def _finite(self, key: str) -> list[tuple[float, int]]:
        return [(v[key], n.get(key, 0)) for v, n in self._clips if key in v and math.isfinite(v[key])]


def make_metric(
    name: str,
    settings: EvaluationConfig | None = None,
    weights_dir: str | Path = "checkpoints",
    device: str = "cpu",
    context: MetricContext | None = None,
) -> Metric:
    """Build a metric by name, in any case.

    Raises:
        RegistryError: unknown name; the message lists the names and the closest.
    """
    metric = metric_class(name)(settings, weights_dir, device)
    metric.context = context or metric.context
    return metric


def mean_of(values: Sequence[float]) -> tuple[float, int, int]:
    """Mean of the finite values (NaN when there are none), how many those are, and how many were left out."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    return (float(finite.mean()) if len(finite) else math.nan), len(finite), len(array) - len(finite)


def finite_only(values: Mapping[str, float]) -> dict[str, float | None]:
    """The same for JSON, which knows neither NaN nor infinity: these become null."""
    return {key: (float(value) if math.isfinite(value) else None) for key, value in values.items()}
