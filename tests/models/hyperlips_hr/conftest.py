"""Prepared clips of HyperLipsHR, made from formulas."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from helpers.drawn_clips import make_clip
from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.faces.crop import relative_landmarks
from talkingface.lipsync.expert.inputs import MEL
from talkingface.models.hyperlips_hr.config import HyperLipsHRConfig
from talkingface.models.hyperlips_hr.data import BOXES
from talkingface.models.hyperlips_hr.steps import lip_boxes

BASE = {
    "crop": {"size": 32, "margin_mode": "relative", "margin": 0.05, "box": "fixed", "rule": "mesh"},
    "generator": {"width": 0.125, "discriminator_width": 0.1},
    "expert": {"width": 0.05, "side": 48},
}


def hr_config(**sections) -> HyperLipsHRConfig:
    given = {"decoder": {"scale": 2, "width": 0.125, "discriminator_width": 0.1}, "base": BASE}
    return HyperLipsHRConfig(**{**given, "loss": {"reconstruction": "l1_gradient"}, **sections})


def hr_clip(root, clip_id: str, config: HyperLipsHRConfig, count: int = 24, weights: str = "aaaa", unseen=()):
    """A clip whose Base faces are blurred true ones; frames `unseen` have no mesh."""
    clip = make_clip(root, clip_id, count, config.crop, mel=MEL)
    faces, track = clip.faces(config.crop.artefact), clip.track()
    steps = dict(clip.meta["steps"])

    def store(name, pictures, size):
        writer = FaceWriter(clip.path, name, "npy")
        for picture in pictures:
            writer.add(picture)
        steps[name] = {"files": list(writer.close(faces.boxes, {**faces.meta, "size": size, "storage": "npy"}))}

    size = config.hr_crop.size
    store(config.hr_crop.artefact, [cv2.resize(faces[k], (size, size)) for k in range(count)], size)
    store("hyper@raw", [cv2.GaussianBlur(faces[k], (5, 5), 0) for k in range(count)], config.crop.size)
    steps["hyper@raw"]["params"] = {"weights": weights}
    points = relative_landmarks(track.points_px, faces.boxes).transpose(0, 2, 1)
    boxes = lip_boxes(points)
    points[list(unseen)] = np.nan
    for name, array in (("hyper_mesh@raw", points), (BOXES, boxes)):
        np.save(clip.path / f"{name}.npy", array.astype(np.float32))
        steps[name] = {"files": [f"{name}.npy"]}
    (clip.path / "clip.json").write_text(json.dumps({**clip.meta, "steps": steps}))
    return ClipFolder(clip.path)


@pytest.fixture(scope="session")
def config():
    return hr_config()


@pytest.fixture(scope="session")
def clips(tmp_path_factory, config):
    root = tmp_path_factory.mktemp("hr")
    return [hr_clip(root, "a/0", config, unseen=(3, 4)), hr_clip(root, "a/1", config)]
