"""Prepared clips of a face that speaks: a mouth that opens with the loudness of its sound. No video, no detector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.faces import mesh as facemesh
from talkingface.faces.track import LandmarkTrack
from talkingface.lipsync.expert.inputs import CROP

SIDE = 48
# Of the chance alarm: few clips and windows scatter more than the thousands behind the usual limits.
ALARM = {"windows": 1200, "chance": 0.15, "gap": 0.08, "flat": 0.1, "fit_windows": 64, "fit_steps": 60}
FACE = np.array([150, 120, 110])


def loudness(frames: int, rng: np.random.Generator) -> np.ndarray:
    """(F + 5,) smooth random loudness in 0 to 1, one value per frame."""
    noise = rng.normal(size=frames + 30)
    smooth = np.convolve(noise, np.hanning(5), "same")[10 : 10 + frames + 5]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def mel_of(loud: np.ndarray, rng: np.random.Generator, columns: int, noise: float = 0.1) -> np.ndarray:
    """(80, columns) mel in [-4, 4]: a fixed spectrum that swells with the loudness."""
    at = np.interp(np.arange(columns) * 25 / 80, np.arange(len(loud)), loud)
    spectrum = 1.5 * np.sin(np.arange(80) / 9)
    return np.clip(3 * at - 1.5 + spectrum[:, None] + noise * rng.normal(size=(80, columns)), -4, 4).astype(np.float32)


def faces_of(loud: np.ndarray, rng: np.random.Generator, size: int = SIDE, noisy: bool = False) -> np.ndarray:
    """(F, S, S, 3) uint8 RGB crops: a dark mouth in the lower half, as high as it is loud; `noisy`: it trembles."""
    trembling, depth, grain = (1.0, 60, 8) if noisy else (0.0, 90, 3)
    faces = np.tile(FACE + rng.integers(-25, 25, 3), (len(loud), size, size, 1))
    rows, columns = np.mgrid[:size, :size]
    for face, value in zip(faces, loud, strict=True):
        down, right = np.array([3 * size / 4, size / 2]) + trembling * rng.normal(size=2)
        face[((rows - down) / (1 + value * size / 8)) ** 2 + ((columns - right) / (size / 4)) ** 2 < 1] -= depth
    return np.clip(faces + rng.integers(-grain, grain + 1, faces.shape), 0, 255).astype(np.uint8)


def track_of(loud: np.ndarray) -> LandmarkTrack:
    """Landmarks whose mouth opening is the loudness; nothing else is in its place."""
    points = np.full((len(loud), 478, 2), 64.0, np.float32)
    points[:, facemesh.FOREHEAD], points[:, facemesh.CHIN] = (64, 20), (64, 108)
    points[:, facemesh.INNER_LIP_TOP], points[:, facemesh.INNER_LIP_BOTTOM, 1] = (64, 80), 80 + 20 * loud
    good = np.ones(len(loud), bool)
    return LandmarkTrack(points, good, good, (128, 128))


def make_sync_clip(
    root: Path,
    clip_id: str,
    seed: int,
    frames: int = 60,
    *,
    strange_sound: bool = False,
    silent: bool = False,
    still: bool = False,
    noisy: bool = False,
    gone: Sequence[int] = (),
    size: int = SIDE,
    speaker: str = "",
) -> ClipFolder:
    """Write a prepared clip.

    Args:
        root: folder of the clips.
        clip_id: its name.
        seed: of everything random.
        frames: length.
        strange_sound: the sound is that of another clip.
        silent: there is no sound but a moment at the end.
        still: the picture never changes.
        noisy: picture and sound are harder to read.
        gone: frames without a face.
        size: side of the crops.
        speaker: who speaks.
    """
    rng = np.random.default_rng(seed)
    loud = loudness(frames, rng)
    heard = loudness(frames, np.random.default_rng(seed + 1000)) if strange_sound else loud
    mel = mel_of(heard, rng, frames * 16 // 5 + 1, 0.5 if noisy else 0.1)
    if silent:
        mel[:, :-20] = -4.0
    folder = root / clip_id
    folder.mkdir(parents=True)
    np.save(folder / "mel@reflect.npy", mel)
    track_of(loud[:frames]).save(folder / "landmarks.npz")
    faces = faces_of(np.zeros(frames) if still else loud[:frames], rng, size, noisy)
    faces = np.repeat(faces[:1], frames, axis=0) if still else faces
    boxes = np.tile(np.array([10, 10, 100, 100], np.float32), (frames, 1))
    boxes[list(gone)] = np.nan
    crop = CROP.model_copy(update={"size": size})
    writer = FaceWriter(folder, crop.artefact, "npy")
    for index, face in enumerate(faces):
        writer.add(None if index in gone else face)
    files = writer.close(boxes, {**crop.model_dump(), "frame_hw": [128, 128]})
    packed = {"params": crop.model_dump(), "files": list(files)}
    steps = {"landmarks": {"files": []}, "mel@reflect": {"files": []}, crop.artefact: packed}
    meta = {"format": 1, "clip_id": clip_id, "status": "ok", "frames": frames, "fps": 25.0, "speaker": speaker}
    (folder / "clip.json").write_text(json.dumps({**meta, "steps": steps}))
    return ClipFolder(folder, clip_id=clip_id)


def people(root: Path, count: int, first: int = 0, **options: Any) -> list[ClipFolder]:
    """`count` clips of as many people; options of `make_sync_clip`."""
    return [make_sync_clip(root, f"c{n:03d}", n, speaker=f"p{n}", **options) for n in range(first, first + count)]


def train_expert(run: Path, clips: dict[str, list[ClipFolder]], steps: int = 48, **overrides: Any) -> Path:
    """Train a very small SyncNet with the shared trainer; returns the run folder."""
    import torch

    from talkingface.models.syncnet.model import SyncNet
    from talkingface.plugin.configuration import load_config
    from talkingface.training.trainer import Trainer
    from talkingface.weights.runs import RunFolder

    options = {
        **{"profile": "tiny", "device": "cpu", "show_progress": False, "tensorboard": False, "max_steps": steps},
        **{"batch_size": 4, "stages.expert.data.windows": 8, "stages.expert.validate_every.steps": steps},
        **{"learning_rate": 1.5e-3, "model.expert.width": 0.125, "model.expert.sweep_clips": 6, "log_every": 5},
        **{f"model.expert.alarm.{key}": value for key, value in ALARM.items()},
    }
    config = load_config("SyncNet", "demo", (), {**options, **overrides}).config
    torch.manual_seed(config.seed)
    folder = RunFolder(run)
    folder.set_status("running")
    Trainer(config, SyncNet(config.model), clips, folder).fit()
    folder.set_status("finished")
    return run
