"""Batch norm over the batches of all processes that train together.

A network that was designed for large batches is another one where each process norms its own two items. PyTorch's own
`SyncBatchNorm` refuses tensors on a CPU; this one takes any device that the processes can talk about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from talkingface.networks.blocks import full_precision

_Network = TypeVar("_Network", bound=nn.Module)
_together = False


@contextmanager
def common_statistics() -> Iterator[None]:
    """Within: all processes do the same, so synced norms may ask each other.

    Elsewhere one of them may train a copy for itself, and would wait for answers forever.
    """
    global _together
    before, _together = _together, True
    try:
        yield
    finally:
        _together = before


class SyncedBatchNorm(_BatchNorm):
    """Batch norm of one to three dimensions; in training, inside `common_statistics`, over all processes.

    In every other case plain batch norm. Keys are those of plain batch norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape. Batches of the processes may differ in size."""
        if not (self.training and _together and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        with full_precision(x):
            count, mean, variance = self._statistics(x.float())
            if self.track_running_stats:
                self._remember(count, mean.detach(), variance.detach())
            scale = (variance + self.eps).rsqrt()
            shift = -mean * scale
            if self.affine:
                scale, shift = scale * self.weight, shift * self.weight + self.bias
            across = (1, -1, *[1] * (x.ndim - 2))
            return (x.float() * scale.view(across) + shift.view(across)).to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Count, mean and variance of every channel over all processes, with gradients for all of them."""
        axes = [0, *range(2, x.ndim)]
        own_variance, own_mean = torch.var_mean(x, axes, correction=0)
        # Sums of squares in float64: in float32 the variance of a channel far from 0 would drown in them.
        mean, square = own_mean.double(), own_variance.double() + own_mean.double().square()
        own_count = torch.full_like(mean[:1], x.numel() // x.shape[1])
        sums = all_reduce(torch.cat([own_count, mean * own_count, square * own_count]))
        count, mean, square = sums[:1], *(sums[1:] / sums[:1]).chunk(2)
        return count, mean.float(), (square - mean.square()).clamp_min(0).float()

    @torch.no_grad()
    def _remember(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Running averages, as plain batch norm keeps them."""
        self.num_batches_tracked += 1
        part = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp_min(1)).float()
        self.running_mean.lerp_(mean.to(self.running_mean), float(part))
        self.running_var.lerp_(unbiased.to(self.running_var), float(part))


def synced(network: _Network) -> _Network:
    """The same network, its batch norms replaced by `SyncedBatchNorm`s with the same weights; done in place."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SyncedBatchNorm):
                setattr(module, name, _synced_norm(child))
    return network


def _synced_norm(norm: _BatchNorm) -> SyncedBatchNorm:
    """The very parameters and averages: whoever holds them, an optimiser say, goes on with them."""
    new = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new.training = norm.training
    new._parameters.update(norm._parameters)
    new._buffers.update(norm._buffers)
    return new
