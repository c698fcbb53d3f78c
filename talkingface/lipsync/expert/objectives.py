"""What a lip-sync expert minimises: cross entropy of cosines taken as probabilities, its slope being bounded."""

from __future__ import annotations

import torch
from torch import Tensor

from talkingface.networks.sync_expert import sync_loss

EPSILON = 1e-6  # least distance of a cosine from 0 and 1: a pair that is utterly wrong pulls no harder than a million


def in_clip_loss(cosine: Tensor) -> Tensor:
    """Every pair within a clip; true pairs and others have the same weight in sum.

    Args:
        cosine: (B, K, K) of mouths and sounds, the diagonal in sync.
    """
    count = cosine.shape[-1]
    true = torch.eye(count, device=cosine.device).expand_as(cosine)
    weight = torch.where(true > 0, 1.0 / count, 1.0 / (count * (count - 1)))
    return sync_loss(cosine.clamp(EPSILON, 1 - EPSILON), true, weight)


def published_loss(cosine: Tensor, in_sync: Tensor) -> Tensor:
    """One pair per item.

    Args:
        cosine: (B, 1, 1) or (B,).
        in_sync: (B, 1) or (B,), 1 where mouth and sound belong together, else 0.
    """
    return sync_loss(cosine.flatten().clamp(EPSILON, 1 - EPSILON), in_sync.flatten())
