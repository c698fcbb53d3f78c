"""Steps of preprocessing: what each artefact of a clip needs, and how it is made.

A step makes one artefact. It declares what it needs and the parameters that matter; the runner (`preprocess.py`) makes
what is missing or outdated, moves finished files into place and writes `clip.json`. A model's own step derives from
`Step` and is registered under the artefact's name with `@register_step`; it may own a network (see `process_resource`).
"""

from __future__ import annotations

import dataclasses
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from talkingface.config import PreprocessConfig
from talkingface.data.clip import ClipFolder, FaceWriter, default_file
from talkingface.data.face import CropConfig, crop_face, face_boxes
from talkingface.data.landmarks import MAX_FACES, make_provider, track_faces
from talkingface.data.layouts import ClipItem
from talkingface.errors import ConfigError, MediaError

log = logging.getLogger("talkingface")
T = TypeVar("T")

# Decoded frames of a clip kept for its next step. A clip that does not fit is decoded once for landmarks and once for
# faces: they cannot share one pass, for a gap in the landmarks is bridged, and a fixed box chosen, from later frames.
CACHE_BYTES = 768 * 2**20  # of one process
TOTAL_CACHE_BYTES = 3 * 2**30  # of all processes together
SILENCE = 1e-4  # largest sample of a sound track that counts as silent, full scale 1


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
        from talkingface.data import media

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
        from talkingface.data import media

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
        from talkingface.data import media

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


