"""Wav2Lip's generation: face boxes of the source, references, faces redrawn in batches, pasted back.

Boxes are held for the whole video (a few bytes per frame), pictures for one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from talkingface.clips.source import report_missing
from talkingface.devices import resolve_precision
from talkingface.errors import MediaError, NoFaceError
from talkingface.faces.crop import box_pixels, crop_face, face_boxes, paste_face
from talkingface.models.wav2lip.data import mel_starts
from talkingface.models.wav2lip.parts import Wav2LipNetworks
from talkingface.models.wav2lip.pixels import from_network, network_input
from talkingface.sound.mel import MEL_WIDTH, MelConfig, cut_mel, melspectrogram

if TYPE_CHECKING:
    from talkingface.clips.source import Audio, Source
    from talkingface.faces.track import LandmarkTrack
    from talkingface.models.wav2lip.config import Wav2LipConfig

# Frames per pass. Published: 128. At 96 px the largest map of the published width is 2.9 MB per frame.
CPU_BATCH, GPU_BATCH = 16, 128
SMOOTHED = 5  # boxes in the mean
SHORTEST = 3200  # samples, 0.2 s: less has no whole mel window


@torch.no_grad()
def generate(model: Wav2LipNetworks, source: Source, audio: Audio) -> Iterator[np.ndarray]:
    """Yield one full frame, uint8 RGB (H, W, 3), per video frame of the audio.

    Frames without a face (gaps longer than a second; shorter ones are interpolated) pass through as they are and are
    reported once. Outside the pasted region every frame equals the source exactly.

    Raises:
        NoFaceError: the source or its reference shows no face, or some frames do not and `no_face` is `error`.
        MediaError: the configured box does not lie in the frame.
    """
    settings = model.config.inference
    scene = Scene.look(model.config, source, settings.box)
    count = audio.n_frames(source.fps)
    order = np.zeros(count, np.int64) if settings.static else np.asarray(source.order(count))
    report_missing(scene.valid, order, str(source.path), settings.no_face)
    references = choose_references(model.config, source, scene)
    mel = spectrogram(audio.samples)
    first = chunk_starts(count, source.fps, mel.shape[1], settings.mel_offset)
    batch = settings.batch or (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    frames = iter(source.frames(order))
    for start in range(0, count, batch):
        shown = order[start : start + batch]
        pictures = list(islice(frames, len(shown)))
        mine = np.flatnonzero(scene.valid[shown[: len(pictures)]])
        if len(mine):
            boxes = scene.boxes[shown[mine]]
            crops = [crop_face(pictures[k], box, model.config.crop.size) for k, box in zip(mine, boxes, strict=True)]
            faces = redraw(model, np.stack(crops), references, shown[mine], cut_mel(mel, first[start + mine]))
            for k, face, box in zip(mine, faces, boxes, strict=True):
                mask = blend_mask(box, pictures[k].shape[:2], settings.paste, settings.feather)
                pictures[k] = paste_face(pictures[k], face, box, mask, settings.resize)
        yield from pictures


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Mel (80, L) of a waveform (n,), with the padding that the published weights were trained with."""
    if len(samples) < SHORTEST:
        samples = np.pad(samples, (0, SHORTEST - len(samples)))
    return melspectrogram(samples, MelConfig(pad_mode="reflect"))


def chunk_starts(count: int, fps: float, columns: int, offset: int = 0) -> np.ndarray:
    """First mel columns (count,) of the frames' windows: int(80 i / fps), and as published no window leaves the mel.

    The last 0.2 s share the last whole window; with an `offset` (see `mel_starts`) the first frame moves likewise.
    """
    return np.clip(mel_starts(np.arange(count), fps, offset), 0, columns - MEL_WIDTH)


