"""How precisely networks multiply where numbers are compared with those of other machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Within: NVIDIA GPUs multiply float32 as such and not as TF32, which keeps 10 of its 23 bits.

    PyTorch allows TF32 for convolutions by default. No effect on other devices.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def precision_on(wanted: str, device: str) -> str:
    """What `wanted`, `32` or `bf16`, comes to on a device: `bf16` on a GPU alone, else `32`."""
    return "bf16" if wanted == "bf16" and device.startswith("cuda") else "32"


@contextmanager
def judging(precision: str, device: str) -> Iterator[None]:
    """Within: no gradients, and what `precision_on` says, where `32` means all bits of float32 (no TF32)."""
    bf16 = precision_on(precision, device) == "bf16"
    with (
        torch.inference_mode(),
        full_float32(),
        torch.autocast("cuda" if bf16 else "cpu", torch.bfloat16, enabled=bf16),
    ):
        yield
