"""Training data of DINet and LawDNet: faces whose mouth is to be drawn, five references each, and what is heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from talkingface.clips.dataset import ClipDataset, DatasetOptions
from talkingface.clips.face_store import FaceStore
from talkingface.clips.folder import ClipFolder
from talkingface.lipsync.dubbing.config import DubbingCropConfig, DubbingDataConfig
from talkingface.lipsync.dubbing.sampling import Anywhere, Blocks, Lending, Rule, Sampling, opening_of
from talkingface.lipsync.dubbing.sound import BESIDE, FPS, Heard, heard_in, sounding_frames
from talkingface.networks.dubbing.discriminator import FRAMES
from talkingface.networks.dubbing.geometry import STEP, MouthCrop
from talkingface.sound.choice import FrontEndConfig


class DubbingOptions(DatasetOptions):
    """Options of the data.

    Attributes:
        mouth: side of the mouth in pixels; the crops that it is in are read as small as that asks for.
        distance: frames between a frame and its references, at least (`anywhere`).
        sampling: `anywhere`, or by blocks of 9 frames as `published`; see `sampling`.
        references: `random`, or `spread` from the most closed to the most open mouth (`anywhere`): each of the five
            inputs then always shows the same kind of mouth, as with `inference.references: spread`.
    """

    mouth: int = Field(64, ge=STEP, multiple_of=STEP)
    distance: int = Field(9, ge=1)
    sampling: Rule = "anywhere"
    references: Lending = "random"

    @model_validator(mode="after")
    def _spread_goes_anywhere(self) -> DubbingOptions:
        if self.references == "spread" and self.sampling == "published":
            raise ValueError("references: spread goes with sampling: anywhere")
        return self


class _Clip(NamedTuple):
    """What the items of a clip are cut from; `heard` is that of each front end."""

    faces: FaceStore
    heard: tuple[Heard, ...]
    sampling: Sampling


class Shown(NamedTuple):
    """Some frames of a clip as a generator is shown them.

    Attributes:
        faces: (n, H, W, 3) uint8 RGB.
        references: (n, 5, H, W, 3) uint8 RGB.
        audio: (n, width, 5) float32.
    """

    faces: np.ndarray
    references: np.ndarray
    audio: np.ndarray


class DubbingFrames(ClipDataset):
    """Single frames, T = 1.

    Item: `faces` (T, H, W, 3) and `references` (T, 5, H, W, 3) uint8 RGB, `audio` (T, width, 5) float32, the rows
    around each frame.
    """

    Options = DubbingOptions
    options: DubbingOptions
    model_config: DubbingDataConfig
    shown: ClassVar[int] = 1
    asks_expert: ClassVar[bool] = False

    @property
    def fronts(self) -> tuple[FrontEndConfig, ...]:
        """The front ends whose rows the items hold."""
        audio = self.model_config.audio
        return (audio.generator_features, audio.sync) if self.asks_expert else (audio.generator_features,)

    def usable(self, clip: ClipFolder) -> str | None:
        """Why a clip cannot serve, or None."""
        crop = self.model_config.crop
        if reason := super().usable(clip) or lacking(clip, crop, self.fronts):
            return reason
        if self.options.references == "spread" and not clip.has("landmarks"):
            return "has no landmarks, which data.references=spread needs; run preprocess"
        source = self._read(clip)
        if reason := crop.differs_from(source.faces.meta):
            return reason
        if not len(source.sampling.starts):
            window = "frame" if self.shown == 1 else f"{self.shown} consecutive frames"
            return f"no {window} with a face, sound and five references elsewhere in the clip"
        return None

    def sample(self, clip: ClipFolder, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One item from a clip."""
        source = self._source(clip)
        start = int(rng.choice(source.sampling.starts))
        frames = start + np.arange(self.shown)
        item = self._shown(clip, frames, np.full(self.shown, start), rng)._asdict()
        if self.asks_expert:
            # All that the generator hears for these frames.
            item["heard"] = source.heard[-1].at(np.arange(start - BESIDE, start + self.shown + BESIDE)).T
        return {name: np.ascontiguousarray(values) for name, values in item.items()}

    def some(self, clip: ClipFolder, count: int) -> Shown:
        """At most `count` frames, evenly spread over those that can be drawn; always the same ones, with references."""
        starts = self._source(clip).sampling.starts
        chosen = starts[np.unique(np.linspace(0, len(starts) - 1, count).round().astype(int))]
        return self._shown(clip, chosen, chosen, np.random.default_rng(0))

    def _shown(self, clip: ClipFolder, frames: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> Shown:
        """Frames (n,) of the windows that begin at starts (n,)."""
        source = self._source(clip)
        pairs = zip(starts.tolist(), frames.tolist())
        lent = np.stack([source.sampling.references(start, frame, rng) for start, frame in pairs])
        pictures = read_crops(self, clip, source.faces, np.concatenate([frames[:, None], lent], axis=1))
        return Shown(pictures[:, 0], pictures[:, 1:], source.heard[0].around(frames))

    def _source(self, clip: ClipFolder) -> _Clip:
        return self.cached(clip, "source", lambda: self._read(clip))

    def _read(self, clip: ClipFolder) -> _Clip:
        faces, sounding = clip.faces(self.model_config.crop.artefact), sounding_frames(clip, self.fronts)
        heard = tuple(heard_in(clip, front) for front in self.fronts)
        options = self.options
        if options.sampling == "published":
            return _Clip(faces, heard, Blocks(faces.valid, sounding, self.shown))
        openings = opening_of(clip.track()) if options.references == "spread" else None
        return _Clip(faces, heard, Anywhere(faces.valid, faces.found, sounding, self.shown, options.distance, openings))


class DubbingClips(DubbingFrames):
    """Five consecutive frames, T = 5, each with references of its own.

    Item: as `DubbingFrames`, and `heard` (width, 9) float32, the rows of the expert's front end around all of them.
    """

    shown = FRAMES
    asks_expert = True


def read_crops(dataset: ClipDataset, clip: ClipFolder, faces: FaceStore, frames: np.ndarray) -> np.ndarray:
    """Crops (..., H, W, 3) of frames (...) at the size of `data.mouth`.

    Where those of all clips fit into `cache_mb` a clip is decoded once; else every item decodes what it shows.
    """
    crop = MouthCrop(dataset.options.mouth)
    if dataset.keeps(crop.height * crop.width):
        return _kept(dataset, clip, faces, crop)[frames]
    needed, place = np.unique(frames, return_inverse=True)
    return faces.read(needed, size=(crop.height, crop.width))[place.reshape(frames.shape)]


def each_crop(dataset: ClipDataset, clip: ClipFolder, faces: FaceStore) -> Iterable[np.ndarray]:
    """Crops (H, W, 3) of all frames at the size of `data.mouth`, black where there is no face.

    Where those of all clips do not fit into `cache_mb`, no more than one is held.
    """
    crop = MouthCrop(dataset.options.mouth)
    if dataset.keeps(crop.height * crop.width):
        return _kept(dataset, clip, faces, crop)
    return faces.each((crop.height, crop.width))


def _kept(dataset: ClipDataset, clip: ClipFolder, faces: FaceStore, crop: MouthCrop) -> np.ndarray:
    """Crops (F, H, W, 3) of a whole clip, black where there is no face, for whoever asks next."""

    def whole() -> np.ndarray:
        held = np.zeros((len(faces), crop.height, crop.width, 3), np.uint8)
        valid = np.flatnonzero(faces.valid)
        held[valid] = faces.read(valid, size=(crop.height, crop.width))
        return held

    return dataset.cached(clip, f"crops of {crop.mouth}", whole)


def lacking(clip: ClipFolder, crop: DubbingCropConfig, fronts: Sequence[FrontEndConfig]) -> str | None:
    """Why a clip cannot be read as it should, or None: its rate, crops or rows, or who made these."""
    if clip.fps != FPS:
        return f"has {clip.fps:g} frames per second, where {FPS} are needed"
    for artefact in (crop.artefact, *(front.artefact for front in fronts)):
        if not clip.has(artefact):
            return f"has no {artefact}; run preprocess"
    reasons = (front.made_by_others(clip.record(front.artefact)) for front in fronts)
    return next(filter(None, reasons), None)
