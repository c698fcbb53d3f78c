"""Which device each worker process has: one generation per device at a time."""

from __future__ import annotations

from talkingface.errors import ConfigError

_MOST = 64


def worker_devices(device: str, workers: int | None) -> list[str]:
    """The device of each worker process.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` and `cuda` take every GPU.
        workers: how many; None: one per GPU, else one. On a CPU more of them share its cores.

    Raises:
        ConfigError: the device is not there, or there are more workers than GPUs.
    """
    if workers is not None and not 1 <= workers <= _MOST:
        raise ConfigError(f"--workers={workers}: must be 1 to {_MOST}")
    if device == "cpu":
        return ["cpu"] * (workers or 1)
    import torch  # the server needs it for nothing else

    from talkingface.devices import resolve_device

    chosen = resolve_device(device)
    if chosen.type == "cpu":
        return ["cpu"] * (workers or 1)
    single = chosen.type != "cuda" or chosen.index is not None
    devices = [str(chosen)] if single else [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if (workers or 1) > len(devices):
        raise ConfigError(f"--workers={workers}: there are {len(devices)} devices for {device}; each takes one worker")
    return devices[: workers or len(devices)]
