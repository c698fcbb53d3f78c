"""Faces that follow the canonical one: tracks, sources and prepared clips made from formulas, for MakeItTalk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from helpers.drawn_clips import DrawnSource
from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.clips.source import Audio
from talkingface.config.sections import PreprocessConfig
from talkingface.faces.detectors import DEFAULT_PLACE
from talkingface.faces.track import LandmarkTrack
from talkingface.media import write_wav
from talkingface.models.makeittalk.canonical import canonical_face
from talkingface.models.makeittalk.clip_faces import canonical_faces, crop_head, head_box
from talkingface.models.makeittalk.config import MakeItTalkConfig

HEIGHT, WIDTH, SCALE, CENTRE = 160, 176, 40.0, np.array([88.0, 62.0])
LOWER = [55, 56, 57, 58, 59, 65, 66, 67, 6, 7, 8, 9, 10]

SMALL = {
    "content": {"hidden": 16, "prior": 8, "depth": 1, "dropout": 0.0},
    "speaker": {"hidden": 8, "depth": 1, "dropout": 0.0, "code": 8, "width": 4, "layers": 1, "window": 8,
                "transformer_dropout": 0.0, "stride": 4},
    "translate": {"size": 32, "num_downs": 2, "width": 4},
    "loss": {"reconstruction": "l1_gradient"},
}  # fmt: skip


def small_config(**sections) -> MakeItTalkConfig:
    """A model in its smallest size; `sections` change some of it."""
    return MakeItTalkConfig(**{**SMALL, **{name: {**SMALL.get(name, {}), **part} for name, part in sections.items()}})


def opening(count: int, phase: float = 0.0) -> np.ndarray:
    """(F,) mouth opening in eye distances."""
    return 0.06 - 0.06 * np.cos(2 * np.pi * (np.arange(count) / 12 + phase))


def turn(yaw: float, roll: float) -> np.ndarray:
    """(3, 3) rotation by radians."""
    a, b = np.cos([yaw, roll]), np.sin([yaw, roll])
    around_y = np.array([[a[0], 0, b[0]], [0, 1, 0], [-b[0], 0, a[0]]])
    around_z = np.array([[a[1], -b[1], 0], [b[1], a[1], 0], [0, 0, 1]])
    return around_z @ around_y


def faces_3d(count: int, phase: float = 0.0, moving: bool = True) -> np.ndarray:
    """(F, 68, 3) pixels: the canonical face opens its mouth, and its head sways."""
    wide = opening(count, phase)
    faces = np.repeat(canonical_face()[None], count, axis=0)
    faces[:, LOWER, 1] += wide[:, None]
    if moving:
        turns = [turn(0.1 * np.sin(k / 7), 0.05 * np.sin(k / 5)) for k in range(count)]
        faces = np.stack([face @ rotation.T for face, rotation in zip(faces, turns, strict=True)])
    faces = SCALE * faces
    faces[..., :2] += CENTRE
    return faces


def track_of(faces: np.ndarray, gone: tuple[int, ...] = (), depth: bool = True) -> LandmarkTrack:
    """A track of faces (F, 68, 3)."""
    there = ~np.isin(np.arange(len(faces)), gone)
    points = faces.astype(np.float32).copy()
    points[~there] = np.nan
    return LandmarkTrack(
        np.ascontiguousarray(points[..., :2]), there, there.copy(), (HEIGHT, WIDTH), layout="ibug68",
        depth_px=np.ascontiguousarray(points[..., 2]) if depth else None,
    )  # fmt: skip


def picture(face: np.ndarray, tint: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 RGB: background with a pattern, skin, lips and the dark between them."""
    import cv2

    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frame = np.stack([90 + 40 * np.sin(x / 9), 90 + 40 * np.cos(y / 7), np.full_like(x, 60.0 + tint)], axis=-1)
    frame = frame.astype(np.uint8)
    outline = np.concatenate([face[:17], face[26:16:-1] - [0, 12, 0][: face.shape[1]]])
    parts = ((outline, (220, 170, 140)), (face[48:60], (190, 60, 70)), (face[60:68], (40, 10, 10)))
    for points, colour in parts:
        cv2.fillPoly(frame, [np.rint(points[:, :2]).astype(np.int32)], colour)
    return frame


