"""Prepared clips for DINet and LawDNet without a face: each picture shows the number of its frame as a grey level."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from talkingface.clips.face_store import FaceWriter
from talkingface.clips.folder import ClipFolder
from talkingface.lipsync.dubbing.config import DubbingCropConfig, DubbingDataConfig
from talkingface.sound.front_ends import LogMelFrontEnd

CONFIG = DubbingDataConfig(crop=DubbingCropConfig(width=80))


def make_clip(
    root: Path,
    clip_id: str = "s/1",
    count: int = 60,
    gone: tuple[int, ...] = (),
    bridged: tuple[int, ...] = (),
    config: DubbingDataConfig = CONFIG,
    rows: int | None = None,
    signal: np.ndarray | None = None,
    **meta: object,
) -> ClipFolder:
    """Write one; frames `gone` have no face, those `bridged` none that was detected; row k of its features is k.

    With a `signal` (F,) in [0, 1], pictures and rows follow it instead of the number.
    """
    folder, crop, front = root / clip_id, config.crop, config.audio.generator_features
    folder.mkdir(parents=True)
    frames, (height, width) = np.arange(count), crop.size_hw
    valid = ~np.isin(frames, gone)
    writer = FaceWriter(folder, crop.artefact, "npy")
    for k in frames:
        shade = k if signal is None else round(255 * signal[k])
        writer.add(np.full((height, width, 3), shade, np.uint8) if valid[k] else None)
    boxes = np.where(valid[:, None], [0.0, 0.0, width, height], np.nan)
    matrices = np.where(valid[:, None, None], np.eye(3)[:2], np.nan)
    described = {**crop.model_dump(), "size_hw": [height, width], "frame_hw": [height, width]}
    files = writer.close(boxes, described, valid & ~np.isin(frames, bridged), matrices)
    steps = {crop.artefact: {"files": list(files)}, front.artefact: {"files": [f"{front.artefact}.npy"]}}
    rows = 2 * count if rows is None else rows
    heard = np.arange(rows) if signal is None else np.repeat(2 * signal - 1, 2)
    np.save(folder / f"{front.artefact}.npy", np.tile(heard.astype(np.float32)[:, None], (1, 29)))
    steps[front.artefact]["facts"] = {"rows_per_second": 50.0, "first_row": LogMelFrontEnd.first_row}
    facts = {"format": 1, "clip_id": clip_id, "status": "ok", "frames": count, "fps": 25.0, "steps": steps}
    (folder / "clip.json").write_text(json.dumps({**facts, **meta}))
    return ClipFolder(folder)
