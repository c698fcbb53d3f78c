"""Who has started the processes that work together: `torchrun`, `srun` of Slurm, or this command itself.

`torchrun` says in environment variables how many there are and which one this is; those of Slurm are put into the same
words here, so that nobody else need know of it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from datetime import timedelta
from functools import cache

import torch
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from talkingface.errors import ConfigError, DataError

_PREPARED = "talkingface/prepared"  # key in the launcher's store
_PATIENCE = timedelta(days=14)


def join_launcher() -> None:
    """Find out who has started this process; the first of several opens the store at which the others wait.

    Raises:
        ConfigError: Slurm has started other numbers of processes on its machines.
    """
    take_slurm(os.environ)
    if is_launched() and not is_child_process():
        _store()


def take_slurm(variables: MutableMapping[str, str]) -> None:
    """Say in the variables of `torchrun` what `srun` says in its own; nothing where it has started but one process.

    A process that sees no GPU but its own (`--gpus-per-task=1`) counts as a machine of its own.
    """
    tasks = int(variables.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1 or "LOCAL_WORLD_SIZE" in variables:  # `srun torchrun ...` has been put into words already
        return
    nodes, rank, node = (int(variables[f"SLURM_{name}"]) for name in ("STEP_NUM_NODES", "PROCID", "NODEID"))
    if tasks % nodes:
        raise ConfigError(f"srun: {tasks} tasks on {nodes} machines: every machine must have as many as the others")
    each, local = tasks // nodes, int(variables["SLURM_LOCALID"])
    if each > 1 and torch.cuda.device_count() == 1:
        each, local, node = 1, 0, rank
    words = {"RANK": rank, "LOCAL_RANK": local, "GROUP_RANK": node, "WORLD_SIZE": tasks, "LOCAL_WORLD_SIZE": each}
    variables.update({name: str(value) for name, value in words.items()})
    hosts = variables.get("SLURM_STEP_NODELIST") or variables["SLURM_JOB_NODELIST"]
    variables.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(hosts))
    # The steps of a job may run side by side.
    number = int(variables.get("SLURM_JOB_ID", 0)) * 16 + int(variables.get("SLURM_STEP_ID", 0)) % 16
    variables.setdefault("MASTER_PORT", str(15_000 + number % 16_000))


def is_launched() -> bool:
    """Whether `torchrun` or `srun` has started the processes, and not this command."""
    return "LOCAL_WORLD_SIZE" in os.environ


def is_child_process() -> bool:
    """Whether this process works together with a first one, which is another."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0 or int(os.environ.get("RANK", 0)) > 0


def environment() -> ClusterEnvironment:
    """What tells Fabric of the processes; left to itself it takes the variables of any Slurm job for `srun`'s."""
    return TorchElasticEnvironment() if is_launched() else LightningEnvironment()


def wait_until_prepared() -> None:
    """Processes other than the first wait here, as long as it takes, until the clips are prepared.

    Joining the process group would have a time limit of minutes, and preprocessing a large data set takes hours. The
    helpers of a process that starts its own come later, when all is prepared, and do not wait.

    Raises:
        DataError: the first process has ended.
    """
    if not is_launched():
        return
    try:
        _store().wait([_PREPARED], _PATIENCE)
    except torch.distributed.DistError as error:
        raise DataError("the first of the processes has ended before the clips were prepared; it says why") from error


def announce_prepared() -> None:
    """The first process lets the others go on."""
    if is_launched():
        _store().set(_PREPARED, "yes")


@cache
def _store() -> torch.distributed.TCPStore:
    """The key-value store of the processes: that of torchrun where it keeps one, else the first process keeps it.

    It stays open: joining the process group will use the same port, for the same server.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and not is_child_process()
    more = {"is_master": serves, "multi_tenant": True, "wait_for_workers": False}
    return torch.distributed.TCPStore(address, port, timeout=_PATIENCE, **more)
