"""Who has started the processes: variables of Slurm and torchrun, and waiting for the first process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import torch

from helpers import ROOT
from talkingface.errors import ConfigError, DataError
from talkingface.training import launchers

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def taken(**changes) -> dict[str, str]:
    variables = {**STEP, **changes}
    launchers.take_slurm(variables)
    return variables


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_srun_says_the_same_as_torchrun(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    said = taken()
    assert (said["RANK"], said["LOCAL_RANK"], said["GROUP_RANK"]) == ("5", "1", "1")
    assert (said["WORLD_SIZE"], said["LOCAL_WORLD_SIZE"]) == ("8", "4")
    assert said["MASTER_ADDR"] == "gpu07" and 15_000 <= int(said["MASTER_PORT"]) < 31_000
    assert said["MASTER_PORT"] != taken(SLURM_STEP_ID="3")["MASTER_PORT"], "steps may run side by side"
    assert taken(MASTER_ADDR="here")["MASTER_ADDR"] == "here"


def test_a_task_that_sees_one_gpu_counts_as_a_machine_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    said = taken()
    assert (said["LOCAL_RANK"], said["GROUP_RANK"], said["LOCAL_WORLD_SIZE"]) == ("0", "5", "1")


def test_one_task_and_torchrun_inside_srun_are_left_alone():
    for left in ({"SLURM_STEP_NUM_TASKS": "1"}, {"LOCAL_WORLD_SIZE": "2", "RANK": "1"}):
        assert taken(**left) == {**STEP, **left}
    batch_script = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    launchers.take_slurm(batch_script)
    assert "RANK" not in batch_script, "without srun the command is one process"


def test_machines_with_other_numbers_of_tasks_are_refused():
    with pytest.raises(ConfigError, match="7 tasks on 2 machines"):
        taken(SLURM_STEP_NUM_TASKS="7")


@pytest.fixture
def launched(monkeypatch, free_port):
    """The variables of the first of two processes that torchrun has started without keeping a store."""
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    launchers._store.cache_clear()
    yield monkeypatch
    launchers._store.cache_clear()


def test_the_others_wait_until_the_first_has_prepared_and_then_all_join_at_the_same_port(launched, free_port):
    launchers.join_launcher()
    other = torch.distributed.TCPStore("127.0.0.1", int(free_port), is_master=False, wait_for_workers=False)
    waited = threading.Event()
    thread = threading.Thread(target=lambda: (other.wait(["talkingface/prepared"]), waited.set()), daemon=True)
    thread.start()
    assert not waited.wait(0.3)
    launchers.announce_prepared()
    assert waited.wait(10)
    launched.setenv("WORLD_SIZE", "1")
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=20))
    torch.distributed.destroy_process_group()


DIES = """
from talkingface.training import launchers
launchers.join_launcher()
print("open", flush=True)
input()
"""


@pytest.mark.slow
def test_the_end_of_the_first_process_ends_the_waiting(launched):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen([sys.executable, "-c", DIES], env=env, **pipes)
    assert first.stdout.readline() == "open\n"
    launched.setenv("RANK", "1")
    threading.Timer(0.5, first.kill).start()
    with pytest.raises(DataError, match="the first of the processes has ended"):
        launchers.wait_until_prepared()
    first.communicate()
