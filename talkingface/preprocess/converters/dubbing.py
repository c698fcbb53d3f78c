"""Data that DINet's and LawDNet's own scripts have prepared: crops in clips of nine frames, features as text or JSON.

Frames between the clips, and those of clips that the old script passed over, have no crop; they keep their numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from talkingface import media
from talkingface.clips.dubbing_tree import FEATURES
from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import default_file
from talkingface.clips.layouts import ClipItem
from talkingface.errors import DataError, MediaError
from talkingface.faces.dubbing_crop import HEIGHT_TO_WIDTH
from talkingface.faces.landmark_file import read_landmarks
from talkingface.faces.track import LandmarkTrack
from talkingface.lipsync.dubbing.config import DubbingCropConfig
from talkingface.media import FPS
from talkingface.preprocess.converters.base import (
    Converter,
    ConvertOptions,
    read_face,
    record,
    register_converter,
    store_audio,
)
from talkingface.preprocess.converters.dubbing_forest import DubbingForest
from talkingface.preprocess.converters.dubbing_video import OldVideo, held
from talkingface.preprocess.original import describe_source
from talkingface.preprocess.step import Rejected
from talkingface.preprocess.steps import SILENCE
from talkingface.sound.choice import ARTEFACT

_OFF_RATE = 0.01  # frames per second by which a video may differ from 25, as the old script should have seen
_OFF_FRAMES = 2  # by which pictures may be numbered beyond their video
_OFF_SHAPE = 0.02  # share by which a crop may be higher or lower than 1.3 times its width
_VERSION = 1


class DubbingConverter(Converter):
    """A tree, or several: with `options.further` clips are named `<folder of the tree>/<video>`, else `<video>`.

    Attributes:
        cut: settings of the crop.
        crop: the same with its width.
        forest: what there is.
    """

    main = "root"
    holds = "data of DINet or LawDNet"
    several = True
    cut: ClassVar[Mapping[str, Any]]

    def __init__(self, roots: Mapping[str, Path], options: ConvertOptions):
        super().__init__(roots, options)
        try:
            self.crop = DubbingCropConfig(width=options.width, smooth=0, **self.cut)
        except ValueError:
            raise DataError(f"--width={options.width}: the width of crops is a multiple of 40 pixels") from None
        if not re.fullmatch(r"\w+", options.features):
            raise DataError(f"--features={options.features}: is no name of a front end")
        self.forest = DubbingForest([roots[self.main], *options.further])

    def find(self) -> list[str]:
        """Videos of which there are crops, or that a JSON lists."""
        return sorted(self.forest.places)

    def place(self, out: str | Path | None) -> Path:
        """Never in an old tree."""
        place = super().place(out)
        if any(tree.contains(place) for tree in self.forest.trees):
            raise DataError(f"{place}: lies in the old tree, which is left as it is; give another --out")
        return place

    def state(self, clip_id: str) -> str:
        """Names, sizes and times of the clip's files, and what is made of them."""
        tree, name = self.forest.places[clip_id]
        made = f"{_VERSION} {self.crop.artefact} {self.options.features}"
        digest = hashlib.sha256(made.encode())
        for path in tree.files(name):
            stat = path.stat()
            line = f"\n{path} {stat.st_size} {stat.st_mtime_ns}"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:20]

    @property
    def advice(self) -> str:
        """The old crop, which is not the default, and what is heard."""
        others = {key: value for key, value in self.crop.model_dump().items() if value != _default(key)}
        options = [f"--model.crop.{key}={value}" for key, value in others.items()]
        return " ".join([*options, f"--model.audio.generator_features={self.options.features}"])

    def convert(self, clip_id: str, target: Path) -> dict[str, Any]:
        """Write crops, features, sound and landmarks, as far as they are there; the video becomes the source."""
        if first := self.forest.twin(clip_id):
            raise Rejected(f"its pictures are those of {first}, in another tree")
        old = self.forest.video(clip_id)
        pictures = old.pictures()
        if not pictures:
            raise Rejected("none of its pictures is there")
        video = old.tree.video(old.name)
        count = _frames(max(pictures) + 1, video)
        steps, audible = self._features(old, count, target)
        steps |= _sound(old, target)
        if not steps:
            raise Rejected("has neither features nor a sound that is heard")
        usable = {frame: path for frame, path in pictures.items() if frame < count and audible[frame]}
        old.defects["pictures without features of their frame, left out"] += len(pictures) - len(usable)
        steps[self.crop.artefact], widths = self._faces(old, usable, count, target)
        steps |= self._track(old, widths, count, target)
        known = {"source": describe_source(ClipItem(clip_id, video), target, {})} if video else {}
        told = [f"{times} {what}" for what, times in old.defects.items() if times]
        steps[self.crop.artefact] |= {"facts": {"repairs": told}} if told else {}
        return {"frames": count, "steps": steps, "speaker": "", **known}

    def _features(self, old: OldVideo, count: int, target: Path) -> tuple[dict[str, Any], np.ndarray]:
        """Rows of both recognisers, 25 per second, and the frames (F,) for which all of them are known."""
        steps, audible = {}, np.ones(count, bool)
        names = dict(zip(FEATURES, (self.options.features, "deepspeech2"), strict=True))
        for recogniser, front_end in names.items():
            rows = old.rows(recogniser, count)
            if rows is None:
                continue
            whole, known = held(rows)
            lent = known & ~np.isfinite(rows).all(axis=1)
            old.defects[f"frames for which the last row of {recogniser} is held"] += int(lent.sum())
            audible &= known
            artefact = f"{ARTEFACT}{front_end}"
            np.save(target / default_file(artefact), whole)
            facts = {"rows_per_second": FPS, "first_row": 0.0}
            steps[artefact] = record([default_file(artefact)]) | {"facts": facts}
        return steps, audible

    def _faces(
        self, old: OldVideo, pictures: Mapping[int, Path], count: int, target: Path
    ) -> tuple[dict[str, Any], dict[int, int]]:
        """The crops at one size, and the width of each old one by frame; what is no crop is left out."""
        height, width = self.crop.size_hw
        writer, boxes = FaceWriter(target, self.crop.artefact), np.full((count, 4), np.nan, np.float32)
        sizes: dict[int, tuple[int, int]] = {}
        for frame in range(count):
            face = _face(old, pictures[frame]) if frame in pictures else None
            writer.add(None if face is None else _resized(face, (width, height)))
            if face is not None:
                boxes[frame] = (0, 0, width, height)
                sizes[frame] = face.shape[:2]
        if not sizes:
            told = "; ".join(what for what, count in old.defects.items() if count)
            raise Rejected(f"none of its pictures can be used ({told})")
        self.check_sizes(set(sizes.values()))
        params = self.crop.model_dump()
        meta = {**params, "size_hw": [height, width], "frame_hw": [height, width]}
        return record(writer.close(boxes, meta), **params), {frame: width for frame, (_, width) in sizes.items()}

    def check_sizes(self, sizes: set[tuple[int, int]]) -> None:
        """See that crops of these sizes were cut as the kind says.

        Raises:
            Rejected: they were not.
        """

    def _track(self, old: OldVideo, widths: Mapping[int, int], count: int, target: Path) -> dict[str, Any]:
        """Landmarks of the video from OpenFace's file; without a video, those in the crops from the pickled one."""
        video, file = old.tree.video(old.name), old.tree.landmarks(old.name)
        track = None
        if video and file:
            info = media.probe(video)
            try:
                track = read_landmarks(file, count, (info.height, info.width), self.options.max_gap)
            except DataError as error:
                old.defects[f"landmarks of OpenFace that cannot be used ({str(error).removeprefix(f'{file}: ')})"] += 1
        elif not video:
            track = _crop_track(old, widths, count, self.crop)
        if track is None:
            return {}
        track.save(target / default_file("landmarks"))
        return {"landmarks": record([default_file("landmarks")])}


