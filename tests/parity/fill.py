"""The numbers behind the parity vectors: weights and inputs made from their names instead of being stored.

A vector names a published checkpoint's keys and shapes; both sides fill them by the rules below, so a vector that
matches also proves that the published keys map onto our network. Streams come from numpy's legacy `RandomState`, whose
sequence for a seed never changes between numpy releases.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SAMPLES = 2048  # an output is stored at no more than this many positions, evenly spaced over the flat array


def stream(name: str) -> np.random.RandomState:
    """Random stream seeded with the CRC32 of `name`."""
    return np.random.RandomState(zlib.crc32(name.encode("utf-8")) & 0xFFFFFFFF)


def weight(key: str, shape: Sequence[int], salt: str = "") -> np.ndarray:
    """Values of one checkpoint entry: what kind of entry it is follows from its key and its number of dimensions."""
    shape = tuple(int(size) for size in shape)
    random = stream(salt + key)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return (0.5 + random.random_sample(shape)).astype(np.float32)
    normal = np.asarray(random.standard_normal(shape))
    if key.endswith("running_mean"):
        normal = 0.1 * normal
    elif len(shape) >= 2:  # a matrix or kernel, scaled by its fan-in
        normal = normal / np.sqrt(np.prod(shape[1:]))
    elif len(shape) == 1 and key.endswith("weight"):  # the scale of a norm layer
        normal = 1.0 + 0.1 * normal
    else:
        normal = 0.1 * normal
    return normal.astype(np.float32)


def weights(entries: Iterable[Sequence[Any]], salt: str = "") -> dict[str, np.ndarray]:
    """Values of a whole state dict; `entries` are `[key, shape, dtype]` as stored in a vector."""
    return {key: weight(key, shape, salt) for key, shape, _ in entries}


def tensor(name: str, shape: Sequence[int], dist: str = "normal", salt: str = "") -> np.ndarray:
    """One float32 input: `normal`, `unit` in [0, 1), `signed` in [-1, 1) or `zeros`."""
    shape = tuple(int(size) for size in shape)
    random = stream(f"{salt}input:{name}")
    if dist == "zeros":
        return np.zeros(shape, np.float32)
    if dist == "normal":
        return random.standard_normal(shape).astype(np.float32)
    if dist == "unit":
        return random.random_sample(shape).astype(np.float32)
    if dist == "signed":
        return (2.0 * random.random_sample(shape) - 1.0).astype(np.float32)
    raise ValueError(f"unknown distribution {dist!r}")


def signal(seconds: float, rate: int = 16000) -> np.ndarray:
    """Speech-like waveform in [-1, 1]: a gliding tone of 19 harmonics in bursts like syllables, and a little noise."""
    time = np.arange(int(round(seconds * rate))) / rate
    noise = np.random.RandomState(1234)
    phase = 2 * np.pi * np.cumsum(120.0 + 30.0 * np.sin(2 * np.pi * 0.7 * time)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time), 0.0, None)
    wave = 0.2 * voice * syllables + 0.01 * noise.standard_normal(time.shape)
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def positions(size: int) -> np.ndarray:
    """Flat positions at which an array of `size` values is stored."""
    return np.linspace(0, size - 1, min(size, SAMPLES)).astype(np.int64)


def deviation(array: Any, stored: dict[str, Any]) -> float:
    """Largest difference at the stored positions, as a share of the largest absolute value of the stored output.

    Raises:
        AssertionError: the shapes differ.
    """
    array = np.asarray(array, np.float64)
    assert list(array.shape) == list(stored["shape"]), f"shape {list(array.shape)}, stored {stored['shape']}"
    got = array.reshape(-1)[positions(array.size)]
    return float(np.abs(got - np.asarray(stored["samples"])).max() / max(stored["absmax"], 1e-12))