@dataclass
class Scene:
    """Where the face is in every frame of a video.

    Attributes:
        boxes: (F, 4) x1, y1, x2, y2 in pixels; NaN where there is no face.
        valid: (F,) bool, frames with a box.
        track: the landmarks, None where the user gave the box.
    """

    boxes: np.ndarray
    valid: np.ndarray
    track: LandmarkTrack | None

    @classmethod
    def look(cls, config: Wav2LipConfig, source: Source, box: tuple[int, ...] | None = None) -> Scene:
        """Face boxes of a source, padded and smoothed; a `box` (top, bottom, left, right) is taken as it is."""
        settings = config.inference
        if box is not None:
            boxes = np.tile(_given_box(box, source), (len(source), 1))
            return cls(boxes, np.ones(len(source), bool), None)
        track = source.landmarks()
        boxes = padded(face_boxes(track.points_px, track.size, config.crop), settings.pads, track.size)
        boxes[~track.valid] = np.nan
        valid = np.isfinite(boxes).all(axis=1)
        if not valid.any():
            raise NoFaceError(f"{source.path}: no face found in any of its {len(valid)} frames")
        return cls(smoothed_boxes(boxes, valid, settings.smooth), valid, track)

    @property
    def knows_mouths(self) -> bool:
        """Whether the detector found more than boxes."""
        return self.track is not None and self.track.layout in ("mediapipe478", "ibug68")

    def typical(self, frames: np.ndarray) -> int:
        """Of `frames`, the one whose mouth opening is the median one; the first where only boxes are known."""
        if not self.knows_mouths:
            return int(frames[0])
        opening = self.track.opening()[frames]
        return int(frames[np.argsort(opening, kind="stable")[(len(frames) - 1) // 2]])


def _given_box(box: tuple[int, ...], source: Source) -> np.ndarray:
    top, bottom, left, right = box
    height, width = source.size
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise MediaError(
            f"{source.path}: inference.box {list(box)} (top, bottom, left, right) does not lie in its frames of"
            f" {width} x {height} pixels"
        )
    return np.array([left, top, right, bottom], np.float64)


def padded(boxes: np.ndarray, pads: tuple[int, ...], size_hw: tuple[int, int]) -> np.ndarray:
    """Boxes (F, 4) grown by `pads` (top, bottom, left, right) pixels, inside the frame."""
    top, bottom, left, right = pads
    height, width = size_hw
    grown = boxes.astype(np.float64) + np.array([-left, -top, right, bottom], np.float64)
    return np.clip(grown, 0, [width, height, width, height])


def smoothed_boxes(boxes: np.ndarray, valid: np.ndarray, rule: Literal["published", "centred", "none"]) -> np.ndarray:
    """Boxes (F, 4) smoothed within every unbroken run of valid frames."""
    if rule == "none":
        return boxes
    result = boxes.copy()
    mean = forward_mean if rule == "published" else centred_mean
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        result[start:stop] = mean(boxes[start:stop])
    return result


def forward_mean(boxes: np.ndarray, window: int = SMOOTHED) -> np.ndarray:
    """Mean of each box (n, 4) and the next ones, as published.

    Kept: it works in place, so the last boxes average what was smoothed before, and on whole pixels, cut off towards
    zero; boxes thereby run ahead of the face by two frames.
    """
    smooth = boxes.astype(np.int64)
    for k in range(len(smooth)):
        part = smooth[k : k + window] if k + window <= len(smooth) else smooth[len(smooth) - window :]
        smooth[k] = part.mean(axis=0)
    return smooth.astype(np.float64)


def centred_mean(boxes: np.ndarray, window: int = SMOOTHED) -> np.ndarray:
    """Mean of each box (n, 4) and its neighbours on both sides, as many as there are on the shorter one."""
    count, half = len(boxes), window // 2
    reach = np.minimum(half, np.minimum(np.arange(count), np.arange(count)[::-1]))
    sums = np.concatenate([np.zeros((1, 4)), boxes.cumsum(axis=0)])
    frames = np.arange(count)
    return (sums[frames + reach + 1] - sums[frames - reach]) / (2 * reach + 1)[:, None]


class Reference(NamedTuple):
    """A reference face (S, S, 3) uint8 RGB and the frames (F,) bool of the source it serves."""

    serves: np.ndarray
    face: np.ndarray


def choose_references(config: Wav2LipConfig, source: Source, scene: Scene) -> list[Reference]:
    """Reference faces of a source; none where every frame is its own reference, as published.

    A source that is compared with itself (`held_out`) never lends a frame its own mouth: the reference comes from
    `source.reference`, or for each half of the video from the other half.
    """
    policy, origin = config.inference.reference, source.reference or source
    if policy == "same" and origin is source and not source.held_out:
        return []
    other = scene if origin is source else Scene.look(config, origin)
    usable = np.flatnonzero(other.valid)
    everything = np.ones(len(scene.valid), bool)
    choices = [(everything, usable)]
    if source.held_out and origin is source:
        first = np.arange(len(everything)) < (len(everything) + 1) // 2
        choices = [(first, usable[~first[usable]]), (~first, usable[first[usable]])]
    return [Reference(serves, _reference_face(config, origin, other, frames)) for serves, frames in choices]


def _reference_face(config: Wav2LipConfig, origin: Source, scene: Scene, frames: np.ndarray) -> np.ndarray:
    """The reference face among some frames of a video."""
    size, alone = config.crop.size, not len(frames)
    frames = np.flatnonzero(scene.valid) if alone else frames
    index = int(frames[0]) if config.inference.reference == "first" else scene.typical(frames)
    face = crop_face(next(iter(origin.read([index]))), scene.boxes[index], size)
    if alone:  # no frame but those to be redrawn: what is hidden in them stays hidden
        face[size // 2 :] = 0
    return face


def redraw(
    model: Wav2LipNetworks, faces: np.ndarray, references: list[Reference], frames: np.ndarray, mel: np.ndarray
) -> np.ndarray:
    """Redraw faces to a sound.

    Args:
        model: the model, in eval mode.
        faces: (m, S, S, 3) uint8 RGB; their lower halves are not looked at, but see `references`.
        references: reference faces; without any, each face is its own.
        frames: (m,) frames of the source the faces are of.
        mel: (m, 1, 80, 16) their sound.

    Returns:
        (m, S, S, 3) uint8 RGB.
    """
    shown = faces.copy()
    for reference in references:
        shown[reference.serves[frames]] = reference.face
    target, others = (torch.from_numpy(each).to(model.device)[:, None] for each in (faces, shown))
    inputs = network_input(target, others)[:, :, 0]
    half = resolve_precision(model.config.inference.precision, model.device) == "bf16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        drawn = model.generator(torch.from_numpy(mel).to(model.device), inputs)
    return from_network(drawn)


def blend_mask(
    box: np.ndarray, size_hw: tuple[int, int], part: Literal["box", "lower"], feather: float
) -> np.ndarray | None:
    """Weights (H, W) uint8 of the generated face in a frame; None is the whole box with hard edges, as published.

    Args:
        box: x1, y1, x2, y2 in pixels.
        size_hw: height and width of the frame.
        part: `box`, or its `lower` half alone; above the middle the face is known, so there the mask fades in.
        feather: width of the soft edge inside the box, as a share of its mean side. Edges at the frame's border are
            hard.
    """
    if part == "box" and feather == 0:
        return None
    x1, y1, x2, y2 = box_pixels(box, size_hw)
    height, width = y2 - y1, x2 - x1
    soft = round(feather * (height + width) / 2)
    rows = _ramp(height, soft, y1 > 0, y2 < size_hw[0])
    if part == "lower":
        rows = np.minimum(rows, np.clip((np.arange(height) - height // 2 + soft + 1) / (soft + 1), 0, 1))
    columns = _ramp(width, soft, x1 > 0, x2 < size_hw[1])
    mask = np.zeros(size_hw, np.uint8)
    mask[y1:y2, x1:x2] = np.rint(255 * rows[:, None] * columns[None])
    return mask


def _ramp(length: int, soft: int, rises: bool, falls: bool) -> np.ndarray:
    """(length,) weights: 1 but for the `soft` pixels at the ends that rise or fall."""
    weight = np.ones(length)
    steps = np.arange(1, length + 1) / (soft + 1)
    if rises:
        weight = np.minimum(weight, steps)
    if falls:
        weight = np.minimum(weight, steps[::-1])
    return weight