@register_converter("lawdnet")
class LawDNetConverter(DubbingConverter):
    """Faces turned to LawDNet's template."""

    cut = {"kind": "frontal", "half_pixel": True}

    def check_sizes(self, sizes: set[tuple[int, int]]) -> None:
        """See `DubbingConverter.check_sizes`."""
        if len(sizes) > 1:
            raise Rejected(f"its pictures have {len(sizes)} sizes, as those of DINet: convert it with --kind=dinet")


@register_converter("dinet")
class DINetConverter(DubbingConverter):
    """Boxes around nose and mouth, as DINet cuts them."""

    cut = {"kind": "upright", "blocks": True}


def _default(key: str) -> Any:
    return DubbingCropConfig.model_fields[key].default


def _frames(pictures: int, video: Path | None) -> int:
    """Number of frames: those of the video, else up to the last picture.

    Raises:
        Rejected: the video is of another rate, or has fewer frames than pictures were cut from it.
    """
    if video is None:
        return pictures
    info = media.probe(video)
    if abs(info.fps - FPS) > _OFF_RATE:
        remedy = f"features and pictures run apart; cut them from a video of {FPS:g} frames per second"
        raise Rejected(f"its video has {info.fps:.5g} frames per second: {remedy}", round(info.fps, 3), FPS)
    count = media.frame_count(info.duration)
    if pictures > count + _OFF_FRAMES:
        raise Rejected(f"pictures are numbered to {pictures - 1}, its video has {count} frames", pictures, count)
    return count


