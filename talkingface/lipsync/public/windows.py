"""From frames and sound to SyncNet's embeddings, in batches, one pass over the frames."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from talkingface.errors import DataError
from talkingface.media.prefetch import prefetch
from talkingface.networks.precision import judging
from talkingface.sound.mfcc import mfcc

if TYPE_CHECKING:
    from talkingface.networks.syncnet_v2 import FoldedSyncNet, SyncNetV2

    SyncNet = SyncNetV2 | FoldedSyncNet

SAMPLES_PER_FRAME = 640  # of sound at 16 kHz and 25 fps
WINDOW = 5  # video frames; 20 MFCC frames
SIDE = 224  # pixels


def windows_scored(frames: int, samples: int) -> int:
    """How many 5-frame windows count: the last possible one is left out, as published."""
    return min(frames, samples // SAMPLES_PER_FRAME) - WINDOW


def lip_input(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 RGB as the network wants it: (224, 224, 3) BGR, the aspect ratio not kept."""
    small = frame if frame.shape[:2] == (SIDE, SIDE) else cv2.resize(frame, (SIDE, SIDE))
    return cv2.cvtColor(small, cv2.COLOR_RGB2BGR)


class LipWindows:
    """Collects the frames of one clip and embeds their 5-frame windows, a batch at a time.

    Args:
        network: SyncNet in eval mode, or its faster folded form.
        device: of the network.
        batch: windows per pass; no effect on the numbers.
        precision: `32` or `bf16`, the latter on a GPU only.
    """

    def __init__(self, network: SyncNet, device: str = "cpu", batch: int = 8, precision: str = "32") -> None:
        self.network, self.device, self.batch, self.precision = network, device, batch, precision
        self.count = 0
        self._held: list[np.ndarray] = []
        self._done: list[np.ndarray] = []

    def add(self, picture: np.ndarray) -> None:
        """The next frame, as `lip_input` gives it."""
        self.count += 1
        self._held.append(picture)
        if len(self._held) == self.batch + WINDOW - 1:
            self._embed()
            # The last four frames stay: windows of the next batch begin with them.
            self._held = self._held[self.batch :]

    def finish(self) -> np.ndarray:
        """(n, 1024) float32 embeddings of all windows; n is 0 for fewer than five frames."""
        if len(self._held) >= WINDOW:
            self._embed()
        self._held = []
        return np.concatenate(self._done) if self._done else np.zeros((0, 0), np.float32)

    def _embed(self) -> None:
        with judging(self.precision, self.device):
            frames = torch.from_numpy(np.stack(self._held)).to(self.device)  # (T, S, S, 3)
            count = len(frames) - WINDOW + 1
            # The five frames of a window side by side in every pixel: the folded network takes them without a copy.
            stacked = torch.cat([frames[k : k + count] for k in range(WINDOW)], dim=3).float()
            windows = stacked.unflatten(3, (WINDOW, 3)).permute(0, 4, 3, 1, 2)  # (B, 3, 5, S, S)
            self._done.append(self.network.forward_lip(windows).float().cpu().numpy())


def audio_embeddings(
    network: SyncNet, pcm: np.ndarray, count: int, device: str = "cpu", batch: int = 64, precision: str = "32"
) -> np.ndarray:
    """(count, 1024) embeddings of the sound of windows 0..count-1, from int16 samples."""
    features = torch.from_numpy(mfcc(pcm).T.astype(np.float32)).to(device)  # (13, T)
    # Four MFCC frames last as long as one of video.
    windows = features.unfold(1, 4 * WINDOW, 4).permute(1, 0, 2)[:count, None]  # (count, 1, 13, 20)
    with judging(precision, device):
        parts = [network.forward_audio(some).float().cpu().numpy() for some in windows.split(batch)]
    return np.concatenate(parts)


def embed(
    network: SyncNet,
    frames: Iterable[np.ndarray],
    pcm: np.ndarray,
    device: str = "cpu",
    batch: int = 8,
    precision: str = "32",
) -> tuple[np.ndarray, np.ndarray]:
    """Lip and audio embeddings of one clip, each (n, 1024), in one pass over the frames.

    Frames are decoded and resized in a thread while the network works.

    Args:
        network: SyncNet in eval mode, or its faster folded form.
        frames: (H, W, 3) uint8 RGB, any size; as many as the sound lasts are taken.
        pcm: (samples,) int16 at 16 kHz.
        device: of the network.
        batch: windows per pass; no effect on the numbers.
        precision: `32` or `bf16`, the latter on a GPU only.

    Raises:
        DataError: fewer than six frames of video or sound.
    """
    # Frames beyond the sound would be decoded and embedded for nothing.
    most = len(pcm) // SAMPLES_PER_FRAME
    lips = LipWindows(network, device, batch, precision)
    with closing(prefetch(map(lip_input, islice(frames, most)))) as pictures:
        for picture in pictures:
            lips.add(picture)
    embeddings = lips.finish()
    count = windows_scored(lips.count, len(pcm))
    if count < 1:
        raise DataError(f"LSE needs at least {WINDOW + 1} frames of video and sound, there are {lips.count}")
    return embeddings[:count], audio_embeddings(network, pcm, count, device, precision=precision)
