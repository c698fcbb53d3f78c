"""Tiny talking clips for tests: a portrait that moves a few pixels, with a tone; written by our own encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE = 192


def portrait() -> np.ndarray:
    """A face, (H, W, 3) uint8 RGB."""
    from skimage.data import astronaut

    return astronaut()[10 : 10 + SIDE + 24, 120 : 120 + SIDE + 24]


def face_frames(count: int = 8, blank: tuple[int, ...] = (), blurred: tuple[int, ...] = ()) -> list[np.ndarray]:
    """A face that drifts one pixel per frame; no face in the frames `blank`, none that is detected in `blurred`."""
    picture = portrait()
    frames = [np.ascontiguousarray(picture[k % 20 : k % 20 + SIDE, 12 : 12 + SIDE]) for k in range(count)]
    frames = [box_blur(frame) if k in blurred else frame for k, frame in enumerate(frames)]
    return [np.full_like(frame, 90) if k in blank else frame for k, frame in enumerate(frames)]


def box_blur(frame: np.ndarray, width: int = 41) -> np.ndarray:
    """A frame as if the camera had been turned while it was taken."""
    from scipy.ndimage import uniform_filter1d

    return uniform_filter1d(frame, width, axis=1, mode="reflect")


def tone(seconds: float, hertz: float = 220.0) -> np.ndarray:
    """(n,) float32 sound at 16 kHz."""
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)


def write_clip(path: Path, frames: list[np.ndarray] | None = None, audio: np.ndarray | None | str = "tone") -> Path:
    """Write a clip; `audio` None leaves the sound out."""
    from talkingface.media import VideoWriter

    frames = face_frames() if frames is None else frames
    sound = tone(len(frames) / 25) if isinstance(audio, str) else audio
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=25.0, audio=sound) as writer:
        for frame in frames:
            writer.write(frame)
    return path
