"""Videos that the tests of preprocessing share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.clips import face_frames, write_clip


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> dict[str, Path]:
    """One video of each kind."""
    root = tmp_path_factory.mktemp("videos")
    (root / "broken.mp4").write_bytes(b"not a video" * 50)
    (root / "empty.mp4").write_bytes(b"")
    return {
        "good": write_clip(root / "good.mp4", face_frames(12, blurred=(4, 5))),
        "faceless": write_clip(root / "faceless.mp4", face_frames(6, blank=tuple(range(6)))),
        "half": write_clip(root / "half.mp4", face_frames(10, blank=tuple(range(3, 10)))),
        "mute": write_clip(root / "mute.mp4", face_frames(6), audio=None),
        "silent": write_clip(root / "silent.mp4", face_frames(6), audio=np.zeros(16000 // 4, np.float32)),
        "broken": root / "broken.mp4",
        "empty": root / "empty.mp4",
        "missing": root / "missing.mp4",
    }


@pytest.fixture(scope="session")
def slide(tmp_path_factory) -> Path:
    """A face, then a picture without one, then the face again."""
    return write_clip(tmp_path_factory.mktemp("slide") / "slide.mp4", face_frames(12, blank=(4, 5)))