def sound_of(count: int, phase: float = 0.0) -> np.ndarray:
    """A tone as loud as the mouth is open, (n,) float32 at 16 kHz."""
    wide = opening(count, phase) / 0.12
    loud = np.interp(np.arange(count * 640) / 640, np.arange(count), wide)
    return (0.4 * loud * np.sin(2 * np.pi * 220 * np.arange(count * 640) / 16000)).astype(np.float32)


def speaking_model(**inference):
    """A model whose random networks move lips and head visibly, in eval mode and bound."""
    import torch

    from talkingface.models.makeittalk.model import MakeItTalk

    torch.manual_seed(0)
    model = MakeItTalk(small_config(inference={"batch": 3, **inference})).eval()
    torch.nn.init.normal_(model.content_branch.network.fc[-1].weight, std=0.05)
    for branch in (model.content_branch, model.speaker_branch):
        branch.set_scale(torch.full((80,), 0.3), torch.full((80,), 0.2))
    model.bind("checkpoints", "cpu")
    return model


def voice(seconds: float) -> Audio:
    """A tone that swells and fades."""
    return Audio(sound_of(200)[: round(16000 * seconds)])


def make_clip(
    root: Path, clip_id: str, count: int = 40, config: MakeItTalkConfig | None = None, phase: float = 0.0,
    gone: tuple[int, ...] = (), speaker: str = "",
) -> ClipFolder:  # fmt: skip
    """Write a prepared clip with everything that MakeItTalk reads."""
    config = config or small_config()
    folder = root / clip_id
    folder.mkdir(parents=True)
    faces = faces_3d(count, phase)
    track = track_of(faces, gone)
    track.save(folder / "landmarks.npz")
    sound, front_end = sound_of(count, phase), config.sound.build()
    write_wav(folder / "audio.wav", sound)
    rows, artefact = front_end.extract(sound), config.sound.artefact
    np.save(folder / f"{artefact}.npy", rows)
    np.save(folder / f"{artefact}.vector.npy", front_end.vector(sound))
    np.save(folder / f"{config.faces_artefact}.npy", canonical_faces(track, canonical_face(), 7, 5))
    size, box = config.translate.size, head_box(track.ibug68()[track.valid])
    writer = FaceWriter(folder, config.heads_artefact, PreprocessConfig().storage)
    for face, there in zip(faces, track.valid, strict=True):
        writer.add(crop_head(picture(face), box, size) if there else None)
    boxes = np.where(track.valid[:, None], box, np.nan)
    heads = writer.close(boxes, {"size": size, "frame_hw": [HEIGHT, WIDTH]}, track.found)
    steps = {
        "audio": {"files": ["audio.wav"]},
        "landmarks": {"files": ["landmarks.npz"]},
        artefact: {
            "files": [f"{artefact}.npy", f"{artefact}.vector.npy"],
            "facts": {"rows_per_second": front_end.rows_per_second, "first_row": front_end.first_row},
            "params": {"made_by": front_end.fingerprint()},
        },
        config.faces_artefact: {"files": [f"{config.faces_artefact}.npy"]},
        config.heads_artefact: {"files": list(heads)},
    }
    meta = {"format": 1, "clip_id": clip_id, "status": "ok", "frames": count, "fps": 25.0, "speaker": speaker}
    (folder / "clip.json").write_text(json.dumps({**meta, "steps": steps}))
    return ClipFolder(folder)


class CanonicalSource(DrawnSource):
    """A source that draws its frames; one frame: a picture."""

    def __init__(self, count: int = 20, gone: tuple[int, ...] = (), phase: float = 0.0, roll: float = 0.0) -> None:
        self.path, self.fps, self.size = Path("drawn.mp4"), 25.0, (HEIGHT, WIDTH)
        self.is_image, self.reference, self.held_out, self.place = count == 1, None, False, DEFAULT_PLACE
        faces = faces_3d(count, phase, moving=count > 1)
        if roll:
            middle = np.array([*CENTRE, 0])
            faces = (faces - middle) @ turn(0, roll).T + middle
        self.pictures = [picture(face, k) for k, face in enumerate(faces)]
        self.track = track_of(faces, gone)
