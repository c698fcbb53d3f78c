"""Moving sound in time."""

from __future__ import annotations

import numpy as np

from talkingface.sound import SAMPLE_RATE


def move_sound(audio: np.ndarray, offset: int, fps: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Undo an offset: at a positive one the sound starts later by so many frames, at a negative one earlier.

    The length stays: what leaves at one end is cut, and silence fills the other.
    """
    moved = np.zeros_like(audio)
    samples = min(round(abs(offset) * sample_rate / fps), len(audio))
    kept = len(audio) - samples
    if offset >= 0:
        moved[samples:] = audio[:kept]
    else:
        moved[:kept] = audio[samples:]
    return moved
