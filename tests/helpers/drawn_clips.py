"""Prepared clips made from formulas: a drawn face whose mouth follows the loudness of a tone. No detector, no codec."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.clips.source import Audio, Source
from talkingface.faces import mesh as facemesh
from talkingface.faces.crop import CropConfig, crop_face, face_boxes
from talkingface.faces.detectors import DEFAULT_PLACE
from talkingface.faces.track import LandmarkTrack
from talkingface.models.iplap.generate import NOSE_BRIDGE
from talkingface.sound.mel import melspectrogram

HEIGHT, WIDTH = 120, 128
CENTRE = np.array([64.0, 58.0])
CROP = CropConfig(size=32, margin_mode="relative", margin=0.05)


def opening(count: int, phase: float = 0.0) -> np.ndarray:
    """(F,) mouth opening in pixels, 0 to 12."""
    return 6 - 6 * np.cos(2 * np.pi * (np.arange(count) / 12 + phase))


def mesh(opened: float, shift: float) -> np.ndarray:
    """(478, 2) landmarks of a face in the middle of the frame, moved sideways by `shift` pixels."""
    points = CENTRE + 20 * np.random.default_rng(5).uniform(-1, 1, (478, 2)) * [1, 0.8]
    oval = np.linspace(-np.pi / 2, 1.5 * np.pi, len(facemesh.FACE_OVAL), endpoint=False)
    points[list(facemesh.FACE_OVAL)] = CENTRE + np.stack([34 * np.cos(oval), 44 * np.sin(oval)], axis=1)
    for lips, width, thick in ((facemesh.LIPS_OUTER_20, 13, 4), (facemesh.LIPS_INNER_20, 10, 0.5)):
        angle = np.pi + np.arange(20) * np.pi / 10  # from the left corner over the upper lip and back
        drop = np.where(np.sin(angle) > 0, opened, 0.0)
        points[list(lips)] = CENTRE + np.stack(
            [width * np.cos(angle), 20 + thick * np.sin(angle) + drop * np.abs(np.sin(angle))], axis=1
        )
    for brow, low, high in ((facemesh.RIGHT_BROW_UPPER, -24, -6), (facemesh.LEFT_BROW_UPPER, 6, 24)):
        points[list(brow)] = CENTRE + np.stack([np.linspace(low, high, 5), np.full(5, -22)], axis=1)
    bridge = NOSE_BRIDGE[1:-1]
    points[list(bridge)] = CENTRE + np.stack([np.linspace(28, -28, len(bridge)), np.full(len(bridge), -2)], axis=1)
    jaw = list(facemesh.JAWLINE[8:-8])
    points[jaw, 1] += 0.5 * opened
    return (points + [shift, 0]).astype(np.float32)


def picture(points: np.ndarray, tint: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB: skin, lips and the dark between them."""
    import cv2

    frame = np.full((HEIGHT, WIDTH, 3), (40, 90, 60 + tint), np.uint8)  # no two frames are equal
    for part, colour in (
        (facemesh.FACE_OVAL, (220, 170, 140)),
        (facemesh.LIPS_OUTER_20, (190, 60, 70)),
        (facemesh.LIPS_INNER_20, (40, 10, 10)),
    ):
        cv2.fillPoly(frame, [np.rint(points[list(part)]).astype(np.int32)], colour)
    return frame


def make_clip(
    root: Path,
    clip_id: str,
    count: int = 40,
    crop: CropConfig | None = None,
    speaker: str = "",
    phase: float = 0.0,
    gone: tuple[int, ...] = (),
    mel: str = "mel",
) -> ClipFolder:
    """Write a prepared clip; frames `gone` have no face. `mel` names this artefact."""
    crop = crop or CROP
    faces = crop.artefact
    folder = root / clip_id
    folder.mkdir(parents=True)
    wide = opening(count, phase)
    points = np.stack([mesh(wide[k], 3 * np.sin(k / 9)) for k in range(count)])
    valid = ~np.isin(np.arange(count), gone)
    points[~valid] = np.nan
    LandmarkTrack(points, valid, valid, (HEIGHT, WIDTH)).save(folder / "landmarks.npz")
    loud = np.interp(np.arange(count * 640) / 640, np.arange(count) + 0.5, wide / 12)
    sound = 0.4 * loud * np.sin(2 * np.pi * 300 * np.arange(count * 640) / 16000)
    np.save(folder / f"{mel}.npy", melspectrogram(sound.astype(np.float32)))
    boxes = face_boxes(points, (HEIGHT, WIDTH), crop)
    writer = FaceWriter(folder, faces, "npy")
    for k in range(count):
        writer.add(crop_face(picture(points[k], k), boxes[k], crop.size) if valid[k] else None)
    writer.close(boxes, {**crop.model_dump(), "frame_hw": [HEIGHT, WIDTH]})
    steps = {name: {"files": []} for name in ("landmarks", mel, faces)}
    steps[faces]["files"] = [f"{faces}.npz", f"{faces}.npy"]
    meta = {"format": 1, "clip_id": clip_id, "status": "ok", "frames": count, "fps": 25.0, "speaker": speaker}
    (folder / "clip.json").write_text(json.dumps({**meta, "steps": steps}))
    return ClipFolder(folder)


class DrawnSource:
    """A source that draws its frames: stands for `talkingface.clips.source.Source` without any file."""

    prepared, _begin = None, 0

    def __init__(self, count: int = 20, gone: tuple[int, ...] = (), phase: float = 0.0) -> None:
        self.path, self.fps, self.size = Path("drawn.mp4"), 25.0, (HEIGHT, WIDTH)
        self.is_image, self.reference, self.held_out, self.place = count == 1, None, False, DEFAULT_PLACE
        wide = opening(count, phase)
        points = np.stack([mesh(wide[k], 3 * np.sin(k / 9)) for k in range(count)])
        self.pictures = [picture(p, k) for k, p in enumerate(points)]
        valid = ~np.isin(np.arange(count), gone)
        points[~valid] = np.nan
        self.track = LandmarkTrack(points, valid.copy(), valid, (HEIGHT, WIDTH))
        self.held, self.most_held = 0, 0

    def __len__(self) -> int:
        return len(self.pictures)

    once, starting_at = Source.once, Source.starting_at

    def order(self, n: int) -> np.ndarray:
        position = (self._begin + np.arange(n)) % (2 * len(self))
        return np.where(position < len(self), position, 2 * len(self) - 1 - position)

    def frames(self, order=None):
        for index in range(len(self)) if order is None else order:
            yield self.pictures[int(index)].copy()

    def read(self, indices):
        return [self.pictures[int(index)].copy() for index in indices]

    def landmarks(self, provider=None) -> LandmarkTrack:
        return self.track

    def opacity(self) -> np.ndarray | None:
        return None


def speech_then_noise() -> np.ndarray:
    """2 s of a voice, then 4 s of a room whose noise lies 40 dB below it, (n,) float32 at 16 kHz."""
    loud = np.repeat([0.2, 0.002], [32000, 64000])
    return (loud * np.random.default_rng(0).standard_normal(96000)).astype(np.float32)


class Speech(Audio):
    """A tone that swells and fades."""

    def __init__(self, seconds: float) -> None:
        time = np.arange(round(16000 * seconds)) / 16000
        super().__init__((0.3 * np.sin(2 * np.pi * 300 * time) * (time % 0.5 < 0.3)).astype(np.float32))
