"""Lip-sync error with the public SyncNet: LSE-D, LSE-C and the audio-video offset, protocol `clip`.

The whole video is scored as it is (published for videos that are face crops already), 25 fps, frames resized to
224x224. The published script passes frames through JPEG files; here they go straight to the network, a small numerical
difference. Networks trained against a sync loss score better than real video: read the `real` row first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from talkingface.errors import DataError, TalkingFaceError
from talkingface.evaluator.base import EvalSample, Figure, Metric, Unavailable
from talkingface.evaluator.mfcc import mfcc, pcm16

if TYPE_CHECKING:
    import torch

    from talkingface.networks.syncnet_v2 import FoldedSyncNet, SyncNetV2

    SyncNet = SyncNetV2 | FoldedSyncNet

WEIGHTS = "LSE/syncnet_v2.model"
SHA256 = "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442"  # of a public mirror of the published file
SOURCE = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model"
FPS = 25.0  # the network was trained at this rate
SAMPLES_PER_FRAME = 640
WINDOW = 5  # video frames; 20 MFCC frames
VSHIFT = 15


@dataclass(frozen=True)
class SyncScore:
    """Scores of one clip.

    Attributes:
        offset: frames; positive when the best match uses earlier audio.
        confidence: LSE-C, median less minimum of the mean distances; higher is better.
        distance: LSE-D, the smallest mean distance; lower is better.
        mean_distance: (2 vshift + 1,) mean distance at every shift.
        framewise_distance: (n,) distance at the best shift.
        framewise_confidence: (n,) median less that.
    """

    offset: int
    confidence: float
    distance: float
    mean_distance: np.ndarray
    framewise_distance: np.ndarray
    framewise_confidence: np.ndarray

    @property
    def median(self) -> float:
        """Median of the mean distances."""
        return self.confidence + self.distance


def score_embeddings(lip: np.ndarray, audio: np.ndarray, vshift: int = VSHIFT, padding: str = "zero") -> SyncScore:
    """Compare lip and audio embeddings at every shift.

    Args:
        lip: (n, 1024) float32.
        audio: (n, 1024) float32.
        vshift: largest shift in frames.
        padding: `zero` as published: beyond the ends the audio embedding is the zero vector and takes part in the
            means; `valid` averages over real pairs only, which matters for clips of a few seconds and less.
    """
    count = len(lip)
    lip = lip.astype(np.float64)
    padded = np.zeros((count + 2 * vshift, audio.shape[1]))
    padded[vshift : vshift + count] = audio
    distance = np.empty((count, 2 * vshift + 1))
    for shift in range(2 * vshift + 1):
        # 1e-6 is the default eps of torch's pairwise_distance.
        distance[:, shift] = np.linalg.norm(lip - padded[shift : shift + count] + 1e-6, axis=1)
    if padding == "valid":
        position = np.arange(count)[:, None] + np.arange(2 * vshift + 1)[None] - vshift
        distance[(position < 0) | (position >= count)] = np.nan
    used = np.isfinite(distance).any(axis=0)
    means = np.full(2 * vshift + 1, np.nan)
    means[used] = np.nanmean(distance[:, used], axis=0)
    best = int(np.nanargmin(means))
    median = float(np.nanmedian(means))
    framewise = distance[:, best]
    return SyncScore(vshift - best, median - means[best], float(means[best]), means, framewise, median - framewise)


def windows_scored(frames: int, samples: int) -> int:
    """How many 5-frame windows count: the last possible one is left out, as published."""
    return min(frames, samples // SAMPLES_PER_FRAME) - WINDOW


def lip_embeddings(
    network: SyncNet, frames: Iterable[np.ndarray], device: str = "cpu", batch: int = 8
) -> Iterator[np.ndarray]:
    """Embeddings (b, 1024) of consecutive 5-frame windows, batch by batch.

    Args:
        network: SyncNet in eval mode, or its faster folded form.
        frames: (H, W, 3) uint8 RGB, any size; resized to 224x224 without keeping the aspect ratio.
        device: of the network.
        batch: windows per pass; no effect on the numbers.
    """
    import cv2
    import torch

    held: list[torch.Tensor] = []
    for frame in frames:
        small = frame if frame.shape[:2] == (224, 224) else cv2.resize(frame, (224, 224))
        bgr = np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1))  # the network was trained on BGR, 0..255
        held.append(torch.from_numpy(bgr))
        if len(held) == batch + WINDOW - 1:
            yield _embed_windows(network, held, device)
            held = held[batch:]
    if len(held) >= WINDOW:
        yield _embed_windows(network, held, device)


def _embed_windows(network: SyncNet, frames: list[torch.Tensor], device: str) -> np.ndarray:
    import torch

    stack = torch.stack(frames, dim=1).to(device).float()  # (3, T, 224, 224)
    windows = stack.unfold(1, WINDOW, 1).permute(1, 0, 4, 2, 3)  # (B, 3, 5, 224, 224)
    with torch.inference_mode():
        return network.forward_lip(windows).float().cpu().numpy()


def audio_embeddings(network: SyncNet, pcm: np.ndarray, count: int, device: str = "cpu", batch: int = 64) -> np.ndarray:
    """(count, 1024) embeddings of the sound of windows 0..count-1, from int16 samples."""
    import torch

    features = torch.from_numpy(mfcc(pcm).T.astype(np.float32))  # (13, T)
    starts = range(0, 4 * count, 4)
    results = []
    for first in range(0, count, batch):
        windows = torch.stack([features[:, s : s + 4 * WINDOW] for s in starts[first : first + batch]])[:, None]
        with torch.inference_mode():
            results.append(network.forward_audio(windows.to(device)).float().cpu().numpy())
    return np.concatenate(results)


def embed(
    network: SyncNet, frames: Iterable[np.ndarray], pcm: np.ndarray, device: str = "cpu", batch: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Lip and audio embeddings of one clip, each (n, 1024), in one pass over the frames.

    Args:
        network: SyncNet in eval mode, or its faster folded form.
        frames: (H, W, 3) uint8 RGB.
        pcm: (samples,) int16 at 16 kHz.
        device: of the network.
        batch: windows per pass.

    Raises:
        DataError: fewer than six frames of video or sound.
    """
    most = len(pcm) // SAMPLES_PER_FRAME
    seen = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal seen
        for frame in islice(frames, most):
            seen += 1
            yield frame

    parts = list(lip_embeddings(network, counted(), device, batch))
    count = windows_scored(seen, len(pcm))
    if count < 1:
        raise DataError(f"LSE needs at least {WINDOW + 1} frames of video and sound, there are {min(seen, most)}")
    return np.concatenate(parts)[:count], audio_embeddings(network, pcm, count, device)