def _sound(old: OldVideo, target: Path) -> dict[str, Any]:
    """The sound file, or the track of the video where that is missing or silent."""
    for path in (old.tree.sound(old.name), old.tree.video(old.name)):
        if path is None:
            continue
        try:
            samples = media.read_audio(path)
        except MediaError:
            old.defects[f"no sound in the {path.suffix} file"] += 1
            continue
        if len(samples) and np.abs(samples).max() >= SILENCE:
            return {"audio": store_audio(samples, target)}
        old.defects[f"silent sound in the {path.suffix} file"] += 1
    return {}


def _face(old: OldVideo, path: Path) -> np.ndarray | None:
    """A picture (H, W, 3) BGR; None, and counted, where it is none."""
    try:
        face = read_face(path)
    except DataError:
        old.defects["pictures that cannot be read, left out"] += 1
        return None
    height, width = face.shape[:2]
    if abs(height / width - HEIGHT_TO_WIDTH) > _OFF_SHAPE * HEIGHT_TO_WIDTH:
        old.defects[f"pictures that are not {HEIGHT_TO_WIDTH} times as high as wide, left out"] += 1
        return None
    return face


def _resized(face: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """RGB at a size (width, height): means over areas where it shrinks, which the old code did without."""
    how = cv2.INTER_AREA if face.shape[1] > size[0] else cv2.INTER_LINEAR
    return cv2.cvtColor(cv2.resize(face, size, interpolation=how), cv2.COLOR_BGR2RGB)


def _crop_track(old: OldVideo, widths: Mapping[int, int], count: int, crop: DubbingCropConfig) -> LandmarkTrack | None:
    """Landmarks in the crops as those of the clip, whose pictures the crops are; None where there are none."""
    points, found = np.full((count, 68, 2), np.nan, np.float32), np.zeros(count, bool)
    for frame, width in widths.items():
        face = old.landmarks.get(old.names[frame])
        if face is not None:
            points[frame], found[frame] = face * (crop.width / width), True
    if not found.any():
        return None
    origin = "imported from landmark_crop_dic.npy"
    return LandmarkTrack(points, found, found.copy(), crop.size_hw, layout="ibug68", provider="file", version=origin)
