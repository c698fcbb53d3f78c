"""The steps that make sound, spectrogram, landmarks and face crops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talkingface import media
from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder, default_file
from talkingface.config.sections import Config, PreprocessConfig
from talkingface.errors import DataError, MediaError
from talkingface.faces.crop import CropConfig, crop_face, face_boxes
from talkingface.faces.detectors import DEFAULT_PLACE, Place, make_provider
from talkingface.faces.landmark_file import MisfitError, read_landmarks
from talkingface.faces.track import MAX_FACES, RIVALS_SHARE, LandmarkTrack
from talkingface.faces.zoom import Again, find_track
from talkingface.preprocess.step import Rejected, Step, process_resource, register_step
from talkingface.sound.mel import MelConfig, melspectrogram
from talkingface.sound.shift import move_sound

if TYPE_CHECKING:
    from talkingface.preprocess.step import ClipContext

SILENCE = 1e-4  # largest sample of a sound track that counts as silent, full scale 1


@register_step("audio")
class AudioStep(Step):
    """The sound track as mono PCM16 wave file at 16 kHz.

    With the filter `sync` on, `audio@raw` is the sound as it came, and `audio` that sound moved by the offset measured.
    """

    @classmethod
    def needs_of(cls, artefact: str, settings: PreprocessConfig) -> tuple[str, ...]:
        """The sound as it came and what filter `sync` measured of it, where that is on."""
        moved = artefact == "audio" and settings.filters.sync.expert != "none"
        return ("audio@raw", "sync") if moved else ()

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Every parameter with its default."""
        return {"min_seconds": settings.min_seconds}

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write `audio.wav`; clips without sound are rejected."""
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
        clip = ctx.clip
        facts = clip.facts("sync")
        ctx.facts["moved_frames"] = offset = facts["offset"]
        # A wave file holds x * 32767 but is read as n / 32768: without the factor loud samples would change by one.
        return move_sound(clip.audio("audio@raw").astype(np.float64) * (32768 / 32767), offset, facts["fps"])


@register_step("mel")
class MelStep(Step):
    """Log-mel spectrogram of the sound track."""

    needs = ("audio",)

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """Fields of `MelConfig`."""
        return dataclasses.asdict(MelConfig())

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write `mel.npy`, (80, L) float32."""
        name = default_file(self.artefact)
        # From the stored file, not from memory: a rerun must give the same numbers.
        mel = melspectrogram(ctx.clip.audio(), MelConfig(**self.params))
        np.save(ctx.scratch / name, mel.astype(np.float32))
        return [name]


@register_step("landmarks")
class LandmarksStep(Step):
    """Landmarks of the speaker in every frame, shared by all models: detected, or from a file beside the video."""

    reads_video = True
    takes_landmark_file = True
    version = 2

    def __init__(self, artefact: str, overrides: Mapping[str, Any], settings: PreprocessConfig):
        super().__init__(artefact, overrides, settings)
        self.place = DEFAULT_PLACE

    @classmethod
    def defaults(cls, settings: PreprocessConfig) -> dict[str, Any]:
        """`preprocess.landmarks`, and the limits that reject a clip."""
        return {
            **settings.landmarks.as_recorded(),
            "max_missing": settings.max_missing,
            "min_seconds": settings.min_seconds,
        }

    def former(self) -> list[tuple[int, dict[str, Any]]]:
        """Version 1 bridged gaps without looking at the picture, and picked the largest face of each frame."""
        pick = self.params["pick"]
        return [(1, {**self.params, "pick": name}) for name in {pick, "largest" if pick == "tracked" else pick}]

    def still_right(self, clip: ClipFolder) -> bool:
        """Whether nothing was bridged, and there was nobody else to pick."""
        try:
            track = clip.track()
        except DataError:
            return False
        alone = track.faces_seen is not None and int(track.faces_seen.max(initial=0)) <= 1
        same_pick = clip.record("landmarks").get("params", {}).get("pick") == self.params["pick"] != "tracked"
        return bool((track.valid == track.found).all()) and (alone or same_pick or track.provider == "file")

    def bind(self, config: Config) -> None:
        """Take where the detector's weights lie and where it runs; neither changes anything about the landmarks."""
        self.place = Place(config.weights_dir, config.device)

    def setup(self) -> None:
        """Build the detector, or say what is missing for it."""
        process_resource(("provider works", *map(str, self.params.values())), self.provider)

    def run(self, ctx: ClipContext) -> Iterable[str]:
        """Write `landmarks.npz`; clips with too few faces are rejected."""
        track = self._read(ctx, ctx.item.landmarks) if ctx.item.landmarks else self._detect(ctx)
        least, most = self.params["min_seconds"], self.params["max_missing"]
        if len(track) < least * ctx.fps:
            raise Rejected(f"{len(track)} frames are shorter than {least:g} s", round(len(track) / ctx.fps, 3), least)
        missing = 1.0 - float(track.found.mean())
        if missing > most:
            raise Rejected(f"no face in {missing:.0%} of the frames (more than {most:.0%})", round(missing, 4), most)
        name = default_file(self.artefact)
        track.save(ctx.scratch / name)
        if track.rivals is not None and track.rivals.share >= RIVALS_SHARE:
            ctx.facts["two_faces"] = round(track.rivals.share, 3)
        return [name]

    def provider(self) -> Any:
        """The detector: one per process, or a fresh one where it remembers the last frame."""
        return self._provider(self.params["mode"])

    def _provider(self, mode: str) -> Any:
        p = self.params
        side = p.get("detect_side")
        arguments = (p["provider"], mode, p["min_detection"], MAX_FACES, p["model_path"], self.place, side)
        if mode == "tracking":
            return make_provider(*arguments)
        return process_resource(("landmarks", *arguments), lambda: make_provider(*arguments))

    def _detect(self, ctx: ClipContext) -> LandmarkTrack:
        frames, look_closer = Again(ctx.frames), lambda: self._provider("static")
        return find_track(frames, self.provider(), look_closer, self.params["pick"], self.params["max_gap"])

    def _read(self, ctx: ClipContext, file: Path) -> LandmarkTrack:
        """Landmarks that were brought along; how many frames they must have is known once these are decoded."""
        sizes = [frame.shape[:2] for frame in ctx.frames()]
        ctx.facts["file"] = file.name
        try:
            return read_landmarks(file, len(sizes), sizes[0], self.params["max_gap"], ctx.fps, ctx.frames())
        except MisfitError as error:
            raise Rejected(str(error), error.measured, error.limit) from None


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
        add_crops(writer, ctx, track.valid, lambda frame, k: crop_face(frame, boxes[k], crop.size))
        return writer.close(boxes, {**crop.model_dump(), "frame_hw": list(track.size)}, track.found)


def add_crops(
    writer: FaceWriter, ctx: ClipContext, valid: np.ndarray, cut: Callable[[np.ndarray, int], np.ndarray]
) -> None:
    """Write a crop of every frame of a clip.

    Args:
        writer: takes them.
        ctx: of the clip.
        valid: (F,) bool, frames with a face.
        cut: picture (H, W, 3) uint8 RGB and number of a frame -> its crop.

    Raises:
        MediaError: there are more or fewer frames.
    """
    count = 0
    for count, frame in enumerate(ctx.frames(), start=1):
        if count <= len(valid):
            writer.add(cut(frame, count - 1) if valid[count - 1] else None)
    if count != len(valid):
        raise MediaError(f"{ctx.item.video}: {count} frames, but landmarks of {len(valid)}; preprocess with force")