class LSE(Metric):
    """Lip-sync error of the public SyncNet."""

    name = "LSE"
    figures: ClassVar[dict[str, Figure]] = {
        "lse_c": Figure("", True, "lip-sync confidence"),
        "lse_d": Figure("", False, "lip-sync distance"),
        "av_offset": Figure("frames", None, "shift of the best match; positive: earlier audio"),
    }
    _network: FoldedSyncNet | None = None
    _hash = ""

    @property
    def path(self) -> Path:
        """The weight file."""
        return Path(self.settings.lse_checkpoint or self.weights_dir / WEIGHTS)

    def prepare(self) -> None:
        """Load SyncNet once."""
        if self._network is not None:
            return
        if not self.path.is_file():
            raise Unavailable(f"weights not found: {self.path} (published at {SOURCE})")
        from talkingface.networks.syncnet_v2 import SyncNetV2

        try:
            network = SyncNetV2().load(self.path)
        except TalkingFaceError as error:
            raise Unavailable(str(error)) from error
        self._hash = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self._network = network.eval().to(self.device).fold()

    def definition(self) -> dict[str, Any]:
        """Protocol, padding, and which weights."""
        weights = {"file": self.path.name, "sha256": self._hash, "published": self._hash == SHA256}
        protocol = {"protocol": self.settings.lse_protocol, "padding": self.settings.lse_padding, "vshift": VSHIFT}
        return {"lse": {**protocol, "fps": FPS, "weights": weights}}

    def score(self, sample: EvalSample) -> dict[str, float]:
        """LSE-C, LSE-D and offset of the video with its driving audio (taken from the source, not the container)."""
        from talkingface.data.media import probe

        self.prepare()
        assert self._network is not None
        rate = probe(sample.generated).fps
        if abs(rate - FPS) > 0.01:
            sample.notes.append(f"LSE: resampled from {rate:.2f} to {FPS:g} fps")
        pcm = pcm16(sample.driving_audio())
        lip, audio = embed(self._network, sample.generated_frames(FPS), pcm, self.device)
        result = score_embeddings(lip, audio, padding=self.settings.lse_padding)
        for key in self.figures:
            sample.count(key, len(result.framewise_distance))
        return {"lse_c": result.confidence, "lse_d": result.distance, "av_offset": float(result.offset)}
