"""Faces in pictures by S3FD: preprocessing, decoding of the six levels, greedy suppression, in batches on any device.

Boxes are `(x1, y1, x2, y2, score)` in pixels of the picture that was given, the best score first, neither clipped nor
rounded; they may reach beyond the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from talkingface.errors import DataError
from talkingface.networks.precision import full_float32
from talkingface.networks.s3fd import MEANS, S3FD, STRIDES
from talkingface.weights import published as weights
from talkingface.weights.checkpoint import load_state, named_tensors, read

WEIGHTS = "s3fd"  # name in `talkingface.weights.published`
CANDIDATE = 0.05  # score below which an anchor is not looked at
OVERLAP = 0.3  # intersection over union above which the worse of two boxes goes
SMALLEST = 32  # pixels; the trunk halves the sides five times
# Pixels of one pass: the first layers take about 1 KiB for each.
_PIXELS = {"cpu": 2_000_000, "cuda": 32_000_000}
_BATCH = {"cpu": 8, "cuda": 64}


class S3FDDetector:
    """S3FD with its weights, ready to look for faces.

    Args:
        network: with its final weights.
        device: where it runs.
        batch: pictures per pass at most; None: 8 on a CPU, 64 on a GPU, fewer large ones. No effect on the boxes.
    """

    def __init__(self, network: S3FD, device: str | torch.device = "cpu", batch: int | None = None) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        self.batch, self._pixels = batch or _BATCH[kind], _PIXELS[kind]

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu", batch: int | None = None) -> S3FDDetector:
        """The detector with the weights of the published file, checked entry by entry.

        Raises:
            DataError: the file is not there.
            CheckpointError: it is damaged, or holds another network.
        """
        path = Path(path)
        if not path.is_file():
            file = weights.find(WEIGHTS)
            folder = path.parent if path.name == Path(file.path).name else "checkpoints"
            raise DataError(
                f"{path}: weights of the face detector S3FD not found (published at {file.url});"
                f" {weights.how_to_get(WEIGHTS, folder)}"
            )
        network = S3FD()
        load_state(network, named_tensors(read(path), path, "S3FD"), f"{path}: S3FD")
        return cls(network, device, batch)

    def detect(self, frames: Sequence[np.ndarray], least: float = 0.5, most: int | None = None) -> list[np.ndarray]:
        """Faces of each picture.

        Args:
            frames: (H, W, 3) uint8 RGB each, of any size; tiny ones are enlarged to 32 pixels first.
            least: only boxes with a better score.
            most: largest number of boxes for one picture; 1 gives the best box without any comparison of boxes.

        Returns:
            For every picture (n, 5) float32.

        Raises:
            DataError: a single picture does not fit into the memory of the GPU.
        """
        found: list[np.ndarray] = []
        for shape, group in groupby(frames, key=lambda frame: frame.shape[:2]):
            factor = max(1.0, SMALLEST / min(shape))
            for boxes in self._in_batches([resized(frame, factor) for frame in group], least, most):
                boxes[:, :4] /= factor
                found.append(boxes)
        return found

    def _in_batches(self, pictures: list[np.ndarray], least: float, most: int | None) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        while len(found) < len(pictures):
            height, width = pictures[0].shape[:2]
            size = max(1, min(self.batch, self._pixels // (height * width)))
            try:
                found += self._pass(pictures[len(found) : len(found) + size], least, most)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise DataError(
                        f"the GPU memory does not suffice to look for faces in one picture of {width}x{height};"
                        " use device=cpu or smaller videos"
                    ) from None
                self._pixels = size // 2 * height * width  # remembered: the next video has the same trouble
                torch.cuda.empty_cache()
        return found

    @torch.inference_mode()
    def _pass(self, pictures: list[np.ndarray], least: float, most: int | None) -> list[np.ndarray]:
        images = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float()
        with full_float32():  # the same boxes on every device
            heads = self.network(images - images.new_tensor(MEANS)[:, None, None])
        # A box under `least` can never remove a better one, so it need not take part.
        return [suppress(boxes, OVERLAP, most) for boxes in decode(heads, max(least, CANDIDATE))]


def resized(frame: np.ndarray, scale: float) -> np.ndarray:
    """A picture (H, W, 3) uint8 at another scale, bilinear."""
    if scale == 1.0:
        return frame
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def decode(heads: Sequence[Tensor], least: float = CANDIDATE) -> list[np.ndarray]:
    """Boxes of the raw heads of a batch, before suppression.

    Args:
        heads: as `S3FD` gives them: (B, 2, h, w) and (B, 4, h, w) for each level.
        least: only boxes with a better score.

    Returns:
        For every image (n, 5) float32, best score first.
    """
    images, boxes = [], []
    for stride, confidence, location in zip(STRIDES, heads[::2], heads[1::2], strict=True):
        scores = confidence.float().softmax(dim=1)[:, 1]
        # Of a frame's ten thousands of anchors a handful is left: only these are decoded, and leave the device.
        image, row, column = (scores > least).nonzero(as_tuple=True)
        anchors = torch.stack([column, row], dim=1) * stride + stride / 2
        corners = _corners(anchors, 4.0 * stride, location.float()[image, :, row, column])
        boxes.append(torch.cat([corners, scores[image, row, column][:, None]], dim=1))
        images.append(image)
    owner, every = torch.cat(images).cpu().numpy(), torch.cat(boxes).cpu().numpy()
    return [_best_first(every[owner == index]) for index in range(len(heads[0]))]


def _corners(centres: Tensor, side: float, offsets: Tensor) -> Tensor:
    """(n, 4) corners of anchors of one size, moved and scaled by the network's (n, 4) offsets (variances 0.1, 0.2)."""
    centres = centres + 0.1 * side * offsets[:, :2]
    half = 0.5 * side * torch.exp(0.2 * offsets[:, 2:])
    return torch.cat([centres - half, centres + half], dim=1)


def _best_first(boxes: np.ndarray) -> np.ndarray:
    return boxes[np.argsort(-boxes[:, 4], kind="stable")]


def suppress(boxes: np.ndarray, overlap: float = OVERLAP, most: int | None = None) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: (n, 5), best score first.
        overlap: a box goes when its intersection over union with a better one is larger.
        most: stop after as many.

    Returns:
        (m, 5) the boxes that are left, in the same order.
    """
    kept: list[np.ndarray] = []
    while len(boxes) and (most is None or len(kept) < most):
        kept.append(boxes[0])
        # The best box that is left can have nothing better above it, so it stays.
        boxes = boxes[1:][_pixel_overlap(boxes[0], boxes[1:]) <= overlap]
    return np.stack(kept) if kept else boxes[:0]


def _pixel_overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) intersection over union; widths and heights count one pixel more, as published."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    common = np.prod(np.maximum(high - low + 1.0, 0.0), axis=1)
    area, areas = np.prod(box[2:4] - box[:2] + 1.0), np.prod(others[:, 2:4] - others[:, :2] + 1.0, axis=1)
    return common / (area + areas - common)
