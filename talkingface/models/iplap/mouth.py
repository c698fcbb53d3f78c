"""IPLAP's first stage at inference: lips and jaws of every output frame, predicted a stretch at a time.

Only what belongs to one stretch of `CHUNK` frames is held, so memory does not grow with the length of the audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.signal import savgol_filter

from talkingface.faces.boxes import runs
from talkingface.models.iplap.data import CONTENT, POSE
from talkingface.models.iplap.points import ClipPoints
from talkingface.sound.mel import COLUMNS_PER_SECOND, cut_mel

if TYPE_CHECKING:
    from talkingface.clips.source import Audio
    from talkingface.models.iplap.parts import IPLAPNetworks
    from talkingface.models.iplap.references import ReferenceGroup

CHUNK = 256  # output frames per pass


@dataclass(frozen=True)
class Timeline:
    """Which landmarks and which sound belong to the window around every output frame.

    Attributes:
        order: (n,) source frame shown at each output frame.
        shown: (n,) the same with frames without a face replaced by the nearest frame with one.
        fps: frame rate of the output.
        base: frame rate the networks know: the entries of a window lie 1 / `base` seconds apart.
        window: T, entries per window.
    """

    order: np.ndarray
    shown: np.ndarray
    fps: float
    base: float
    window: int

    @classmethod
    def of(cls, valid: np.ndarray, order: np.ndarray, fps: float, window: int, base: float | None = None) -> Timeline:
        """Timeline of a source whose frames `valid` (F,) have a face; `base` None is the rate of the output."""
        return cls(order, nearest_valid(valid)[order], fps, base or fps, window)

    def around(self, rows: np.ndarray) -> np.ndarray:
        """(m, T) output frames nearest to the entries of the windows around `rows`; beyond an end the last one."""
        steps = (np.arange(self.window) - self.window // 2) * (self.fps / self.base)
        return np.clip(np.rint(rows[:, None] + steps).astype(np.int64), 0, len(self.order) - 1)

    def columns(self, rows: np.ndarray, entry: int | None = None) -> np.ndarray:
        """(m, T) first mel columns of the entries of the windows around `rows`, or (m,) those of one entry.

        An output frame stands for the middle of the time it is shown; at the networks' own rate this is the rule of
        `mel_window_start`.
        """
        entries = np.arange(self.window) if entry is None else np.array([entry])
        known = (rows[:, None] + 0.5) * (self.base / self.fps) - 0.5 + entries - self.window // 2
        first = np.floor(COLUMNS_PER_SECOND * (known - 2) / self.base).astype(np.int64)
        return first if entry is None else first[:, 0]


def contents(
    model: IPLAPNetworks,
    points: ClipPoints,
    timeline: Timeline,
    mel: np.ndarray,
    groups: Sequence[ReferenceGroup],
    audio: Audio,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield stretches of output frames, (m,), with their lips and jaws, (m, T, 2, 57), smoothed and closed as asked."""
    settings, count = model.config.inference, len(timeline.order)
    # With this many neighbours on both sides the filter gives what it would give on the whole video.
    reach = settings.smooth_window if settings.smooth == "savgol" else 0
    quiet = None
    if settings.silence == "close":
        quiet = silence_gate(audio, count, timeline.fps, settings.silence_db)
    for first in range(0, count, CHUNK):
        rows = np.arange(first, min(first + CHUNK, count))
        wider = np.arange(max(0, first - reach), min(count, first + CHUNK + reach))
        content = predict_by_groups(model, points, timeline, wider, mel, groups)
        if reach:
            content = smoothed(content, np.ones(len(wider), bool), settings.smooth_window)
        content = content[first - wider[0] :][: len(rows)]
        if quiet is not None:
            content = close_in_silence(points, timeline, rows, content, quiet, groups)
        yield rows, content.astype(np.float32)


def predict_by_groups(
    model: IPLAPNetworks,
    points: ClipPoints,
    timeline: Timeline,
    rows: np.ndarray,
    mel: np.ndarray,
    groups: Sequence[ReferenceGroup],
) -> np.ndarray:
    """Like `predict_content`, each output frame with the references that serve its source frame."""
    content = np.zeros((len(rows), timeline.window, 2, CONTENT), np.float32)
    for group in groups:
        mine = group.serves[timeline.order[rows]]
        if mine.any():
            content[mine] = predict_content(model, points, timeline, rows[mine], mel, group)
    return content


