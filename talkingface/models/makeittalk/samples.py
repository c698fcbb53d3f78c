"""Videos of clips that have none: what they hear, spoken by a portrait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talkingface.clips.folder import ClipFolder
from talkingface.demo.portrait import BUILTIN, builtin_portrait, crop_portrait
from talkingface.evaluation.report.result import safe_name
from talkingface.faces.mesh import to_ibug68
from talkingface.media import VideoWriter, synthetic_comment
from talkingface.models.makeittalk.generate import portrait_points
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND
from talkingface.models.makeittalk.portraits import Portrait
from talkingface.models.makeittalk.render import Painter
from talkingface.sound.rows import Rows, held_at

if TYPE_CHECKING:
    from talkingface.models.makeittalk.parts import MakeItTalkNetworks

_SIDE = 256  # pixels of the videos


def write_samples(model: MakeItTalkNetworks, clips: Sequence[ClipFolder], folder: Path) -> None:
    """One video for each clip, with its sound where it has one.

    Args:
        model: in eval mode.
        clips: with rows of sound as the model hears them.
        folder: for the videos.
    """
    portrait = _portrait()
    for clip in clips:
        rows = clip.features(model.config.sound.artefact)
        sound = clip.audio() if clip.has("audio") else None
        fps = model.config.inference.fps
        output, comment = folder / f"{safe_name(clip.clip_id)}.mp4", synthetic_comment("MakeItTalk")
        with VideoWriter(output, fps=fps, audio=sound, comment=comment) as writer:
            moved = _spoken(model, rows, portrait.points)
            times = np.arange(int(len(moved) / ROWS_PER_SECOND * fps)) / fps
            for frame in Painter(model, portrait).speaking(held_at(moved, times * ROWS_PER_SECOND)):
                writer.write(frame)


def _spoken(model: MakeItTalkNetworks, rows: Rows, points: np.ndarray) -> np.ndarray:
    """Landmarks (T, 68, 2) of the portrait over time."""
    head = None if model.config.inference.head == "none" else rows.vector
    return portrait_points(model, points, lambda face: model.faces_from(rows.values, head, face))


def _portrait() -> Portrait:
    """A portrait whose landmarks are known: no detector is needed."""
    # The one whose lips are closed.
    known = crop_portrait(builtin_portrait(BUILTIN[-1]), _SIDE)
    return Portrait(known.image, to_ibug68(known.points)[:, :2])
