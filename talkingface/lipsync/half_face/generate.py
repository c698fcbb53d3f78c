"""Generation: face boxes of the source, references, faces redrawn in batches, pasted back.

Boxes are held for the whole video (a few bytes per frame), pictures for one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from talkingface.clips.redraw import FrameBatch, frame_batches
from talkingface.clips.source import report_missing
from talkingface.devices import OnTheWay, in_flight
from talkingface.faces.crop import crop_faces
from talkingface.lipsync.continuity import Continuity
from talkingface.lipsync.half_face.draw import Drawer
from talkingface.lipsync.half_face.paste import Paster
from talkingface.lipsync.half_face.scene import Reference, Scene, choose_references, with_references
from talkingface.sound.mel import MEL_WIDTH, MelConfig, cut_mel, frame_columns, melspectrogram

if TYPE_CHECKING:
    from talkingface.clips.source import Audio, Source
    from talkingface.lipsync.half_face.draw import HalfFaceNetworks

# Frames per pass. Published: 128. At 96 px Wav2Lip's largest map of the published width is 2.9 MB per frame.
CPU_BATCH, GPU_BATCH = 16, 128
SHORTEST = 3200  # samples, 0.2 s: less has no whole mel window


@torch.no_grad()
def generate(model: HalfFaceNetworks, source: Source, audio: Audio) -> Iterator[np.ndarray]:
    """Yield one full frame, uint8 RGB (H, W, 3), per video frame of the audio, or per frame wanted of it.

    Frames without a face pass through as they are and are reported once; a face that was missed for up to a second is
    interpolated where the picture goes on. Outside the pasted region every frame equals the source exactly.

    Raises:
        NoFaceError: the source or its reference shows no face, or some frames do not and `no_face` is `error`.
        MediaError: the configured box does not lie in the frame.
        DataError: weights that pasting needs are not there.
    """
    settings = model.config.inference
    scene = source.once(model, "scene", lambda: Scene.look(model.config, source, settings.box))
    count, rows = audio.n_frames(source.fps), audio.rows(source.fps)
    order = np.zeros(count, np.int64) if settings.static else np.asarray(source.order(count))
    report_missing(scene.valid, order[rows], str(source.path), settings.no_face)
    mel = spectrogram(audio.samples)
    faces = _Faces(
        scene=scene,
        references=source.once(model, "references", lambda: choose_references(model.config, source, scene)),
        mel=mel,
        first=chunk_starts(count, source.fps, mel.shape[1], settings.mel_offset),
        size=model.config.crop.size,
    )
    paster = audio.going_on("paster", lambda: Paster.of(model, scene, source))
    drawer = audio.going_on("drawer", lambda: model.drawer(paster.above, source.fps))
    continuity = audio.going_on("continuity", Continuity)
    batch = settings.batch or (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    parts = frame_batches(iter(source.frames(order[rows])), order, scene.valid, rows, batch)
    drawn = ((part, _draw(drawer, continuity, faces, part)) for part in parts)
    for part, redrawn in in_flight(drawn, model.device):
        if redrawn is not None:
            paster.paste(part, redrawn.numpy())
        yield from part.pictures


class _Faces(NamedTuple):
    """What the faces of a video are drawn from; `first` are the frames' windows in the `mel` (80, L)."""

    scene: Scene
    references: list[Reference]
    mel: np.ndarray
    first: np.ndarray
    size: int


def _draw(drawer: Drawer, continuity: Continuity, faces: _Faces, part: FrameBatch) -> OnTheWay | None:
    """The faces of some frames redrawn, None where there is no face."""
    follows = np.zeros(len(part.faces), bool)
    if drawer.remembers:
        follows = continuity.follow(part.pictures, part.shown, part.faces)
    if not len(part.faces):
        return None
    shown = part.shown[part.faces]
    boxes = faces.scene.boxes[shown]
    crops = crop_faces([part.pictures[k] for k in part.faces], boxes, faces.size)
    references = with_references(crops, faces.references, shown)
    return drawer(crops, references, cut_mel(faces.mel, faces.first[part.rows[part.faces]]), follows, boxes)


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Mel (80, L) of a waveform (n,), with the padding that Wav2Lip's published weights were trained with."""
    if len(samples) < SHORTEST:
        samples = np.pad(samples, (0, SHORTEST - len(samples)))
    return melspectrogram(samples, MelConfig(pad_mode="reflect"))


def chunk_starts(count: int, fps: float, columns: int, offset: int = 0) -> np.ndarray:
    """First mel columns (count,) of the frames' windows: int(80 i / fps), and as published no window leaves the mel.

    The last 0.2 s share the last whole window; with an `offset` (see `frame_columns`) the first frame moves likewise.
    """
    return np.clip(frame_columns(np.arange(count), fps, offset), 0, columns - MEL_WIDTH)
