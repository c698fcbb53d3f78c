"""HyperLips' `preprocessed_data`: faces and sound of every clip, its video, and what the second model learnt from.

Holes in the numbering are frames without a face, or without whatever the folder holds; the clip stays.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from talkingface import media
from talkingface.clips.face_store import Storage
from talkingface.clips.folder import default_file
from talkingface.clips.hyperlips_tree import DRAWN, FACES, MASKS, SKETCHES, TRUTH, HyperLipsTree
from talkingface.clips.layouts import ClipItem, MEADLayout
from talkingface.errors import DataError
from talkingface.faces.crop import CropConfig
from talkingface.lipsync.expert.inputs import PUBLISHED_CROP
from talkingface.media import FPS, SAMPLE_RATE
from talkingface.preprocess.converters.base import (
    PICTURES,
    Converter,
    ConvertOptions,
    crop_options,
    frame_total,
    numbered,
    pack_faces,
    pack_pictures,
    read_face,
    record,
    register_converter,
    store_audio,
)
from talkingface.preprocess.original import describe_source
from talkingface.preprocess.step import Rejected
from talkingface.stored.pictures import jpeg_size
from talkingface.stored.regular import read_bytes

SIZE = 128  # of Base's pictures, as published
HR_SIZES = (128, 256, 512)
LIP_BOXES, HYPER, HYPER_SKETCH = "lip_boxes@hr", "hyper@video", "hyper_sketch@video"
FEWEST = 16  # pictures; clips of fewer were never used
WHITE = 128  # of a mask: it is stored as JPEG, in which 255 is seldom 255
_OFF = 0.02  # share by which the rate may differ from 25 per second
# Frames by which it may differ in any case: sound ends with a whole packet of its codec, at 16 kHz 1.6 frames long.
_OFF_FRAMES = 2
_LOOKED_AT = 50  # clips, for the size of the ground truth
_MOST_BYTES = 2**26
_VERSION = 1


@register_converter("hyperlips")
class HyperLipsConverter(Converter):
    """Folders `imgs`, `video_clips` and `HR_Train_Dateset` of one root; only the first must be there.

    Without `hr_size` of the options, it is the one of `HR_SIZES` that is nearest to the pictures of the ground truth
    (median of their sides): larger would invent detail, smaller lose it.
    """

    main = "root"
    holds = FACES

    def __init__(self, roots: Mapping[str, Path], options: ConvertOptions):
        super().__init__(roots, options)
        tree = HyperLipsTree.near(roots[self.main])
        if tree is None:
            raise DataError(f"{roots[self.main]}: no {FACES}/<set>/<clip>/<frame>.jpg found here")
        if options.hr_size not in (None, *HR_SIZES):
            raise DataError(f"--hr_size={options.hr_size}: must be one of {', '.join(map(str, HR_SIZES))} pixels")
        self.tree = tree
        self._ids = tree.clips()
        self.crop = _crop(SIZE)
        self.hr_size = options.hr_size or self._nearest_size()

    def find(self) -> list[str]:
        """Clips of which there are pictures of any kind."""
        return self._ids

    def place(self, out: str | Path | None) -> Path:
        """By default beside the old folders, where runs look for clips; never in one of them."""
        place = self.tree.root if out is None else Path(out)
        for folder in ("", *{clip_id.partition("/")[0] for clip_id in self._ids}):
            if self.tree.contains(place / folder):
                raise DataError(f"{place / folder}: lies in the old tree, which is left as it is; give another --out")
        return place

    def state(self, clip_id: str) -> str:
        """Names, sizes and times of the clip's files, and what is made of them."""
        digest = hashlib.sha256(f"{_VERSION} {self.hr_size}".encode())
        for path in sorted(path for path in self.tree.files(clip_id) if path.is_file()):
            stat = path.stat()
            name = path.relative_to(self.tree.root).as_posix()
            digest.update(f"\n{name} {stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape"))
        return digest.hexdigest()[:20]

    @property
    def advice(self) -> str:
        """The published crop, which is not the default; and what HyperLipsHR must be told to learn from these faces."""
        first = crop_options(self.crop)
        if not (self.tree.root / DRAWN).is_dir():
            return first
        scale = self.hr_size // SIZE
        return f"{first}; then HyperLipsHR with --model.hyper.source=video --model.decoder.scale={scale}"

    def convert(self, clip_id: str, target: Path) -> dict[str, Any]:
        """Write sound, crops and whatever there is for HR; the video becomes the source."""
        pictures = self._pictures(FACES, clip_id)
        if len(pictures) < FEWEST:
            raise Rejected(f"{len(pictures)} face pictures; clips of fewer than {FEWEST} are of no use", len(pictures))
        samples = media.read_audio(self.tree.sound(clip_id))
        video = self.tree.video(clip_id)
        count = _frames(frame_total(pictures), len(samples) / SAMPLE_RATE, video if video.is_file() else None)
        steps = {"audio": store_audio(samples, target)}
        steps |= self._faces(clip_id, pictures, count, target) | self._for_hr(clip_id, count, target)
        speaker = MEADLayout().speaker(clip_id)
        known = {"source": describe_source(ClipItem(clip_id, video), target, {})} if video.is_file() else {}
        return {"frames": count, "steps": steps, "speaker": speaker, **known}

    def _pictures(self, kind: str, clip_id: str) -> dict[int, Path]:
        pictures = numbered(self.tree.folder(kind, clip_id), PICTURES)
        if pictures:
            frame_total(pictures)  # refuses numbers that belong to no frame
        return pictures

    def _faces(self, clip_id: str, pictures: dict[int, Path], count: int, target: Path) -> dict[str, Any]:
        """Base's crops, and HR's. At 128 px both have one name: then HR's pictures come first, which fit its input."""
        truth = self._pictures(TRUTH, clip_id)
        if truth and self.hr_size == SIZE:
            pictures, truth = pictures | truth, {}
        crops = {self.crop: pictures} | ({_crop(self.hr_size): truth} if truth else {})
        return {crop.artefact: pack_faces(found, count, target, crop) for crop, found in crops.items()}

    def _for_hr(self, clip_id: str, count: int, target: Path) -> dict[str, Any]:
        """Base's outputs, sketches of them, and lip boxes, of the frames that have them."""
        steps = {}
        stored: tuple[tuple[str, str, Storage], ...] = ((DRAWN, HYPER, "jpeg"), (SKETCHES, HYPER_SKETCH, "png"))
        for kind, artefact, storage in stored:
            if found := self._pictures(kind, clip_id):
                steps[artefact] = record(pack_pictures(found, count, target, artefact, SIZE, storage=storage))
        if masks := self._pictures(MASKS, clip_id):
            boxes = np.full((count, 4), np.nan, np.float32)
            for index, path in masks.items():
                if index < count:
                    boxes[index] = lip_box(cv2.cvtColor(read_face(path), cv2.COLOR_BGR2GRAY))
            np.save(target / default_file(LIP_BOXES), boxes)
            steps[LIP_BOXES] = record([default_file(LIP_BOXES)])
        return steps

    def _nearest_size(self) -> int:
        """The size of HR that is nearest to the pictures of its ground truth; that of Base where there are none."""
        folders = (self.tree.folder(TRUTH, clip_id) for clip_id in self._ids)
        first = (next(iter(found.values())) for folder in folders if (found := numbered(folder, PICTURES)))
        sizes = [size for path in islice(first, _LOOKED_AT) if (size := jpeg_size(read_bytes(path, _MOST_BYTES)))]
        if not sizes:
            return SIZE
        side = median(math.sqrt(height * width) for height, width in sizes)
        return min(HR_SIZES, key=lambda size: abs(math.log(size / side)))


