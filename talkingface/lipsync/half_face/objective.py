"""Terms of the objective of a generator that redraws faces."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from torch import Tensor

from talkingface.lipsync.expert.embedding import batch_statistics
from talkingface.networks.sync_expert import FRAMES

if TYPE_CHECKING:
    from talkingface.networks.sync_expert import SyncExpert


def sync_cosine(expert: SyncExpert, drawn: Tensor, mel: Tensor, batch_stats: bool = False) -> Tensor:
    """Cosines of drawn mouths and their sound, for all windows of 5 frames: (B W,) with W = T - 4.

    Args:
        expert: in eval mode, without gradients of its own.
        drawn: (B, 3, T, S, S), BGR in [0, 1].
        mel: (B, W, 1, 80, 16), the sound of each window.
        batch_stats: the expert normalises by the batch instead of by what it learnt, where there is more than one.
    """
    windows = drawn.unfold(2, FRAMES, 1).permute(0, 2, 1, 5, 3, 4).flatten(0, 1)
    # One window has no statistics; validation may end with such a batch.
    published = batch_stats and len(windows) > 1
    with batch_statistics(expert) if published else nullcontext():
        sounds, mouths = expert(mel.flatten(0, 1), expert.window(windows.flip(1)))
    return (sounds * mouths).sum(dim=1)


def halves_l1(drawn: Tensor, target: Tensor, mouth: float) -> Tensor:
    """Mean absolute error of faces (..., S, S), the lower half weighted by `mouth` over the upper one."""
    upper, lower = (drawn - target).abs().chunk(2, dim=-2)
    return (upper.mean() + mouth * lower.mean()) / (1 + mouth)
