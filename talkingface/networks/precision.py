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