def lip_box(mask: np.ndarray) -> np.ndarray:
    """Bounds of the white pixels of a mask (h, w) uint8.

    Returns:
        (4,) float32 top, bottom, left, right in shares of the picture, half-open; NaN where nothing is white.
    """
    white = mask >= WHITE
    sides = [np.flatnonzero(white.any(axis=axis)) for axis in (1, 0)]
    if not len(sides[0]):
        return np.full(4, np.nan, np.float32)
    shares = [(found[0] / length, (found[-1] + 1) / length) for found, length in zip(sides, mask.shape, strict=True)]
    return np.array(shares, np.float32).ravel()


def _crop(size: int) -> CropConfig:
    """How these pictures were cut: the detector's box of each frame, without margin."""
    return PUBLISHED_CROP.model_copy(update={"size": size})


def _frames(pictures: int, seconds: float, video: Path | None) -> int:
    """Number of frames of a clip, by its video where there is one: at its end the face may be out of sight.

    Args:
        pictures: one more than the number of the last one.
        seconds: length of the sound.
        video: what they were cut from.

    Raises:
        Rejected: there are more or fewer pictures than 25 per second of sound, or than frames in the video.
    """
    told = f"{pictures} pictures for {seconds:.2f} s of sound are {pictures / max(seconds, 1e-3):.2f} per second"
    remedy = f"not {FPS:g}; cut them from a video of {FPS:g} frames per second"
    count = pictures
    if video is not None:
        info = media.probe(video)
        if abs(info.fps - FPS) > _OFF * FPS:
            raise Rejected(f"its video has {info.fps:.4g} frames per second, {told}, {remedy}", round(info.fps, 3), FPS)
        count = media.frame_count(info.duration)
        if pictures > count + _OFF_FRAMES:
            raise Rejected(f"pictures are numbered to {pictures - 1}, its video has {count} frames", pictures, count)
    if abs(count - seconds * FPS) > max(_OFF * seconds * FPS, _OFF_FRAMES):
        told = told if count == pictures else f"{count} frames for {seconds:.2f} s of sound"
        raise Rejected(f"{told}, {remedy}", round(count / max(seconds, 1e-3), 3), FPS)
    return count
