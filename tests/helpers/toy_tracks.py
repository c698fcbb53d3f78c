"""Landmark tracks written down by hand, and a sample that carries them: no video, no detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talkingface.evaluation.sample import EvalSample
from talkingface.faces.track import LandmarkTrack


def face(opening=0.0, shift=(0.0, 0.0)):
    """68 points: eyes 40 px apart, mouth 30 px wide, 80 px from chin to brows."""
    points = np.zeros((68, 2))
    points[0:17] = [50, 100]
    points[17:27] = [50, 20]
    points[27:36] = [50, 60]
    points[36:42], points[42:48] = [30, 40], [70, 40]
    points[48:68] = [50, 75]
    points[48], points[54] = [35, 75], [65, 75]
    points[51], points[57] = [50, 70], [50, 80]
    points[62], points[66] = [50, 75 - opening / 2], [50, 75 + opening / 2]
    return points + shift


def track(faces, found=None, size=(120, 100)):
    faces = np.array(faces, np.float32)
    found = np.ones(len(faces), bool) if found is None else np.asarray(found)
    return LandmarkTrack(faces, found, found.copy(), size, layout="ibug68", provider="toy", version="1")


def sample(generated, real, **options):
    options.setdefault("audio", lambda: np.zeros(16000, np.float32))
    return EvalSample(
        "c", "generated", Path("g.mp4"), Path("r.mp4"),
        tracker=lambda path, frames: generated, reference_track=lambda: real, **options,
    )  # fmt: skip


class GivenFrames:
    """Stands in for decoded files: frames by path."""

    def __init__(self, frames):
        self._frames = frames

    def frames(self, path, fps, start=0, stop=None):
        return iter(self._frames[path][start:stop])


def give_frames(clip: EvalSample, generated, reference=None, counterpart=None):
    """Let a sample find these frames instead of decoding its files."""
    clip.kept = GivenFrames({clip.generated: generated, clip.reference: reference, clip.counterpart: counterpart})
    return clip
