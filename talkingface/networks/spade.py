"""SPADE: instance norm whose scale and shift come from a map; two convolutions of that map computed as one.

Paper: T. Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkingface.networks.blocks import being_exported, instance_norm
from talkingface.networks.composed import Composed, Remembered, compose, convolve_composed


class Modulation(NamedTuple):
    """Scale and shift of one SPADE layer, each (B, C, H, W)."""

    gamma: Tensor
    beta: Tensor


def modulate(normalised: Tensor, modulation: Modulation) -> Tensor:
    """Scale and shift (B*G, C, H, W) features by a modulation of (B, C, H, W): G neighbouring items share one."""
    gamma, beta = modulation
    if normalised.shape[0] == gamma.shape[0]:
        return _scaled(normalised, gamma, beta)
    # The condition is computed once for G references and broadcast: repeating it would take G times the memory.
    grouped = normalised.unflatten(0, (gamma.shape[0], -1))
    return _scaled(grouped, gamma[:, None], beta[:, None]).flatten(0, 1)


def _scaled(normalised: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return normalised + normalised * gamma + beta
    # One pass over the maps instead of three; in training the backward passes cost the same either way.
    return torch.addcmul(normalised + beta, normalised, gamma)


class SpadeLayer(nn.Module):
    """Instance norm whose scale and shift come from a map with `inputs` channels."""

    def __init__(self, channels: int, inputs: int, hidden: int = 256) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)
        self.composes = composing_pays(channels, inputs, hidden)
        self._remembered = Remembered()  # once per loaded weights, not once per frame

    def modulation(self, condition: Tensor) -> Modulation:
        """(B, inputs, H, W) -> scale and shift. Kept: no activation after `conv1`, as the weights were trained."""
        if not self.composes or being_exported():
            shared = self.conv1(condition)
            return Modulation(self.gamma(shared), self.beta(shared))
        both = convolve_composed(condition, self._remembered(self._composed, list(self.parameters())))
        return Modulation(*both.chunk(2, dim=1))

    def _composed(self) -> Composed:
        """`conv1` and then `gamma` and `beta`, as one convolution to both."""
        weight = torch.cat([self.gamma.weight, self.beta.weight])
        return compose(self.conv1.weight, self.conv1.bias, weight, torch.cat([self.gamma.bias, self.beta.bias]))


def composing_pays(channels: int, inputs: int, hidden: int) -> bool:
    """Whether one 5x5 convolution from `inputs` to twice `channels` is faster than 3x3 ones by way of `hidden`.

    Measured on a CPU with AMX, float32 and bf16, by the ratio of products per pixel: at 0.03 to 0.28 (all but one
    condition of the published renderer) 4 to 20 times faster in inference and 3 to 9 in training; at 0.56 and 0.89 no
    faster in training, at 1.2 and 1.9 (features of 256 channels) half as fast.
    """
    one = 25 * inputs * 2 * channels
    two = 9 * hidden * (inputs + 2 * channels)
    return one < 0.5 * two


class Spade(nn.Module):
    """Two SPADE layers, each followed by LeakyReLU and a 3x3 convolution, without a residual path.

    `modulations` and `apply` are separate so that one condition serves many inputs.
    """

    def __init__(self, channels: int, inputs: int, hidden: int = 256) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.spade_layer_1 = SpadeLayer(channels, inputs, hidden)
        self.spade_layer_2 = SpadeLayer(channels, inputs, hidden)

    def modulations(self, condition: Tensor) -> tuple[Modulation, Modulation]:
        """Scale and shift of both layers for a condition (B, inputs, H, W)."""
        return self.spade_layer_1.modulation(condition), self.spade_layer_2.modulation(condition)

    def apply_modulations(self, normalised: Tensor, modulations: tuple[Modulation, Modulation]) -> Tensor:
        """Run on (B*G, C, H, W) features to which the first instance norm has been applied already."""
        x = self.conv_1(F.leaky_relu(modulate(normalised, modulations[0]), 0.2))
        return self.conv_2(F.leaky_relu(modulate(instance_norm(x), modulations[1]), 0.2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) features and (B, inputs, H, W) condition -> (B, C, H, W)."""
        # The first norm is outside `apply_modulations`, so that features that serve several conditions are normalised
        # once.
        return self.apply_modulations(instance_norm(x), self.modulations(condition))
