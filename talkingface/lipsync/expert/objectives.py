"""What a lip-sync expert minimises.

Of cosines: cross entropy, taken as probabilities, its slope being bounded. Of other scores, which may leave [0, 1]:
squared distance to 1 or 0, as the generators are trained with them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from talkingface.lipsync.expert.embedding import compared, pair_scores
from talkingface.networks.blocks import full_precision
from talkingface.networks.dubbing.sync_expert import clipped_score
from talkingface.networks.sync_expert import sync_loss
from talkingface.plugin.contract import Batch

EPSILON = 1e-6  # least distance of a cosine from 0 and 1: a pair that is utterly wrong pulls no harder than a million


def in_clip_loss(cosine: Tensor) -> Tensor:
    """Every pair within a clip; true pairs and others have the same weight in sum.

    Args:
        cosine: (B, K, K) of mouths and sounds, the diagonal in sync.
    """
    true, weight = _balanced(cosine)
    return sync_loss(cosine.clamp(EPSILON, 1 - EPSILON), true, weight)


def published_loss(cosine: Tensor, in_sync: Tensor) -> Tensor:
    """One pair per item.

    Args:
        cosine: (B, 1, 1) or (B,).
        in_sync: (B, 1) or (B,), 1 where mouth and sound belong together, else 0.
    """
    return sync_loss(cosine.flatten().clamp(EPSILON, 1 - EPSILON), in_sync.flatten())


def expert_loss(network: nn.Module, batch: Batch) -> Tensor:
    """The objective that the data were drawn for: all pairs of a clip, or one pair per item where it has `in_sync`.

    An expert that is no cosine learns in training, with the weight `agreement`, that its features agree, too.
    """
    in_sync = batch.get("in_sync")
    if network.cosine:
        return _cosine_loss(pair_scores(network, batch), in_sync)
    scores, cosines = compared(network, batch)
    loss = pair_error(scores, in_sync)
    if network.training and network.agreement:
        loss = loss + network.agreement * _cosine_loss(cosines, in_sync)
    return loss


def _cosine_loss(cosine: Tensor, in_sync: Tensor | None) -> Tensor:
    return in_clip_loss(cosine) if in_sync is None else published_loss(cosine, in_sync)


def pair_error(scores: Tensor, in_sync: Tensor | None = None) -> Tensor:
    """Squared distance of scores that are no cosines to 1 or 0; beyond [0, 1] they count as 0 or 1, with a gradient.

    Args:
        scores: (B, K, K), weighted as in `in_clip_loss`; (B, 1, 1) with `in_sync`.
        in_sync: (B, 1), of one pair per item.
    """
    with full_precision(scores):
        bounded = clipped_score(scores.float())
        if in_sync is not None:
            return (bounded.flatten() - in_sync.flatten()).square().mean()
        true, weight = _balanced(bounded)
        return (weight * (bounded - true).square()).sum() / weight.expand_as(bounded).sum()


def _balanced(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and weights of all pairs (B, K, K); true pairs and others have the same weight in sum."""
    count = scores.shape[-1]
    true = torch.eye(count, device=scores.device).expand_as(scores)
    return true, torch.where(true > 0, 1.0 / count, 1.0 / (count * (count - 1)))
