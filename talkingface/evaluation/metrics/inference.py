"""What metrics with a network share: its weight file, frames as tensors, how many go through at once and how precisely.

Networks never run with random weights: a file that is missing, or another one at the published file's place, makes the
metric unavailable. Weights of one's own come in only through the configuration, and the report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from talkingface.errors import Unavailable
from talkingface.weights.published import find, how_to_get, is_published, locate, sha256_of, verify

if TYPE_CHECKING:
    from talkingface.config.sections import EvaluationConfig

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
CPU_BATCH, GPU_BATCH = 8, 64  # items per pass unless the configuration says otherwise


class Weights(NamedTuple):
    """A weight file and what the report says about it: `file`, `sha256`, `published` (None: no hash is known)."""

    path: Path
    definition: dict[str, Any]


def find_weights(name: str, weights_dir: str | Path, configured: str | None = None, key: str = "") -> Weights:
    """The weight file of a metric.

    Args:
        name: of the published file, see `talkingface.weights.published`.
        weights_dir: folder of weight files.
        configured: path from the configuration, which may name other weights on purpose.
        key: its configuration key, for messages; empty where there is none.

    Raises:
        Unavailable: the file is missing or cannot be read, or at the default place lies another one than the published.
    """
    path = Path(configured) if configured else locate(weights_dir, name)
    digest = hash_of(path)
    if digest is None:
        hint = f"evaluation.{key}" if configured else f"{find(name).purpose}; {how_to_get(name, weights_dir)}"
        raise Unavailable(f"weights not found: {path} ({hint})")
    # Other weights give other numbers under the same name: at the usual place only the published file is taken.
    if not configured and is_published(name, digest) is False:
        own = f", or name your own weights with evaluation.{key}" if key else ""
        raise Unavailable(
            f"{path}: not the published file (sha256 {digest[:12]}..., expected {find(name).sha256[:12]}...); move it"
            f" away and {how_to_get(name, weights_dir)}{own}"
        )
    verify(path, name)  # says when these are other weights
    return Weights(path, {"file": path.name, "sha256": digest, "published": is_published(name, digest)})


def hash_of(path: Path) -> str | None:
    """sha256 of a weight file, None where there is none.

    Raises:
        Unavailable: it cannot be read.
    """
    try:
        return sha256_of(path) if path.is_file() else None
    except OSError as error:
        raise Unavailable(f"weights cannot be read: {path} ({error.strerror or error})") from None


def batch_size(settings: EvaluationConfig, device: str) -> int:
    """Items per pass; no effect on results."""
    return settings.batch or (GPU_BATCH if device.startswith("cuda") else CPU_BATCH)


def batches(
    items: Iterable[T], size: int, pixels: Callable[[T], int] | None = None, most: int = 0
) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter.

    Args:
        items: what to group, in order.
        size: items in a list at most.
        pixels: how many an item has; lists then end before they have more than `most` together.
        most: pixels of a list; a larger item stands alone.
    """
    held: list[T] = []
    room = most
    for item in items:
        area = pixels(item) if pixels else 0
        if held and area > room:
            yield held
            held, room = [], most
        held.append(item)
        room -= area
        if len(held) == size:
            yield held
            held, room = [], most
    if held:
        yield held


def ready(network: M, device: str) -> M:
    """A loaded network in eval mode on its device, in the memory layout that `to_images` gives: up to twice as fast."""
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def to_images(frames: Sequence[np.ndarray], device: str) -> torch.Tensor:
    """Frames of one size, (H, W, 3) uint8 RGB -> (B, 3, H, W) float32 in [0, 1]."""
    stacked = torch.from_numpy(np.stack(frames)).to(device)
    return stacked.permute(0, 3, 1, 2).float().div(255)
