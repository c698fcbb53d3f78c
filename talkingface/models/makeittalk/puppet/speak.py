"""A puppet speaks: from the voice to landmarks in the pixels of its drawing, and to frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talkingface.clips.openers import SourceKind, register_source
from talkingface.clips.source import Source
from talkingface.faces.track import LandmarkTrack
from talkingface.models.makeittalk.motion import (
    PUPPET_WINDOWS,
    ROWS_PER_SECOND,
    blink_centres,
    blinking,
    rows_before,
    smoothed,
)
from talkingface.models.makeittalk.pose import LinearPose, Pose
from talkingface.models.makeittalk.puppet.puppet import Puppet, find_puppet, load_puppet, needed_puppet
from talkingface.models.makeittalk.puppet.warp import PuppetWarp
from talkingface.models.makeittalk.space import PUPPET_DEPTH
from talkingface.sound.rows import held_at

if TYPE_CHECKING:
    from talkingface.clips.source import Audio
    from talkingface.models.makeittalk.parts import MakeItTalkNetworks


class PuppetSource(Source):
    """A puppet as a source: its picture, and what moves it.

    Attributes:
        puppet: as it lies on the disk.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Open the picture, or the folder, of a puppet.

        Raises:
            DataError: a file of it is damaged.
            MediaError: its picture is damaged.
        """
        self.puppet = load_puppet(path)
        super().__init__(self.puppet.files.picture, fps)
        self.background = self.puppet.files.background
        there, points = np.ones(1, bool), self.puppet.points[None].astype(np.float32)
        self._landmarks = LandmarkTrack(points, there, there.copy(), self.puppet.size, layout="ibug68", provider="file")

    def opacity(self) -> np.ndarray | None:
        """See `Source.opacity`."""
        return None if (self.puppet.opacity == 255).all() else self.puppet.opacity


PUPPET = register_source(
    SourceKind(
        "puppet",
        "a folder with the picture and the files of one puppet",
        lambda path: find_puppet(path) is not None,
        lambda path: needed_puppet(path).picture,
        PuppetSource,
    )
)


def puppet_frames(
    model: MakeItTalkNetworks, source: PuppetSource, audio: Audio
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (H, W, 3) uint8 RGB on white, opacity (H, W) and landmarks (68, 2) for every frame wanted of the audio.

    Args:
        model: with a front end.
        source: the puppet.
        audio: what it says.
    """
    settings = model.config.inference.puppet
    draw = source.once(model, "warp", lambda: PuppetWarp(source.puppet, settings.anchor, settings.interior))
    moved = puppet_points(model, audio, source.puppet)
    for points in held_at(moved, audio.rows(source.fps) / source.fps * ROWS_PER_SECOND):
        yield *draw(points), points


def puppet_points(model: MakeItTalkNetworks, audio: Audio, puppet: Puppet) -> np.ndarray:
    """Landmarks (T, 68, 2) of a puppet that speaks in pixels of its drawing, 62.5 per second."""
    settings, canonical = model.config.inference, model.canonical()
    closed = puppet.placement.denormalise(puppet.closed)[:, :2]
    # Published weights know puppets by their jaw, as their files say; a pose that is fitted knows more points.
    pose: Pose = puppet.placement if settings.align == "published" else LinearPose.upright(closed, canonical)
    face = pose.normalise(closed, PUPPET_DEPTH * canonical[:, 2])
    faces = pose.denormalise(model.faces_of(audio, face, settings.head != "none"))
    if settings.puppet.blinks:
        centres = blink_centres(len(faces), settings.blink_seed, settings.puppet.blinks, rows_before(audio))
        faces = blinking(faces, centres)
    return smoothed(faces.reshape(len(faces), -1), PUPPET_WINDOWS).reshape(faces.shape)[..., :2]