def predict_content(
    model: IPLAPNetworks,
    points: ClipPoints,
    timeline: Timeline,
    rows: np.ndarray,
    mel: np.ndarray,
    group: ReferenceGroup,
) -> np.ndarray:
    """Lips and jaws of the window around some output frames.

    What several windows share, audio or pose, is encoded once.

    Args:
        model: the model, in eval mode.
        points: landmarks of the source.
        timeline: what is shown when.
        rows: (m,) output frames.
        mel: (80, L) spectrogram of the driving audio.
        group: references.

    Returns:
        (m, T, 2, 57) float32; entry T // 2 belongs to the frame itself.
    """
    net = model.landmark_generator
    predicted = []
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        heard, sound = np.unique(timeline.columns(part), return_inverse=True)
        seen, pose = np.unique(timeline.shown[timeline.around(part)], return_inverse=True)
        sounds = net.encode_mel(torch.from_numpy(cut_mel(mel, heard)).to(model.device))
        poses = net.encode_pose(torch.from_numpy(points.relative[seen][..., :POSE]).to(model.device))
        index = [torch.from_numpy(each.reshape(len(part), -1)).to(model.device) for each in (sound, pose)]
        fused = net.fuse(sounds[index[0]], poses[index[1]], group.tokens)
        predicted.append(fused.unflatten(0, (-1, timeline.window)).float().cpu())
    return torch.cat(predicted).numpy()


def close_in_silence(
    points: ClipPoints,
    timeline: Timeline,
    rows: np.ndarray,
    content: np.ndarray,
    quiet: np.ndarray,
    groups: Sequence[ReferenceGroup],
) -> np.ndarray:
    """Draw lips and jaws (m, T, 2, 57) of `rows` towards the most closed reference by `quiet` (n,), in [0, 1]."""
    around = timeline.around(rows)
    closed = np.zeros_like(content)
    for group in groups:
        mine = group.serves[timeline.order[around]]
        closed[mine] = fit_pose(group.closed, points.relative[timeline.shown[around[mine]]][..., :POSE])
    share = quiet[around][..., None, None]
    return content * (1 - share) + closed * share


def fit_pose(reference: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Content of a reference moved by the affine map that takes its pose points to those of each frame.

    Args:
        reference: (2, 131).
        pose: (n, 2, 74).

    Returns:
        (n, 2, 57) float32.
    """
    ones = np.ones((1, reference.shape[1]))
    source = np.concatenate([reference, ones])
    affine = pose.astype(np.float64) @ np.linalg.pinv(source[:, :POSE])
    return (affine @ source[:, POSE:]).astype(np.float32)


class LoudParts:
    """How loud the loud parts of a voice have been, for one that arrives in windows: a pause may be a whole one."""

    def __init__(self) -> None:
        self._level = -np.inf

    def hear(self, levels: np.ndarray) -> float:
        """Level of the loud parts of a window, from its levels (n,) in dB, or of one before that was louder."""
        self._level = max(self._level, float(np.percentile(levels, 95)))
        return self._level


def silence_gate(audio: Audio, frames: int, fps: float, threshold_db: float) -> np.ndarray:
    """How silent each frame is, (n,) in [0, 1]: 1 where 0.2 s around it stay `threshold_db` below the loud parts."""
    levels = _levels(audio.samples, frames, fps, audio.sample_rate)
    loud = audio.going_on("loud parts", LoudParts).hear(levels)
    quiet = ((levels < loud + threshold_db) | (levels < -70)).astype(np.float64)
    ramp = np.array([0.25, 0.5, 0.25])
    return np.convolve(np.pad(quiet, 1, mode="edge"), ramp, mode="valid").astype(np.float32)


def _levels(samples: np.ndarray, frames: int, fps: float, sample_rate: int) -> np.ndarray:
    """(n,) dB of full scale of 0.2 s around the middle of each frame."""
    centres = ((np.arange(frames) + 0.5) * sample_rate / fps).astype(int)
    reach = int(0.1 * sample_rate)
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    low, high = (np.clip(centres + side, 0, len(samples)) for side in (-reach, reach))
    return 10 * np.log10((power[high] - power[low]) / np.maximum(high - low, 1) + 1e-12)


def smoothed(values: np.ndarray, valid: np.ndarray, window: int) -> np.ndarray:
    """Savitzky-Golay filter (order 2) over axis 0, within every unbroken run of valid entries of at least `window`."""
    result = values.copy()
    for start, stop in runs(valid):
        if stop - start >= window:
            result[start:stop] = savgol_filter(values[start:stop], window, 2, axis=0)
    return result


def nearest_valid(valid: np.ndarray) -> np.ndarray:
    """(F,) index of the nearest frame with a face, itself where it has one."""
    known = np.flatnonzero(valid)
    after = np.searchsorted(known, np.arange(len(valid))).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    frames = np.arange(len(valid))
    return np.where(np.abs(known[before] - frames) < np.abs(known[after] - frames), known[before], known[after])
