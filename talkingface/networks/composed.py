"""Two 3x3 convolutions without an activation between them as one 5x5 convolution: the same numbers, fewer products.

The two pad with zeros, each for itself: what the second reads outside the picture is 0, where the composed one would
read what the first computes there. That reaches the outermost pixels alone, and is taken off them: a convolution of 5
taps along every edge, and one product at every corner, which two edges have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from talkingface.networks.blocks import full_precision


class Composed(NamedTuple):
    """Kernels from M to O channels, and biases; edges are top, bottom, left, right, corners go by row and column."""

    whole: Tensor  # (O, M, 5, 5)
    edges: Tensor  # (4, O, M, 5)
    corners: Tensor  # (4, O, M)
    bias: Tensor  # (O,)
    edge_bias: Tensor  # (4, O)
    corner_bias: Tensor  # (4, O)


def compose(first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor) -> Composed:
    """Compose a convolution (H, M, 3, 3) with the one (O, H, 3, 3) that follows it; differentiable, in float32."""
    outputs, inputs = second.shape[0], first.shape[1]
    with full_precision(first):
        taps = second.flatten(2)
        # Every tap (y, x) of the second kernel times every tap (v, u) of the first: (O, y, x, M, v, u).
        pairs = taps.transpose(1, 2).flatten(0, 1) @ first.flatten(1)
        pairs = pairs.view(outputs, 3, 3, inputs, 3, 3)
        whole = pairs.flatten(3).flatten(1, 2).transpose(1, 2)
        # Above the top edge the second kernel's upper row reads what the first one's lower row has computed there.
        edges = [pairs[:, 0, :, :, 2, :], pairs[:, 2, :, :, 0, :], pairs[:, :, 0, :, :, 2], pairs[:, :, 2, :, :, 0]]
        edges = torch.stack(edges).flatten(3).transpose(2, 3).flatten(0, 1)
        corners = torch.stack([pairs[:, y, x, :, 2 - y, 2 - x] for y, x in product((0, 2), repeat=2)])
        bias = (first_bias @ taps).unflatten(1, (3, 3))
        return Composed(
            # A kernel of 3 taps at each of 3 places, summed where they overlap, is one of 5.
            F.fold(whole, (5, 5), (3, 3)),
            F.fold(edges, (1, 5), (1, 3)).view(4, outputs, inputs, 5),
            corners,
            bias.sum((1, 2)) + second_bias,
            torch.stack([bias[:, 0], bias[:, 2], bias[:, :, 0], bias[:, :, 2]]).sum(2),
            torch.stack([bias[:, y, x] for y, x in product((0, 2), repeat=2)]),
        )


def convolve_composed(x: Tensor, kernels: Composed) -> Tensor:
    """What the two convolutions make of (B, M, H, W), (B, O, H, W), for maps of any size."""
    made = F.conv2d(x, kernels.whole, kernels.bias, padding=2)
    lines = (x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1])
    edges = [F.conv1d(*each, padding=2) for each in zip(lines, kernels.edges, kernels.edge_bias)]
    ends = torch.stack([x[..., row, column] for row, column in product((0, -1), repeat=2)])  # (4, B, M)
    corners = torch.baddbmm(kernels.corner_bias[:, None], ends, kernels.corners.transpose(1, 2)).permute(1, 2, 0)
    # Adding at indices needs no copy of the maps in the backward pass, as writing into slices would.
    outside = torch.cat([torch.cat(edges, dim=2).neg(), corners], dim=2).to(made.dtype)
    return torch.ops.aten.index_put_(made, [None, None, *_ring(*made.shape[-2:], made.device)], outside, True)


def _ring(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of the outermost pixels: top, bottom, left, right, and the corners once more."""
    rows, columns = (torch.arange(size, device=device) for size in (height, width))
    first, last_row, last_column = rows[:1], rows[-1:], columns[-1:]
    return (
        torch.cat([first.expand(width), last_row.expand(width), rows, rows, first, first, last_row, last_row]),
        torch.cat(
            [columns, columns, first.expand(height), last_column.expand(height), *[first, last_column] * 2],
        ),
    )


class Remembered:
    """The result of a function of weights, kept until one of them changes; not kept while gradients are wanted.

    A change is seen in what torch counts as one: steps of an optimiser, `load_state_dict`, `copy_` and other writes in
    place (also under `no_grad`), other memory behind `.data`, another dtype or device, another parameter. A write in
    place through `.data` (`weight.data.mul_(2)`) goes past that count and is not seen, here as in the checks of
    autograd: to compare the numbers themselves would take longer than what is saved, and on a GPU wait for it. Nothing
    here writes so; write under `no_grad` instead.
    """

    def __init__(self) -> None:
        self._key: list[tuple] = []
        self._weights: list[Tensor] = []
        self._value: Composed | None = None

    def __call__(self, function: Callable[[], Composed], weights: list[Tensor]) -> Composed:
        """The remembered result, or a new one."""
        # A compiled network sees neither the memory nor the versions of its weights.
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or any(each.is_inference() for each in weights):
            return function()
        key = [(id(each), each.data_ptr(), each._version, each.dtype) for each in weights]
        if key != self._key:
            # The weights are held, so that no other tensor can take their identity.
            self._key, self._weights, self._value = key, weights, function()
        return self._value
