"""Tiny videos with known landmarks for metrics that run a network, and weights for these networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from talkingface.errors import Unavailable
from talkingface.evaluation.sample import EvalSample
from talkingface.faces.track import LandmarkTrack
from talkingface.media import VideoWriter

SIDE, FRAMES = 64, 6


def frames(seed: int, count: int = FRAMES) -> list[np.ndarray]:
    """Smooth random pictures, (64, 64, 3) uint8 RGB."""
    coarse = np.random.default_rng(seed).integers(0, 255, (count, 8, 8, 3))
    return [np.kron(picture, np.ones((8, 8, 1))).astype(np.uint8) for picture in coarse]


def write(path: Path, pictures: list[np.ndarray]) -> Path:
    """A video without sound."""
    with VideoWriter(path, fps=25.0, audio=None) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def track(count: int = FRAMES, gone: tuple[int, ...] = (), shift: float = 0.0) -> LandmarkTrack:
    """A face in the middle of the frame; the mouth's box is 41 pixels wide."""
    points = np.zeros((count, 68, 2), np.float32)
    points[:] = [32, 30]
    points[:, 0], points[:, 8], points[:, 16], points[:, 17:27] = [8, 30], [32, 60], [56, 30], [32, 6]
    points[:, 36:42], points[:, 42:48], points[:, 30] = [22, 24], [42, 24], [32, 34]
    points[:, 48:60], points[:, 48], points[:, 54] = [32, 48], [20, 46], [44, 46]
    points += np.float32(shift)
    valid = ~np.isin(np.arange(count), gone)
    points[~valid] = np.nan
    return LandmarkTrack(points, valid, valid, (SIDE, SIDE), "ibug68", "drawn", "1")


def sample(
    folder: Path, name: str, row: str = "generated", gone: tuple[int, ...] = (), detector: bool = True, seed: int = 0
) -> EvalSample:
    """A clip of `row`: generated and real video, landmarks without frames `gone` in the real one.

    The generated face stands 3 pixels further right and down. All rows but the real one have one and the same video.
    """
    real = folder / f"{name}.mp4"
    if not real.exists():
        write(real, frames(seed + sum(map(ord, name))))
    made = real if row == "real" else folder / f"{name}-made.mp4"
    if not made.exists():
        noise = np.random.default_rng(seed).integers(0, 60, (FRAMES, SIDE, SIDE, 3))
        originals = frames(seed + sum(map(ord, name)))
        write(made, [np.clip(f + n, 0, 255).astype(np.uint8) for f, n in zip(originals, noise)])

    def find(path, pictures):
        if not detector:
            raise Unavailable("no landmarks: the detector is not installed")
        return track(sum(1 for _ in pictures), shift=3.0)

    return EvalSample(name, row, made, real, tracker=find, reference_track=lambda: track(gone=gone))


def lively(network: nn.Module) -> nn.Module:
    """The network with random weights whose activations neither die nor explode."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim >= 2:
            nn.init.kaiming_normal_(parameter)
    return network
