"""Steps of preprocessing: what each artefact of a clip needs, and how it is made.

A step makes one artefact. It declares what it needs and the parameters that matter; the runner (`prepare.py`) makes
what is missing or outdated, moves finished files into place and writes `clip.json`. A model's own step derives from
`Step` and is registered under the artefact's name with `@register_step`; it may own a network (see `process_resource`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from talkingface import media
from talkingface.clips.folder import ClipFolder
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import Config, PreprocessConfig
from talkingface.errors import ConfigError, MediaError

T = TypeVar("T")

# Decoded frames of a clip kept for its next step. A clip that does not fit is decoded once for landmarks and once for
# faces: they cannot share one pass, for a gap in the landmarks is bridged, and a fixed box chosen, from later frames.
CACHE_BYTES = 768 * 2**20  # of one process
TOTAL_CACHE_BYTES = 3 * 2**30  # of all processes together


class Rejected(Exception):
    """A clip that is readable but not usable.

    Args:
        reason: one line, without the clip's name.
        measured: the value that decided, for the rejection report.
        limit: what it was held against.
    """

    def __init__(self, reason: str, measured: Any = None, limit: Any = None):
        super().__init__(reason)
        self.measured, self.limit = measured, limit


class ClipContext:
    """What a step sees of the clip at work: decoded media, earlier artefacts, and a folder for its files.

    Attributes:
        item: the clip's source files.
        folder: where its artefacts lie.
        scratch: empty folder for the step's output; the runner moves the files into place.
        settings: `preprocess:` of the configuration.
        fps: frame rate of all artefacts.
        cache_bytes: decoded frames that may be kept for the next step.
        count: number of frames, known once they were decoded.
        decode_seconds: time spent on decoding so far.
        facts: what the step at work wants noted with its record in `clip.json`, plain JSON values.
    """

    def __init__(
        self,
        item: ClipItem,
        folder: Path,
        scratch: Path,
        settings: PreprocessConfig,
        fps: float,
        video: bool,
        cache_bytes: int = CACHE_BYTES,
    ):
        self.item, self.folder, self.scratch, self.settings, self.fps = item, folder, scratch, settings, fps
        self.cache_bytes = cache_bytes
        self.count: int | None = None
        self.decode_seconds = 0.0
        self.facts: dict[str, Any] = {}
        self._video_wanted = video
        self._frames: list[np.ndarray] | None = None
        self._audio: np.ndarray | None = None
        self._info: Any = None

    @property
    def info(self) -> Any:
        """`MediaInfo` of the source video."""
        if self._info is None:
            self._info = media.probe(self.item.video)
            if not self._info.has_video or self._info.is_image:
                what = "is a still image" if self._info.is_image else "has sound but no picture"
                raise MediaError(f"{self.item.video}: {what}; a clip needs a video")
        return self._info

    @property
    def clip(self) -> ClipFolder:
        """The artefacts made so far."""
        return ClipFolder(self.folder, self.item.video, self.item.clip_id)

    @property
    def cacheable(self) -> bool:
        """Whether the decoded frames are small enough to keep."""
        info = self.info
        return 3.0 * info.width * info.height * info.duration * self.fps <= self.cache_bytes

    def frames(self) -> Iterator[np.ndarray]:
        """All frames at `fps`, (H, W, 3) uint8 RGB; the sound track comes out of the same pass."""
        if self._frames is not None:
            yield from self._frames
            return
        with_audio = self._audio is None and self.item.audio is None and self.info.has_audio
        reader = media.VideoReader(self.item.video, fps=self.fps, with_audio=with_audio)
        kept: list[np.ndarray] | None = [] if self.cacheable else None
        count, decoded = 0, iter(reader)
        while True:
            started = time.perf_counter()
            frame = next(decoded, None)
            self.decode_seconds += time.perf_counter() - started
            if frame is None:
                break
            count += 1
            if kept is not None:
                kept.append(frame)
            yield frame
        self.count, self._frames = count, kept
        if with_audio:
            self._audio = reader.audio

    def audio(self) -> np.ndarray:
        """(n,) float32 mono in [-1, 1] at 16 kHz."""
        if self._audio is not None:
            return self._audio
        if self.item.audio is not None:
            self._audio = media.read_audio(self.item.audio)
        elif not self.info.has_audio:
            raise Rejected("no sound track")
        elif self._video_wanted and self.cacheable:
            for _ in self.frames():
                pass
        if self._audio is None:
            self._audio = media.read_audio(self.item.video)
        return self._audio


class StepFacts(BaseModel):
    """Base of what a step notes about a clip (`Step.Facts`): plain JSON values of exactly these types."""

    model_config = ConfigDict(strict=True, extra="allow")


class Step(ABC):
    """Base of every step.

    Args:
        artefact: name of what it makes; `kind` or `kind@variant`.
        overrides: parameters that differ from `defaults(settings)`.
        settings: `preprocess:` of the configuration.

    Attributes:
        Facts: what `run` puts into `ctx.facts`, as a pydantic class; where what is stored is of another form, the
            artefact is made again. None: not checked.
        needs: artefacts that must be there first; a step whose needs depend on the settings overrides `needs_of`.
        reads_video: whether `run` reads the frames.
        takes_landmark_file: whether it reads a landmark file beside the video (`item.landmarks`) where there is one,
            instead of detecting anything; it is then not set up.
        runs_network: whether `run` passes frames or sound through a trained network. On a GPU such a step then runs in
            the main process, clip after clip, instead of once per worker. `bind` puts the hash of the weights into
            `params["weights"]`, so that what other weights made counts as outdated.
        on_cpu: whether that network computes on the CPU even where there is a GPU; its step stays with the workers.
        version: to be raised when the same parameters give another result; clips are then made again.
        params: what the result depends on; recorded, and compared on the next run.
        limits: what `judge` holds the result against; changing them makes nothing again.
        for_filters: made because a filter is on, not for the model; clips converted from older code do without it.
    """

    kind: ClassVar[str] = ""
    Facts: ClassVar[type[BaseModel] | None] = None
    needs: tuple[str, ...] = ()
    reads_video: ClassVar[bool] = False
    takes_landmark_file: ClassVar[bool] = False
    runs_network: ClassVar[bool] = False
    on_cpu: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        defaults = self.defaults(settings)
        # Refused here, where the model is named: as a parameter nobody reads it would only make clips anew.
        unknown = sorted(set(overrides) - set(defaults))
        if unknown:
            known = ", ".join(defaults)
            raise ConfigError(f"preprocessing step '{artefact}' has no parameter {', '.join(unknown)}; it has: {known}")
        self.artefact = artefact
        self.needs = self.needs_of(artefact, settings)
        self.params: dict[str, Any] = {**defaults, **overrides}
        self.limits: dict[str, Any] = {}
        self.for_filters = False

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Every parameter with its default."""
        return {}

    @classmethod
    def needs_of(cls, artefact: str, settings: PreprocessConfig) -> tuple[str, ...]:
        """What must be there before `artefact` is made; the class's `needs` unless the settings have a say."""
        return cls.needs

    def bind(self, config: Config) -> None:  # noqa: B027, a hook that may stay empty
        """Take what else is needed of the resolved configuration, say a folder of weights, before anything is compared.

        What changes the result goes into `params`, say a hash of weights; the rest is no parameter.
        """

    def former(self) -> list[tuple[int, dict[str, Any]]]:
        """Earlier versions and parameters that may have given the same result for a clip; see `still_right`."""
        return []

    def still_right(self, clip: ClipFolder) -> bool:
        """Whether what a `former` version made of this clip is what this one would make. Asked once per clip."""
        return False

    def setup(self) -> None:  # noqa: B027, the same
        """Build what is shared by all clips (detector, network). An error here ends the whole run."""

    @abstractmethod
    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Make the artefact of one clip.

        Returns:
            Names of the files written to `ctx.scratch`, the main one first.

        Raises:
            Rejected: the clip is not usable.
        """

    def knows(self, facts: Mapping[str, Any]) -> bool:
        """Whether stored facts are what this step notes; somebody may have changed the file."""
        try:
            return self.Facts is None or bool(self.Facts.model_validate(facts))
        except ValidationError:
            return False

    def judge(self, facts: Mapping[str, Any]) -> Rejected | None:
        """Why a clip with these `facts` is turned away, or None. Asked at every start, also when nothing is made."""
        return None


STEPS: dict[str, type[Step]] = {}


def register_step(kind: str) -> Callable[[type[Step]], type[Step]]:
    """Class decorator: this step makes artefacts called `kind` or `kind@variant`."""

    def register(step: type[Step]) -> type[Step]:
        step.kind = kind
        STEPS[kind] = step
        return step

    return register


_RESOURCES: dict[Any, Any] = {}


def process_resource(key: Any, make: Callable[[], T]) -> T:
    """`make()`, built once per process: for detectors and networks that serve many clips."""
    if key not in _RESOURCES:
        _RESOURCES[key] = make()
    return _RESOURCES[key]
