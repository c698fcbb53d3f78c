"""What weights are, in one word, whatever file they lie in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

DIGITS = 16


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Hexadecimal digits that follow from names, types, shapes and values of a network's tensors alone."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGITS]
