"""Rules of IPLAP's inference that involve no network: reference frames, order of frames, mel windows, blending."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from talkingface.data.face import composite, polygon_mask

BLUR = (21, 11.0)  # side and sigma of the mask's Gaussian, official implementation


def reference_positions(frames: int, count: int) -> np.ndarray:
    """`count` positions spread over `frames` sorted frames; short clips repeat frames.

    `torch.linspace` in float32 is part of the rule: an exact formula picks another frame for some lengths.
    """
    return torch.linspace(0, frames - 1, count, dtype=torch.float32).to(torch.int64).numpy()


def select_references(openness: np.ndarray, count: int, candidates: np.ndarray | None = None) -> np.ndarray:
    """Reference frames from closed to open mouth.

    Args:
        openness: (F,) mouth opening per frame in any unit; equal values keep the order of the frames.
        count: references wanted.
        candidates: frame indices that may serve, e.g. those with a face; all by default.

    Returns:
        (count,) frame indices, with repetitions when there are fewer candidates.
    """
    openness = np.asarray(openness)
    indices = np.arange(len(openness)) if candidates is None else np.asarray(candidates)
    if not len(indices):
        raise ValueError("no frame can serve as a reference")
    ordered = indices[np.argsort(openness[indices], kind="stable")]
    return ordered[reference_positions(len(ordered), count)]


def mouth_openness(points_px: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Distance between mesh points 0 and 17 (middle of the outer lips), the published measure.

    Kept: coordinates are divided by the frame's width and height, without regard to its aspect or the face's size.

    Args:
        points_px: (F, 478, 2 or 3) pixels.
        size_hw: height and width of the frames.
    """
    from talkingface.data.facemesh import OUTER_LIP_BOTTOM, OUTER_LIP_TOP

    height, width = size_hw
    points = np.asarray(points_px)[..., :2]
    return np.linalg.norm((points[:, OUTER_LIP_TOP] - points[:, OUTER_LIP_BOTTOM]) / [width, height], axis=-1)


def ping_pong(frames: int, count: int) -> np.ndarray:
    """Frame shown at each of `count` times: 0 to F-1, F-1 to 0, and again (end frames twice at the turns)."""
    cycle = np.concatenate([np.arange(frames), np.arange(frames)[::-1]])
    return cycle[np.arange(count) % (2 * frames)]


class ScheduledFrame(NamedTuple):
    """One rendered frame of the published schedule."""

    centre: int  # index of the window's middle frame in the ping-pong order
    mel_window: int  # index of the mel window of the middle frame
    frame: int  # frame of the source video


class Schedule(NamedTuple):
    """What the published inference renders for a video and a number of mel windows."""

    order_length: int  # length of upstream's ping-pong list
    frames_written: int
    rendered: list[ScheduledFrame]


def published_schedule(frames: int, mel_windows: int) -> Schedule:
    """The published order: windows of 5 frames, the first result written three times for frames 0, 1 and 2.

    Upstream's list ends too early for `mel_windows + 1 >= order_length`; here the order goes round instead.
    """
    repeats = mel_windows // (2 * frames) + 1
    order = ping_pong(frames, mel_windows + 5)
    starts = range(max(0, mel_windows - 2))
    rendered = [ScheduledFrame(start + 2, start, int(order[start + 2])) for start in starts]
    return Schedule(2 * frames * repeats, mel_windows, rendered)


def published_blend(
    frame: np.ndarray, generated: np.ndarray, contour: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blend by a blurred polygon, with the truncation of the published code.

    Args:
        frame: (H, W, 3) uint8.
        generated: (H, W, 3) uint8.
        contour: (P, 2) pixels, jaw then brows of the 68-point layout.

    Returns:
        Blended frame (H, W, 3), mask (H, W) and blurred mask (H, W), all uint8.
    """
    hard = polygon_mask(contour, frame.shape[:2], blur=None, convex=True)
    soft = polygon_mask(contour, frame.shape[:2], blur=BLUR, convex=True)
    return composite(frame, generated, soft, truncate=True), hard, soft
