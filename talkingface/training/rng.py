"""Random numbers: seeds of their own, and the state of the global sources, kept and restored."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import numpy as np
import torch


def seed_of(seed: int, name: str) -> int:
    """A seed below 2**32 for one named purpose of a run, the same in every process."""
    return int(np.random.default_rng([seed, crc32(name.encode())]).integers(2**32))


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Within: random numbers of `seed`; afterwards those from before go on, as if nothing had been drawn."""
    state = rng_state()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        restore_rng(state)


def rng_state() -> dict[str, Any]:
    """State of every global random source, as plain data."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def restore_rng(state: Mapping[str, Any]) -> None:
    """Put every global random source back to where `rng_state` found it."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
