"""Optimisers, learning-rate schedules and averaged weights, as the trainer uses them."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from talkingface.config.sections import OptimConfig, SchedulerConfig


def make_optimizer(network: nn.Module, options: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of one network, over the parameters that require gradients."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    # Fused: one pass over all parameters instead of one per operation, also on a CPU.
    common = {"lr": options.lr, "weight_decay": options.weight_decay}
    match options.name:
        case "adam":
            return torch.optim.Adam(parameters, betas=options.betas, fused=True, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, betas=options.betas, fused=True, **common)
        case "sgd":
            return torch.optim.SGD(parameters, momentum=options.momentum, **common)
        case "adagrad":
            return torch.optim.Adagrad(parameters, **common)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, momentum=options.momentum, **common)
    raise ValueError(f"unknown optimiser {options.name!r}")


def lr_factor(step: int, total_steps: int, options: SchedulerConfig) -> float:
    """Factor on the learning rate at optimiser step `step` of `total_steps`: a pure function, so resume is exact."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    if options.name == "step":
        return options.gamma ** (step // options.step_size)
    if options.name == "none":
        return 1.0
    # Whatever comes last, warm-up or the held part, is where the fall begins.
    start = max(options.warmup_steps, int(options.hold * total_steps))
    progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
    falling = 0.5 * (1 + math.cos(math.pi * progress)) if options.name == "cosine" else 1 - progress
    return options.min_lr_ratio + (1 - options.min_lr_ratio) * falling


class AveragedWeights:
    """Exponential moving average of a network's parameters; buffers follow the network."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average one step towards `network`."""
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1.0 - self.decay)
        # Running statistics are averages already, and counters have no mean.
        for own, new in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(new)
