"""Figures of Wav2Lip's generator by itself: face crops before they are pasted into a frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from talkingface.clips.redraw import frame_batches
from talkingface.clips.source import Source
from talkingface.faces.crop import crop_faces
from talkingface.faces.regions import region_boxes
from talkingface.models.wav2lip.generate import CPU_BATCH, Scene, choose_references, chunk_starts, redraw, spectrogram
from talkingface.sound.mel import cut_mel

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.models.wav2lip.parts import Wav2LipNetworks


def face_scores(model: Wav2LipNetworks, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
    """Score generated face crops of held-out clips; references come from the other half of the clip.

    Args:
        model: the model, in any mode.
        clips: held-out clips.
        donors: for each clip, the clip whose audio drives the shuffled figures.

    Returns:
        `face_l1`: mean absolute error of the lower half of the crop, `mouth_l1`: around the lips; both in grey levels,
        mean over clips, and both also as `..._shuffled`.
    """
    network = model.generator
    training = network.training
    network.eval()  # batch norm over a clip's own frames would give other faces, and move its averages
    values: dict[str, list[float]] = {}
    try:
        with torch.no_grad():
            for clip, donor in zip(clips, donors, strict=True):
                for name, value in _clip_scores(model, clip, donor).items():
                    values.setdefault(name, []).append(value)
    finally:
        network.train(training)
    return {name: float(np.mean(found)) for name, found in values.items()}


def _clip_scores(model: Wav2LipNetworks, clip: ClipFolder, donor: ClipFolder) -> dict[str, float]:
    source = Source.from_clip(clip)
    source.held_out = True
    scene = Scene.look(model.config, source)
    references = choose_references(model.config, source, scene)
    voices = {"": clip.audio(), "_shuffled": donor.audio()}
    mels = {suffix: spectrogram(samples) for suffix, samples in voices.items()}
    count = min(len(source), len(clip), len(donor))
    offset = model.config.inference.mel_offset
    first = {suffix: chunk_starts(count, clip.fps, mel.shape[1], offset) for suffix, mel in mels.items()}
    lips = region_boxes(source.landmarks(), "mouth") if scene.knows_mouths else None
    errors: dict[str, list[float]] = {}
    for frames, crops in _batches(model, source, scene, np.flatnonzero(scene.valid[:count])):
        for suffix, mel in mels.items():
            drawn = redraw(model, crops, references, frames, cut_mel(mel, first[suffix][frames])).numpy()
            error = np.abs(drawn.astype(np.float32) - crops).mean(axis=-1)
            errors.setdefault(f"face_l1{suffix}", []).extend(error[:, error.shape[1] // 2 :].mean(axis=(1, 2)))
            if lips is not None:
                inside = [_region(e, lips[k], scene.boxes[k]) for e, k in zip(error, frames, strict=True)]
                errors.setdefault(f"mouth_l1{suffix}", []).extend(part.mean() for part in inside if part.size)
    return {name: float(np.mean(found)) for name, found in errors.items()}


def _batches(
    model: Wav2LipNetworks, source: Source, scene: Scene, frames: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frame numbers (m,) and their face crops (m, S, S, 3)."""
    pictures = iter(source.frames(frames))
    for part in frame_batches(pictures, frames, scene.valid, np.arange(len(frames)), CPU_BATCH):
        yield part.shown, crop_faces(part.pictures, scene.boxes[part.shown], model.config.crop.size)


def _region(error: np.ndarray, region: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a crop's map (S, S) that lies in a region of the frame."""
    side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    left, top, right, bottom = ((region - np.tile(box[:2], 2)) / side * len(error)).round().clip(0, len(error))
    return error[int(top) : int(bottom), int(left) : int(right)]