class Step(ABC):
    """Base of every step.

    Args:
        artefact: name of what it makes; `kind` or `kind@variant`.
        overrides: parameters that differ from `defaults(settings)`.
        settings: `preprocess:` of the configuration.

    Attributes:
        needs: artefacts that must be there first.
        reads_video: whether `run` reads the frames.
        version: to be raised when the same parameters give another result; clips are then made again.
        params: what the result depends on; recorded, and compared on the next run.
        limits: what `judge` holds the result against; changing them makes nothing again.
        for_filters: made because a filter is on, not for the model; clips converted from older code do without it.
    """

    kind: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    reads_video: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        defaults = self.defaults(settings)
        unknown = sorted(set(overrides) - set(defaults))
        if unknown:
            known = ", ".join(defaults)
            raise ConfigError(f"preprocessing step '{artefact}' has no parameter {', '.join(unknown)}; it has: {known}")
        self.artefact = artefact
        self.params: dict[str, Any] = {**defaults, **overrides}
        self.limits: dict[str, Any] = {}
        self.for_filters = False

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Every parameter with its default."""
        return {}

    def bind(self, config: Any) -> None:  # noqa: B027, a hook that may stay empty
        """Take what else is needed of the resolved configuration, say a folder of weights. It is no parameter."""

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


def plan_steps(
    artefacts: Iterable[str], overrides: Mapping[str, Mapping[str, Any]], settings: PreprocessConfig
) -> list[Step]:
    """The steps that make `artefacts` and all they need, in an order that works.

    Args:
        artefacts: names, for instance of `model.artefacts`.
        overrides: parameters by artefact name, from `model.step_settings`.
        settings: `preprocess:` of the configuration; the steps of its filters come first.

    Raises:
        ConfigError: no step makes an artefact, or a parameter is not known.
    """
    import talkingface.preprocess_sync  # noqa: F401  (registers its step)
    from talkingface.preprocess_filters import NO_FILTERS, wanted_filters

    artefacts = list(artefacts)
    filters = wanted_filters(settings.filters)
    steps = _plan([*filters, *artefacts], overrides, settings)
    if filters:
        plain = _plan(artefacts, overrides, settings.model_copy(update={"filters": NO_FILTERS}))
        for name, step in steps.items():
            step.for_filters = name not in plain
    return list(steps.values())


def _plan(
    artefacts: Iterable[str], overrides: Mapping[str, Mapping[str, Any]], settings: PreprocessConfig
) -> dict[str, Step]:
    """The steps of `artefacts` and of what they need, by artefact, each after what it needs."""
    steps: dict[str, Step] = {}

    def add(artefact: str) -> None:
        if artefact in steps:
            return
        kind = artefact.partition("@")[0]
        if kind not in STEPS:
            raise ConfigError(f"no preprocessing step makes '{kind}'; known: {', '.join(STEPS)}")
        step = STEPS[kind](artefact, overrides.get(artefact, {}), settings)
        for needed in step.needs:
            add(needed)
        steps[artefact] = step

    for artefact in artefacts:
        add(artefact)
    return steps


@register_step("audio")
class AudioStep(Step):
    """The sound track as mono PCM16 wave file at 16 kHz.

    With the filter `sync` on, `audio@raw` is the sound as it came, and `audio` that sound moved by the offset measured.
    """

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        super().__init__(artefact, overrides, settings)
        if artefact == "audio" and settings.filters.sync.expert != "none":
            self.needs = ("audio@raw", "sync")  # type: ignore[misc]  # of this step alone

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Every parameter with its default."""
        return {"min_seconds": settings.min_seconds}

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write `audio.wav`; clips without sound are rejected."""
        from talkingface.data import media

        audio = self._moved(ctx) if self.needs else ctx.audio()
        seconds, least = len(audio) / media.SAMPLE_RATE, self.params["min_seconds"]
        if not len(audio):
            raise Rejected("sound track is empty")
        if seconds < least:
            raise Rejected(f"sound track of {seconds:.2f} s is shorter than {least:g} s", round(seconds, 3), least)
        if np.abs(audio).max() < SILENCE:
            raise Rejected("sound track is silent")
        name = default_file(self.artefact)
        media.write_wav(ctx.scratch / name, audio)
        return [name]

    @staticmethod
    def _moved(ctx: ClipContext) -> np.ndarray:
        """The sound in step with the picture, of the same length."""
        from talkingface.preprocess_sync import move_sound

        clip = ctx.clip
        facts = clip.facts("sync")
        ctx.facts["moved_frames"] = offset = int(facts["offset"])
        # A wave file holds x * 32767 but is read as n / 32768: without the factor loud samples would change by one.
        return move_sound(clip.audio("audio@raw").astype(np.float64) * (32768 / 32767), offset, facts["fps"])


@register_step("mel")
class MelStep(Step):
    """Log-mel spectrogram of the sound track."""

    needs = ("audio",)

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Fields of `MelConfig`."""
        from talkingface.data.mel import MelConfig

        return dataclasses.asdict(MelConfig())

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write `mel.npy`, (80, L) float32."""
        from talkingface.data.mel import MelConfig, melspectrogram

        name = default_file(self.artefact)
        # From the stored file, not from memory: a rerun must give the same numbers.
        mel = melspectrogram(ctx.clip.audio(), MelConfig(**self.params))
        np.save(ctx.scratch / name, mel.astype(np.float32))
        return [name]


@register_step("landmarks")
class LandmarksStep(Step):
    """Landmarks of the speaker in every frame, shared by all models."""

    reads_video = True

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """`preprocess.landmarks`, and the limits that reject a clip."""
        return {
            **settings.landmarks.model_dump(),
            "max_missing": settings.max_missing,
            "min_seconds": settings.min_seconds,
        }

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        super().__init__(artefact, overrides, settings)
        # No parameters: they change nothing about the landmarks.
        self.place = (settings.landmarks.weights_dir, settings.landmarks.device)

    def provider(self) -> Any:
        """The detector: one per process, or a fresh one where it remembers the last frame."""
        p = self.params
        arguments = (p["provider"], p["mode"], p["min_detection"], MAX_FACES, p["model_path"], *self.place)
        if p["mode"] == "tracking":  # it remembers the last frame, so each clip gets a fresh one
            return make_provider(*arguments)
        return process_resource(("landmarks", *arguments), lambda: make_provider(*arguments))

    def setup(self) -> None:
        """Build the detector, or say what is missing for it."""
        process_resource(("provider works", *map(str, self.params.values())), self.provider)

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write `landmarks.npz`; clips with too few faces are rejected."""
        track = track_faces(ctx.frames(), self.provider(), self.params["pick"], self.params["max_gap"])
        least, most = self.params["min_seconds"], self.params["max_missing"]
        if len(track) < least * ctx.fps:
            raise Rejected(f"{len(track)} frames are shorter than {least:g} s", round(len(track) / ctx.fps, 3), least)
        missing = 1.0 - float(track.found.mean())
        if missing > most:
            raise Rejected(f"no face in {missing:.0%} of the frames (more than {most:.0%})", round(missing, 4), most)
        name = default_file(self.artefact)
        track.save(ctx.scratch / name)
        return [name]


@register_step("faces")
class FacesStep(Step):
    """Face crops of every frame, packed."""

    needs = ("landmarks",)
    reads_video = True

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Fields of `CropConfig`, and how the crops are stored."""
        return {**CropConfig().model_dump(), "storage": settings.storage, "jpeg_quality": settings.jpeg_quality}

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write the crops and their index."""
        crop = CropConfig(**{key: self.params[key] for key in CropConfig.model_fields})
        track = ctx.clip.track()
        boxes = face_boxes(track.points_px, track.size, crop)
        writer = FaceWriter(ctx.scratch, self.artefact, self.params["storage"], self.params["jpeg_quality"])
        count = 0
        for count, frame in enumerate(ctx.frames(), start=1):
            if count <= len(boxes):
                writer.add(crop_face(frame, boxes[count - 1], crop.size) if track.valid[count - 1] else None)
        if count != len(boxes):
            raise MediaError(f"{ctx.item.video}: {count} frames, but landmarks of {len(boxes)}; preprocess with force")
        return writer.close(boxes, {**crop.model_dump(), "frame_hw": list(track.size)})
