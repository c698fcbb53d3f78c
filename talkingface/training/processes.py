"""The processes that train together: Fabric, waiting for each other, exchanging values."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from talkingface.devices import keep_freed_memory, resolve_device, resolve_precision
from talkingface.errors import ConfigError
from talkingface.team import Team
from talkingface.training.launchers import environment, is_launched

if TYPE_CHECKING:
    from talkingface.config.sections import Config, StageConfig


def make_fabric(config: Config, precision: str | None = None) -> Fabric:
    """The Fabric of a run: device, precision, and several processes where asked for or started by a launcher."""
    device = resolve_device(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    mode = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[
        resolve_precision(precision or config.precision, device)
    ]
    # A launcher says how many processes there are; without one this process starts the others.
    processes, nodes = _shape(config)
    if in_several(config):
        # Networks may take part in some steps only (a warm-up, a frozen judge); running statistics stay per process, as
        # published. The option's newer name would still sync them once, which is harmless but not in older versions.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")
        together = DDPStrategy(cluster_environment=environment(), find_unused_parameters=True, broadcast_buffers=False)
        return Fabric(accelerator=device.type, devices=processes, num_nodes=nodes, strategy=together, precision=mode)
    devices = [device.index] if device.type == "cuda" and device.index is not None else 1
    return Fabric(accelerator=device.type, devices=devices, precision=mode, plugins=[environment()])


def _shape(config: Config) -> tuple[int, int]:
    """Processes on each machine, and machines."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", config.distributed.devices))
    whole = int(os.environ.get("WORLD_SIZE", 0)) if is_launched() else 0
    return processes, whole // processes if whole else config.distributed.num_nodes


def in_several(config: Config) -> bool:
    """Whether several processes work together, or whatever `torchrun` has started."""
    processes, nodes = _shape(config)
    return processes * nodes > 1 or is_launched()


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """A plain value of every process, in order of rank."""
    return Team.of(fabric).gather(value)


@contextmanager
def explained_errors(stage: StageConfig) -> Iterator[None]:
    """Turn two errors of torch that a setting of the stage causes into messages about that setting.

    Raises:
        ConfigError: too few items for batch normalisation, or too many for the GPU memory.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"stage '{stage.name}': batch_size {stage.batch_size} is too small: batch normalisation needs at least two"
            " items per process"
        ) from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"stage '{stage.name}': the GPU memory does not suffice for batch_size {stage.batch_size}; halve it and set"
            f" --stages.{stage.name}.accumulate=2, or use --precision=bf16"
        ) from error
