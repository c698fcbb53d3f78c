"""Figures of the drawn faces by themselves: crops before they are pasted into a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from talkingface.clips.redraw import FrameBatch, frame_batches
from talkingface.clips.source import Source
from talkingface.faces.crop import crop_faces
from talkingface.faces.regions import region_boxes
from talkingface.lipsync.continuity import Continuity
from talkingface.lipsync.half_face.draw import Drawer
from talkingface.lipsync.half_face.generate import CPU_BATCH, chunk_starts, spectrogram
from talkingface.lipsync.half_face.scene import Scene, choose_references, with_references
from talkingface.sound.mel import cut_mel

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.lipsync.half_face.draw import HalfFaceNetworks


def face_scores(
    model: HalfFaceNetworks,
    clips: Sequence[ClipFolder],
    donors: Sequence[ClipFolder],
    make: Callable[[], Drawer] | None = None,
) -> dict[str, float]:
    """Score generated face crops of held-out clips; references come from the other half of the clip.

    Args:
        model: the model, in any mode.
        clips: held-out clips.
        donors: for each clip, the clip whose audio drives the shuffled figures.
        make: makes whoever draws a clip; None: the model's own.

    Returns:
        `face_l1`: mean absolute error of the lower half of the crop, `mouth_l1`: around the lips; both in grey levels,
        mean over clips, and both also as `..._shuffled`.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # batch norm over a clip's own frames would give other faces, and move its averages
    values: dict[str, list[float]] = {}
    try:
        with torch.no_grad():
            for clip, donor in zip(clips, donors, strict=True):
                for name, value in _clip_scores(model, clip, donor, make or model.drawer).items():
                    values.setdefault(name, []).append(value)
    finally:
        for module, training in modes:
            module.training = training
    return {name: float(np.mean(found)) for name, found in values.items()}


def _clip_scores(
    model: HalfFaceNetworks, clip: ClipFolder, donor: ClipFolder, make: Callable[[], Drawer]
) -> dict[str, float]:
    source = Source.from_clip(clip)
    source.held_out = True
    scene = Scene.look(model.config, source)
    references = choose_references(model.config, source, scene)
    count = min(len(source), len(clip), len(donor))
    voices = {"": clip.audio(), "_shuffled": donor.audio()}
    offset = model.config.inference.mel_offset
    takes = {suffix: _Take.of(make(), samples, count, clip.fps, offset) for suffix, samples in voices.items()}
    lips = region_boxes(source.landmarks(), "mouth") if scene.knows_mouths else None
    errors: dict[str, list[float]] = {}
    continuity = Continuity()
    for part in _batches(source, scene, np.flatnonzero(scene.valid[:count])):
        boxes, follows = scene.boxes[part.shown], np.zeros(len(part.faces), bool)
        if any(take.drawer.remembers for take in takes.values()):
            follows = continuity.follow(part.pictures, part.shown, part.faces)
        crops = crop_faces(part.pictures, boxes, model.config.crop.size)
        shown, truth = (
            with_references(crops, references, part.shown),
            crop_faces(part.pictures, boxes, model.drawn_size),
        )
        for suffix, take in takes.items():
            drawn = take.drawer(crops, shown, cut_mel(take.mel, take.first[part.shown]), follows, boxes).numpy()
            error = np.abs(drawn.astype(np.float32) - truth).mean(axis=-1)
            errors.setdefault(f"face_l1{suffix}", []).extend(error[:, error.shape[1] // 2 :].mean(axis=(1, 2)))
            if lips is not None:
                inside = [_region(e, lips[k], scene.boxes[k]) for e, k in zip(error, part.shown, strict=True)]
                errors.setdefault(f"mouth_l1{suffix}", []).extend(found.mean() for found in inside if found.size)
    return {name: float(np.mean(found)) for name, found in errors.items()}


class _Take(NamedTuple):
    """A voice for a clip, and who draws to it."""

    drawer: Drawer
    mel: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, drawer: Drawer, samples: np.ndarray, count: int, fps: float, offset: int) -> _Take:
        mel = spectrogram(samples)
        return cls(drawer, mel, chunk_starts(count, fps, mel.shape[1], offset))


def _batches(source: Source, scene: Scene, frames: np.ndarray) -> Iterator[FrameBatch]:
    """The frames that have a face, in batches."""
    pictures = iter(source.frames(frames))
    return frame_batches(pictures, frames, scene.valid, np.arange(len(frames)), CPU_BATCH)


def _region(error: np.ndarray, region: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a crop's map (S, S) that lies in a region of the frame."""
    side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    left, top, right, bottom = ((region - np.tile(box[:2], 2)) / side * len(error)).round().clip(0, len(error))
    return error[int(top) : int(bottom), int(left) : int(right)]
