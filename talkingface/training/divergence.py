"""Training that has come to nothing: terms of the losses, or weights, that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from talkingface.errors import TrainingDiverged

if TYPE_CHECKING:
    from talkingface.plugin.contract import StepContext


def bad_terms(values: Mapping[str, float]) -> list[str]:
    """Names of logged values that are not finite; gradients may be, for a scaler of 16 bits skips such a step."""
    return [name for name, value in values.items() if not math.isfinite(value) and not name.endswith("grad_norm")]


def bad_weights(networks: Mapping[str, nn.Module]) -> list[str]:
    """Networks with a weight that is not finite, in words; costs one wait for the device.

    A loss tells of the weights before its step: a gradient that is not finite spoils them behind it.
    """
    finite = [
        torch.stack([weight.detach().isfinite().all() for weight in network.parameters()]).all()
        for network in networks.values()
    ]
    told = torch.stack(finite).tolist()
    return [f"weights of {name}" for name, good in zip(networks, told, strict=True) if not good]


def diverged(ctx: StepContext, bad: Sequence[str], values: Mapping[str, float], kept: Path) -> TrainingDiverged:
    """The error that ends such a training.

    Args:
        ctx: where training stands.
        bad: what is not finite.
        values: logged values, as far as they are at hand.
        kept: the checkpoint that is left as it is, where there is one yet.
    """
    terms = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
    return TrainingDiverged(
        f"stage '{ctx.stage.name}' diverged near step {ctx.step} (epoch {ctx.epoch}): {', '.join(bad)} not"
        f" finite{f'; all terms: {terms}' if terms else ''}."
        f" {f'{kept} is the last good state; ' if kept.is_file() else ''}try a"
        " lower learning rate, clip_norm, or precision=32"
    )
