"""Wav2Lip's generation: face boxes of the source, references, faces redrawn in batches, pasted back.

Boxes are held for the whole video (a few bytes per frame), pictures for one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from talkingface.clips.redraw import FrameBatch, frame_batches
from talkingface.clips.references import lenders
from talkingface.clips.source import report_missing
from talkingface.devices import OnTheWay, in_flight, to_device
from talkingface.errors import MediaError, NoFaceError
from talkingface.faces.blend import blend_mask
from talkingface.faces.boxes import padded_boxes, smoothed_boxes
from talkingface.faces.crop import crop_face, crop_faces, face_boxes, paste_face
from talkingface.models.wav2lip.parts import Wav2LipNetworks
from talkingface.models.wav2lip.pixels import faces_of, network_input
from talkingface.sound.mel import MEL_WIDTH, MelConfig, cut_mel, frame_columns, melspectrogram

if TYPE_CHECKING:
    from talkingface.clips.source import Audio, Source
    from talkingface.faces.track import LandmarkTrack
    from talkingface.models.wav2lip.config import Wav2LipConfig

# Frames per pass. Published: 128. At 96 px the largest map of the published width is 2.9 MB per frame.
CPU_BATCH, GPU_BATCH = 16, 128
SHORTEST = 3200  # samples, 0.2 s: less has no whole mel window


@torch.no_grad()
def generate(model: Wav2LipNetworks, source: Source, audio: Audio) -> Iterator[np.ndarray]:
    """Yield one full frame, uint8 RGB (H, W, 3), per video frame of the audio.

    Frames without a face pass through as they are and are reported once; a face that was missed for up to a second is
    interpolated where the picture goes on. Outside the pasted region every frame equals the source exactly.

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
    parts = frame_batches(iter(source.frames(order)), order, scene.valid, np.arange(count), batch)
    drawn = ((part, _draw(model, scene, references, part, mel, first)) for part in parts)
    for part, faces in in_flight(drawn, model.device):
        if faces is not None:
            boxes = scene.boxes[part.shown[part.faces]]
            for k, face, box in zip(part.faces, faces.numpy(), boxes, strict=True):
                mask = blend_mask(box, part.pictures[k].shape[:2], settings.paste, settings.feather)
                part.pictures[k] = paste_face(part.pictures[k], face, box, mask, settings.resize)
        yield from part.pictures


def _draw(
    model: Wav2LipNetworks,
    scene: Scene,
    references: list[Reference],
    part: FrameBatch,
    mel: np.ndarray,
    first: np.ndarray,
) -> OnTheWay | None:
    """The faces of some frames redrawn, None where there is no face; `first`: their windows in the `mel` (80, L)."""
    if not len(part.faces):
        return None
    shown = part.shown[part.faces]
    crops = crop_faces([part.pictures[k] for k in part.faces], scene.boxes[shown], model.config.crop.size)
    return redraw(model, crops, references, shown, cut_mel(mel, first[part.rows[part.faces]]))


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Mel (80, L) of a waveform (n,), with the padding that the published weights were trained with."""
    if len(samples) < SHORTEST:
        samples = np.pad(samples, (0, SHORTEST - len(samples)))
    return melspectrogram(samples, MelConfig(pad_mode="reflect"))


def chunk_starts(count: int, fps: float, columns: int, offset: int = 0) -> np.ndarray:
    """First mel columns (count,) of the frames' windows: int(80 i / fps), and as published no window leaves the mel.

    The last 0.2 s share the last whole window; with an `offset` (see `frame_columns`) the first frame moves likewise.
    """
    return np.clip(frame_columns(np.arange(count), fps, offset), 0, columns - MEL_WIDTH)


@dataclass
class Scene:
    """Where the face is in every frame of a video.

    Attributes:
        boxes: (F, 4) x1, y1, x2, y2 in pixels; NaN where there is no face.
        valid: (F,) bool, frames with a box.
        found: (F,) bool, those whose face was detected, not bridged: only they show what a reference must show.
        track: the landmarks, None where the user gave the box.
    """

    boxes: np.ndarray
    valid: np.ndarray
    found: np.ndarray
    track: LandmarkTrack | None

    @classmethod
    def look(cls, config: Wav2LipConfig, source: Source, box: tuple[int, ...] | None = None) -> Scene:
        """Face boxes of a source, padded and smoothed; a `box` (top, bottom, left, right) is taken as it is."""
        settings = config.inference
        if box is not None:
            boxes = np.tile(_given_box(box, source), (len(source), 1))
            everywhere = np.ones(len(source), bool)
            return cls(boxes, everywhere, everywhere, None)
        track = source.landmarks()
        boxes = padded_boxes(face_boxes(track.points_px, track.size, config.crop), settings.pads, track.size)
        boxes[~track.valid] = np.nan
        valid = np.isfinite(boxes).all(axis=1)
        if not valid.any():
            raise NoFaceError(f"{source.path}: no face found in any of its {len(valid)} frames")
        return cls(smoothed_boxes(boxes, valid, settings.smooth), valid, valid & track.found, track)

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


class Reference(NamedTuple):
    """A reference face (S, S, 3) uint8 RGB and the frames (F,) bool of the source it serves."""

    serves: np.ndarray
    face: np.ndarray


def choose_references(config: Wav2LipConfig, source: Source, scene: Scene) -> list[Reference]:
    """Reference faces of a source; none where every frame is its own reference, as published.

    A source that is compared with itself (`held_out`) never lends a frame its own mouth; see `lenders`.
    """
    policy, origin = config.inference.reference, source.reference or source
    if policy == "same" and origin is source and not source.held_out:
        return []
    other = scene if origin is source else Scene.look(config, origin)
    groups = lenders(source, scene.found, None if origin is source else other.found)
    return [Reference(group.serves, _reference_face(config, origin, other, group.candidates)) for group in groups]


def _reference_face(config: Wav2LipConfig, origin: Source, scene: Scene, frames: np.ndarray) -> np.ndarray:
    """The reference face among some frames of a video; without any it shows no mouth."""
    size, alone = config.crop.size, not len(frames)
    frames = np.flatnonzero(scene.found) if alone else frames
    index = int(frames[0]) if config.inference.reference == "first" else scene.typical(frames)
    face = crop_face(next(iter(origin.read([index]))), scene.boxes[index], size)
    if alone:  # no frame but those to be redrawn: what is hidden in them stays hidden
        face[size // 2 :] = 0
    return face


def redraw(
    model: Wav2LipNetworks, faces: np.ndarray, references: list[Reference], frames: np.ndarray, mel: np.ndarray
) -> OnTheWay:
    """Redraw faces to a sound.

    Args:
        model: the model, in eval mode.
        faces: (m, S, S, 3) uint8 RGB; their lower halves are not looked at, but see `references`.
        references: reference faces; without any, each face is its own.
        frames: (m,) frames of the source the faces are of.
        mel: (m, 1, 80, 16) their sound.

    Returns:
        (m, S, S, 3) uint8 RGB, perhaps still to be computed.
    """
    shown = faces.copy()
    for reference in references:
        shown[reference.serves[frames]] = reference.face
    target, others = (to_device(each, model.device)[:, None] for each in (faces, shown))
    inputs = network_input(target, others)[:, :, 0]
    half = model.inference_precision == "bf16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        drawn = model.generator(to_device(mel, model.device), inputs)
    return OnTheWay(faces_of(drawn))
