"""Figures of drawn mouths by themselves: crops before they are pasted into a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from talkingface.clips.redraw import frame_batches
from talkingface.clips.source import Source
from talkingface.lipsync.dubbing.generate import CPU_BATCH, Knowledge, crops_of, heard_at_frames, redrawn
from talkingface.lipsync.dubbing.scene import FaceScene

if TYPE_CHECKING:
    from talkingface.clips.folder import ClipFolder
    from talkingface.lipsync.dubbing.networks import DubbingNetworks


def mouth_scores(model: DubbingNetworks, clips: Sequence[ClipFolder], donors: Sequence[ClipFolder]) -> dict[str, float]:
    """Score drawn mouths of held-out clips; references come from the other half of the clip.

    Args:
        model: the model, in any mode.
        clips: held-out clips.
        donors: for each clip, the clip whose sound drives the shuffled figure.

    Returns:
        `mouth_l1`: mean absolute error of the box of the mouth in grey levels, mean over clips, and the same with
        another voice, `mouth_l1_shuffled`.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # batch norm over a clip's own frames would give other mouths, and move its averages
    try:
        rows = [_clip_errors(model, clip, donor) for clip, donor in zip(clips, donors, strict=True)]
    finally:
        for module, training in modes:
            module.training = training
    own, shuffled = np.mean(rows, axis=0)
    return {"mouth_l1": float(own), "mouth_l1_shuffled": float(shuffled)}


def _clip_errors(model: DubbingNetworks, clip: ClipFolder, donor: ClipFolder) -> tuple[float, float]:
    """Errors of a clip with its own sound and with a donor's."""
    source = Source.from_clip(clip)
    source.held_out = True
    crop, count = model.drawn, min(len(source), len(clip), len(donor))
    scene = FaceScene.look(crops_of(model), source)
    known = Knowledge.of(model, scene, source)
    voices = [heard_at_frames(model.front_end, each.audio(), count) for each in (clip, donor)]
    frames = np.flatnonzero(scene.valid[:count])
    errors: list[list[float]] = [[], []]
    for part in frame_batches(iter(source.frames(frames)), frames, scene.valid, np.arange(len(frames)), CPU_BATCH):
        for found, voice in zip(errors, voices):
            for faces in redrawn(model, scene, known, part, voice[frames]):
                drawn = faces.drawn.numpy().astype(np.float32)
                difference = np.abs(drawn - faces.true)[:, crop.rows, crop.columns]
                found.extend(difference.mean(axis=(1, 2, 3)))
    return float(np.mean(errors[0])), float(np.mean(errors[1]))
