"""Rules of the published programs that ours replaces: what the stored vectors of them are compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.faces.crop import composite, polygon_mask
from talkingface.sound.mel import MEL_WIDTH

BLUR = (21, 11.0)  # side and sigma of IP_LAP's Gaussian


def mel_chunk_starts(columns: int, fps: float = 25.0, width: int = MEL_WIDTH) -> list[int]:
    """Starts of the mel windows of the inference loops: int(80 i / fps) while the window fits; i is frame i + 2."""
    starts: list[int] = []
    while (start := int(len(starts) * (80.0 / fps))) + width <= columns:
        starts.append(start)
    return starts


class ScheduledFrame(NamedTuple):
    """One rendered frame of IP_LAP's schedule."""

    centre: int  # index of the window's middle frame in the ping-pong order
    mel_window: int  # index of the mel window of the middle frame
    frame: int  # frame of the source video


class Schedule(NamedTuple):
    """What IP_LAP's inference renders for a video and a number of mel windows."""

    order_length: int  # length of its ping-pong list
    frames_written: int
    rendered: list[ScheduledFrame]


def iplap_schedule(frames: int, mel_windows: int, order: np.ndarray) -> Schedule:
    """Windows of 5 frames, the first result written three times for frames 0, 1 and 2.

    IP_LAP's list ends too early for `mel_windows + 1 >= order_length`; ours, `order`, goes round instead.
    """
    repeats = mel_windows // (2 * frames) + 1
    starts = range(max(0, mel_windows - 2))
    rendered = [ScheduledFrame(start + 2, start, int(order[start + 2])) for start in starts]
    return Schedule(2 * frames * repeats, mel_windows, rendered)


def iplap_blend(
    frame: np.ndarray, generated: np.ndarray, contour: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blended frame (H, W, 3), polygon and blurred polygon (H, W), uint8, truncated as IP_LAP does."""
    hard = polygon_mask(contour, frame.shape[:2], blur=None, convex=True)
    soft = polygon_mask(contour, frame.shape[:2], blur=BLUR, convex=True)
    return composite(frame, generated, soft, truncate=True), hard, soft
