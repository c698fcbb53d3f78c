"""Where and how precisely a run computes: `device` and `precision` resolved, threads, seeds."""

from __future__ import annotations

import ctypes
import random
import sys

import numpy as np
import torch

from talkingface.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """`auto` becomes cuda, else mps, else cpu; a device that is not there is an error.

    Raises:
        ConfigError: the device is not available on this machine.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"device={name}: must be auto, cpu, mps, cuda or cuda:N")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA device(s) that torch"
            f" {torch.__version__} can use; device=auto takes what there is"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device=mps: not available on this machine; device=auto takes what there is")
    return torch.device(kind, int(index)) if index else torch.device(kind)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is native: Ampere or later, or a CPU with avx512_bf16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("amx_tile"))


def has_bf16_matrix_units(device: torch.device) -> bool:
    """Whether bf16 is much faster than float32: a GPU from Ampere on, or a CPU with AMX.

    Networks that draw take 0.3 of the time with AMX; with avx512_bf16 alone they take 1.5 times as long (the renderer
    of IPLAP, 3 references, the same CPU kept from using AMX).
    """
    if device.type != "cpu":
        return has_fast_bf16(device)
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16"))


def resolve_precision(name: str, device: torch.device) -> str:
    """`32`, `bf16` or `16`; `bf16-auto` becomes bf16 where it is fast.

    Raises:
        ConfigError: fp16 on a CPU, where its gradients cannot be scaled.
    """
    if name == "bf16-auto":
        return "bf16" if has_fast_bf16(device) else "32"
    if name == "16" and device.type == "cpu":
        raise ConfigError("precision=16: fp16 training needs a GPU; use bf16 or 32 on a CPU")
    return name


def resolve_inference_precision(name: str, device: torch.device) -> str:
    """`32` or `bf16` for networks that draw; `bf16-auto` becomes bf16 where the device has matrix units for it."""
    if name == "bf16-auto":
        return "bf16" if has_bf16_matrix_units(device) else "32"
    return name


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones; Linux with glibc, elsewhere no effect.

    By default it hands large blocks back to the system and asks for them again in every step, and the first touch of
    each page then costs more than the arithmetic: 16 maps of 16 x 96 x 96 take 0.4 ms to copy, 9 ms where they are new.
    Training steps of small networks are 15 % shorter.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names of the two settings in malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 32 * 2**20)  # more is not allowed


def seed_everything(seed: int, reproducible: bool = True) -> None:
    """Seed torch, numpy and python; with `reproducible` also choose deterministic kernels where they exist."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not reproducible
    torch.backends.cudnn.deterministic = reproducible


def limit_threads(threads: int | None) -> None:
    """Let torch use no more than so many threads on the CPU; None leaves it as it is."""
    if threads:
        torch.set_num_threads(threads)
