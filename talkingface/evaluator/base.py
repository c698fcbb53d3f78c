"""What every metric shares: the clip it scores (`EvalSample`), the `Metric` base class, and metrics by name.

A metric is one class in one file: it names its figures with unit and direction in `figures`, scores one clip in
`score`, and is listed in `talkingface.evaluator.METRICS` (a plug-in uses `@register_metric`).
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from talkingface.config import EvaluationConfig
from talkingface.errors import DataError, RegistryError, TalkingFaceError
from talkingface.evaluator import METRICS, MetricEntry
from talkingface.evaluator.bootstrap import mean_interval
from talkingface.registry import unknown

if TYPE_CHECKING:
    from talkingface.data.landmarks import LandmarkTrack

FPS = 25.0
"""Rate at which a video is scored unless its clip was prepared at another one; resampled by timestamps."""

KEEP_BYTES = 128 * 2**20
"""A video whose frames fit in this is decoded once for all metrics; a longer one is decoded again by each."""

AudioSource = Path | Callable[[], np.ndarray]


class Unavailable(TalkingFaceError):
    """A metric cannot be computed here, for the reason given; reports show `n/a`, never a number."""


class Figure(NamedTuple):
    """One number of a metric: its unit, which way is better (None: neither), and what it says."""

    unit: str
    higher_is_better: bool | None
    about: str


@dataclass
class EvalSample:
    """One video to score, lazily decoded; landmarks and sound are computed once and shared by all metrics.

    Attributes:
        clip_id: the clip.
        row: `generated`, `real`, `still` or `shuffled`.
        generated: the video that is scored.
        reference: the real video of the clip.
        audio: what drove the picture: a file, or a function that returns (n,) float32 16 kHz; None: the video's own.
        tracker: finds the landmarks of a video, from its path (for messages) and frames.
        reference_track: returns the landmarks of the real video; None: `tracker` finds them.
        donor_track: for audio of another clip, returns the landmarks of that clip's real video.
        counterpart: for audio of another clip, the video that the same system made with the clip's own audio.
        fps: rate at which both videos are read.
        curves: what a metric leaves for the report's plots, by name: the value at every offset from -n to n frames.
    """

    clip_id: str
    row: str
    generated: Path
    reference: Path
    audio: AudioSource | None = None
    tracker: Callable[[Path, Iterable[np.ndarray]], LandmarkTrack] | None = None
    reference_track: Callable[[], LandmarkTrack] | None = None
    donor_track: Callable[[], LandmarkTrack] | None = None
    counterpart: Path | None = None
    fps: float = FPS
    lengths: tuple[int, int] | None = field(default=None, init=False)
    frames: dict[str, int] = field(default_factory=dict, init=False)
    excluded: dict[str, int] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    curves: dict[str, list[float]] = field(default_factory=dict, init=False)
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _frames: dict[tuple[Path, float], list[np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames (generated, real), each (H, W, 3) uint8 RGB, up to the end of the shorter video.

        The videos are decoded to their ends, so that a difference in length is known afterwards (`lengths`). The column
        or row that encoders add to odd sizes is cut off. A video compared with itself gives one frame twice.

        Raises:
            DataError: the two videos differ in size otherwise.
        """
        if self.generated == self.reference:
            count = 0
            for count, frame in enumerate(self.generated_frames(), start=1):  # noqa: B007
                yield frame, frame
            self.lengths = (count, count)
            return
        counts = [0, 0]
        for pair in zip_longest(self.generated_frames(), self._read(self.reference)):
            counts = [count + (frame is not None) for count, frame in zip(counts, pair, strict=True)]
            if pair[0] is not None and pair[1] is not None:
                yield self._same_size(*pair)
        self.lengths = (counts[0], counts[1])

    def generated_frames(self, fps: float | None = None) -> Iterator[np.ndarray]:
        """Frames of the scored video, (H, W, 3) uint8 RGB; at another rate for a metric that is bound to one."""
        return self._read(self.generated, fps)

    def generated_track(self) -> LandmarkTrack:
        """Landmarks of the scored video.

        Raises:
            TalkingFaceError: no face in it, or landmarks cannot be found here; the same again at every call.
        """
        return self._once("generated", self._find_generated)

    def real_track(self) -> LandmarkTrack:
        """Landmarks of the real video."""
        return self._once("reference", self.reference_track or (lambda: self._track(self.reference)))

    def counterpart_track(self) -> LandmarkTrack:
        """Landmarks of `counterpart`."""
        assert self.counterpart is not None
        path = self.counterpart
        return self._once("counterpart", lambda: self._track(path))

    def counterpart_frames(self) -> Iterator[np.ndarray]:
        """Frames of `counterpart`, (H, W, 3) uint8 RGB."""
        assert self.counterpart is not None
        return self._read(self.counterpart)

    def other_track(self) -> LandmarkTrack | None:
        """Landmarks of the real video that belongs to the driving audio, where that is another clip's."""
        return None if self.donor_track is None else self._once("donor", self.donor_track)

    def driving_audio(self) -> np.ndarray:
        """(n,) mono 16 kHz: the sound that the picture should follow."""
        return self._once("audio", lambda: self._load(self.audio or self.generated))

    def boxes(self, region: str) -> np.ndarray:
        """(F, 4) boxes of `face` or `mouth` in the real video; see `regions.region_boxes`."""
        from talkingface.evaluator.regions import region_boxes

        return self._once(f"boxes {region}", lambda: region_boxes(self.real_track(), region))

    def cuts(self, region: str) -> np.ndarray | None:
        """Boxes of a region, None for the whole `frame`; none at all, with a note, where landmarks are missing."""

        def find() -> np.ndarray:
            try:
                return self.boxes(region)
            except TalkingFaceError as error:
                self.notes.append(f"no {region} region: {error}")
                return np.empty((0, 4))

        return None if region == "frame" else self._once(f"cuts {region}", find)

    def count(self, figure: str, frames: int, excluded: int = 0) -> None:
        """Note how many frames (or windows) a figure is the mean of, and how many were left out."""
        self.frames[figure] = frames
        self.excluded[figure] = excluded

    def _same_size(self, generated: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = (side + side % 2 for side in real.shape[:2])
        if generated.shape[:2] == (height, width):
            generated = generated[: real.shape[0], : real.shape[1]]
        if generated.shape != real.shape:
            sizes = [f"{frame.shape[1]}x{frame.shape[0]}" for frame in (generated, real)]
            raise DataError(f"{self.generated}: {sizes[0]} frames, but the real video {self.reference} has {sizes[1]}")
        return generated, real

    def _find_generated(self) -> LandmarkTrack:
        return self.real_track() if self.generated == self.reference else self._track(self.generated)

    def _track(self, path: Path) -> LandmarkTrack:
        if self.tracker is None:
            raise Unavailable("no landmark provider")
        return self.tracker(path, self._read(path))

    def _read(self, path: Path, fps: float | None = None) -> Iterator[np.ndarray]:
        from talkingface.data.media import VideoReader

        key = (path, fps or self.fps)
        if key in self._frames:
            yield from self._frames[key]
            return
        kept: list[np.ndarray] | None = []
        for frame in VideoReader(path, fps=key[1]):
            frame.flags.writeable = False
            if kept is not None:
                kept.append(frame)
                kept = kept if len(kept) * frame.nbytes <= KEEP_BYTES else None
            yield frame
        if kept is not None:
            self._frames[key] = kept

    @staticmethod
    def _load(source: AudioSource) -> np.ndarray:
        if callable(source):
            return source()
        from talkingface.data.media import read_audio

        return read_audio(source)

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        """`make()`, once per sample; a failure is remembered too: finding no face takes as long as finding one."""
        if key not in self._cache:
            try:
                self._cache[key] = make()
            except TalkingFaceError as error:
                self._cache[key] = error
        value = self._cache[key]
        if isinstance(value, TalkingFaceError):
            raise value
        return value


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
        per_frame: whether the figures are means over frames, so that a mean over all frames of all clips exists too.
        context: what surrounds the evaluation.
    """

    name: ClassVar[str]
    figures: ClassVar[dict[str, Figure]]
    needs_landmarks: ClassVar[bool] = False
    uses_landmarks: ClassVar[bool] = False
    needs_rows: ClassVar[tuple[str, ...]] = ()
    needs_sound: ClassVar[bool] = False
    per_frame: ClassVar[bool] = False
    context: MetricContext = MetricContext()

    def __init__(
        self, settings: EvaluationConfig | None = None, weights_dir: str | Path = "checkpoints", device: str = "cpu"
    ) -> None:
        self.settings = settings or EvaluationConfig()
        self.weights_dir = Path(weights_dir)
        self.device = device
        self._clips: list[tuple[dict[str, float], dict[str, int]]] = []

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
        return values

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
        self._clips = []

    def _finite(self, key: str) -> list[tuple[float, int]]:
        return [(v[key], n.get(key, 0)) for v, n in self._clips if key in v and math.isfinite(v[key])]


def register_metric(name: str) -> Callable[[type[Metric]], type[Metric]]:
    """Class decorator for plug-ins: make a metric known under `name`; its one line is the docstring's first."""

    def decorate(cls: type[Metric]) -> type[Metric]:
        taken = METRICS.get(name.upper())
        if taken is not None and (taken.module, taken.class_name) != (cls.__module__, cls.__qualname__):
            raise RegistryError(f"metric name '{name}' is already taken by {taken.module}")
        line = (cls.__doc__ or "").strip().split("\n")[0]
        METRICS[name.upper()] = MetricEntry(cls.__module__, cls.__qualname__, line)
        _CLASSES[name.upper()] = cls
        return cls

    return decorate


_CLASSES: dict[str, type[Metric]] = {}


def metric_class(name: str) -> type[Metric]:
    """The class of a metric, from its name in any case.

    Raises:
        RegistryError: unknown name; the message lists the names and the closest.
    """
    entry = METRICS.get(str(name).upper())
    if entry is None:
        raise RegistryError(unknown("metric", str(name), METRICS))
    return _CLASSES.get(str(name).upper()) or getattr(importlib.import_module(entry.module), entry.class_name)


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
