"""Phonemes to mouth movement: four tracks per frame that the renderer follows and that tests read as ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

_TRACK_RATE = 200  # Hz at which tracks are written before they are sampled at the frame times
_ANTICIPATION = 0.030  # seconds by which lips lead the sound
_SIGMA = (0.035, 0.050, 0.018, 0.020)  # seconds for o, d, p, t: the jaw is slow, the lips are fast

# phonemes -> (jaw opening o, width d, lip press p, lower-lip tuck t)
_SHAPES: tuple[tuple[str, tuple[float, float, float, float]], ...] = (
    ("m b p", (0, 0, 1, 0)),
    ("f v", (0.10, 0.1, 0, 1)),
    ("w u ʊ y ʍ", (0.22, -1, 0, 0)),
    ("o ɔ ɒ oʊ əʊ ɔɪ oː", (0.50, -0.75, 0, 0)),
    ("a ɑ ʌ aɪ aʊ ɐ", (0.95, 0.05, 0, 0)),
    ("æ", (0.80, 0.4, 0, 0)),
    ("e ɛ eɪ", (0.55, 0.5, 0, 0)),
    ("i ɪ j", (0.28, 0.75, 0, 0)),
    ("ə ɚ ɜ ɝ ᵻ", (0.38, 0, 0, 0)),
    ("t d n l s z θ ð r ɹ ɾ ʔ", (0.22, 0.15, 0, 0)),
    ("ʃ ʒ tʃ dʒ", (0.22, -0.5, 0, 0)),
    ("k g ɡ ŋ h x", (0.32, 0.05, 0, 0)),
)
_SILENCE = (0.0, 0.0, 0.15, 0.0)
VISEMES: dict[str, tuple[float, float, float, float]] = {n: shape for names, shape in _SHAPES for n in names.split()}


@dataclass(frozen=True)
class MouthTracks:
    """Ground truth of one clip, one value per frame (F,).

    `jaw` o in 0..1, `width` d in -1 (round) .. +1 (spread), `press` p in 0..1, `tuck` t in 0..1, `blink` in 0..1;
    `pose` (F, 5): yaw, pitch, roll in degrees, x and y shift in face heights. `opening` and `mouth_width` are what a
    landmark detector should measure: |13 - 14| and |61 - 291| over the face height |10 - 152| of the drawn face.
    """

    jaw: np.ndarray
    width: np.ndarray
    press: np.ndarray
    tuck: np.ndarray
    fps: float = 25.0
    blink: np.ndarray | None = None
    pose: np.ndarray | None = None
    opening: np.ndarray | None = None
    mouth_width: np.ndarray | None = None
    phonemes: list[tuple[float, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.jaw)


def viseme(phoneme: str) -> tuple[float, float, float, float]:
    """(o, d, p, t) of a phoneme; unknown strings lose trailing characters until known, else count as silence."""
    name = phoneme.strip("ˈˌ")
    while name:
        if name in VISEMES:
            return VISEMES[name]
        name = name[:-1]
    return _SILENCE


def mouth_tracks(phonemes: list[tuple[float, str]], frames: int, fps: float = 25.0) -> MouthTracks:
    """Turn (start, phoneme) pairs into the four tracks at the times of `frames` frames.

    The piecewise-constant shapes are written at 200 Hz, smoothed, moved 30 ms earlier, and the jaw is multiplied by
    (1 - 0.9 press) so that bilabials really close.
    """
    steps = int(np.ceil(frames / fps * _TRACK_RATE)) + 1
    raw = np.tile(np.array(_SILENCE), (steps, 1))
    starts = [start for start, _ in phonemes] + [np.inf]
    for (start, name), end in zip(phonemes, starts[1:], strict=True):
        last = steps if np.isinf(end) else round(end * _TRACK_RATE)
        raw[round(start * _TRACK_RATE) : last] = viseme(name)
    smooth = [gaussian_filter1d(raw[:, i], _SIGMA[i] * _TRACK_RATE, mode="nearest") for i in range(4)]
    at = np.arange(frames) / fps + _ANTICIPATION
    time = np.arange(steps) / _TRACK_RATE
    jaw, width, press, tuck = (np.interp(at, time, track) for track in smooth)
    return MouthTracks(jaw * (1 - 0.9 * press), width, press, tuck, fps, phonemes=list(phonemes))
