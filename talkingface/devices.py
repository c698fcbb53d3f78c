"""Where and how precisely a run computes: `device` and `precision` resolved, threads, seeds."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from talkingface.errors import ConfigError

log = logging.getLogger("talkingface")
_STAT = Path("/proc/stat")
T = TypeVar("T")


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


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array as a tensor on a device; a GPU copies it from page-locked memory while the CPU goes on."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class OnTheWay:
    """A tensor that its device may still be computing; on a GPU it is copied to the host by a stream of its own.

    So the GPU can begin with what comes next, and the CPU with what it has, before the copy is there.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._host = tensor.cpu()
            return
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        copies = _copy_stream(tensor.device)
        copies.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(copies):
            self._host.copy_(tensor, non_blocking=True)
        tensor.record_stream(copies)  # its memory is not given away before it is copied
        self._arrived = copies.record_event()

    def numpy(self) -> np.ndarray:
        """The numbers, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host.numpy()


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def in_flight(items: Iterable[T], device: torch.device) -> Iterator[T]:
    """The same items; on a GPU each one is asked for before the one ahead of it is handed out.

    Where an item is work given to the GPU (`OnTheWay`), it computes while the CPU finishes the item before. A CPU would
    gain nothing, and hold a second item in memory.
    """
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > _items_ahead(device):
            yield waiting.popleft()
    yield from waiting


def _items_ahead(device: torch.device) -> int:
    return 1 if device.type == "cuda" else 0


def seed_everything(seed: int, reproducible: bool = True) -> None:
    """Seed torch, numpy and python; with `reproducible` also choose deterministic kernels where they exist."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = not reproducible
    torch.backends.cudnn.deterministic = reproducible


def allow_tf32(allowed: bool | None) -> None:
    """Whether NVIDIA GPUs may multiply float32 as TF32, which keeps 10 of its 23 bits; None leaves it to torch.

    Torch allows it for convolutions and not for other products. No effect on other devices.
    """
    if allowed is not None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def compiled(network: nn.Module, mode: str, device: torch.device) -> nn.Module:
    """The network compiled by torch, with the same weights under the same names; itself with mode `none`.

    Args:
        network: network whose `forward` is compiled when it is first called, for about a minute.
        mode: `none`, `default`, or `reduce-overhead`: its kernels are recorded as CUDA graphs, too, which spares narrow
            networks the time it takes to start every one of them. Without CUDA that is `default`, and the log says so.
        device: where it runs.
    """
    if mode == "none":
        return network
    if mode == "reduce-overhead" and device.type != "cuda":
        log.info("compile=reduce-overhead: %s has no CUDA graphs; compiled as with compile=default", device.type)
        mode = "default"
    return torch.compile(network, mode=mode)


def begin_compiled_step() -> None:
    """Say that a training step begins: what recorded graphs have put out before may be overwritten."""
    torch.compiler.cudagraph_mark_step_begin()


def limit_threads(threads: int | None) -> None:
    """Let torch use so many threads on the CPU; None: as many as other work leaves cores free.

    The threads of one operation wait for each other, and one that shares its core keeps all of them waiting: on two
    cores beside a busy process a training step of the demo takes 2.0 s with two threads, 0.8 s with one, and 0.5 s
    alone. Another way of waiting (OMP_WAIT_POLICY, GOMP_SPINCOUNT) does not help, and costs a fifth alone.
    """
    if threads:
        torch.set_num_threads(threads)
    elif _threads_are_free() and torch.get_num_threads() > 1:
        busy = cores_in_use()
        free = max(1, len(own_cores()) - round(busy))
        if free < torch.get_num_threads():
            log.info("other work keeps %.1f cores busy: computing with %d threads (--threads=N: with N)", busy, free)
            torch.set_num_threads(free)


def take_threads_of(saved: int | None, asked: int | None) -> None:
    """Go on with as many threads as a run had before it ended: another number adds in another order.

    Args:
        saved: their number, None where it is not known.
        asked: what the user asks for now, which counts more.
    """
    if (saved or 0) > 0 and asked is None and _threads_are_free():
        torch.set_num_threads(min(saved, len(own_cores())))


def _threads_are_free() -> bool:
    """Whether nobody has fixed their number in the environment (`torchrun` does, too)."""
    return "OMP_NUM_THREADS" not in os.environ


def own_cores() -> set[int]:
    """Numbers of the cores that this process may use; a batch system often gives a part of them."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores_in_use(seconds: float = 0.2) -> float:
    """How many of `own_cores` other processes keep busy, seen for a moment; 0 where nobody says (not Linux)."""
    if not _STAT.is_file():
        return 0.0
    started, own, busy = time.monotonic(), time.process_time(), _busy_seconds()
    time.sleep(seconds)
    own, busy = time.process_time() - own, _busy_seconds() - busy
    return max(0.0, (busy - own) / (time.monotonic() - started))


def _busy_seconds() -> float:
    """Seconds that our cores together have worked since the start of the machine."""
    names = {f"cpu{number}" for number in own_cores()}
    busy = 0
    for line in _STAT.read_text(encoding="ascii").splitlines():
        name, *words = line.split()
        if name in names:
            times = [int(word) for word in words[:8]]
            busy += sum(times) - times[3] - times[4]  # but idle, and waiting for a disk
    return busy / os.sysconf("SC_CLK_TCK")
