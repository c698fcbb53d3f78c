"""Two machines as far as torchrun can tell, two tasks as far as srun's variables do: the course of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from helpers import ROOT
from talkingface.cli import main
from talkingface.plugin.registry import PLUGIN_VARIABLE

pytest.importorskip("mediapipe")
PLUGINS = "toys.toy_painter,toys.toy_borrower"
CURVES = {"train/painter/mse", "train/critic/hinge", "lr/painter", "eval/psnr"}
FIGURES = ("rows", "details", "skipped", "references", "donors")
SCRIPT = str(ROOT / "run_talkingface.py")


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(tiny_dataset, saved, name: str, model: str = "ToyBorrower") -> list[str]:
    keys = ("data_root", "train_filelist", "val_filelist", "test_filelist", "device", "show_progress", "tensorboard")
    settings = {key: tiny_dataset[key] for key in keys} | {"log_every": 1, "batch_size": 4, "eval_step": 1}
    settings |= {"preprocessed_root": saved / "prepared", "saved_dir": saved, "preprocess.workers": 0}
    settings |= {"run_name": name, "metrics": "[PSNR]", "evaluation.rows": "[generated, real]", "evaluation.samples": 0}
    settings |= {"model.dropout": 0} if model == "ToyBorrower" else {}
    return ["run", f"--model={model}", "--dataset=lrs2", *(f"--{key}={value}" for key, value in settings.items())]


def torchrun(rank: int, port: int) -> list[str]:
    """What is typed on a machine before the command."""
    place = ["--nnodes=2", f"--node_rank={rank}", "--nproc-per-node=1", "--master_addr=127.0.0.1"]
    return ["-m", "torch.distributed.run", *place, f"--master_port={port}"]


def by_torchrun(arguments: list[str], port: int) -> list[str]:
    """Run a command on both machines; returns what each has said."""
    return together([[*torchrun(rank, port), SCRIPT, *arguments] for rank in (0, 1)], [{}, {}])


def by_srun(arguments: list[str], port: int) -> list[str]:
    """Run a command as the two tasks of a job step on one machine; returns what each has said.

    The variables are those that Slurm 23 sets for a task, as far as they are about numbers and names.
    """
    step = {"SLURM_JOB_ID": str(port), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "2"}
    step |= {"SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    step |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost", "SLURMD_NODENAME": "localhost"}
    tasks = [step | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (0, 1)]
    return together([[SCRIPT, *arguments]] * 2, tasks)


def together(commands: list[list[str]], variables: list[dict[str, str]]) -> list[str]:
    """Run both at once; returns what each has said."""
    machines = []
    for words, more in zip(commands, variables, strict=True):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {**os.environ, **more}}
        machines.append(subprocess.Popen([sys.executable, *words], **pipes))
    said = ["\n".join(machine.communicate(timeout=240)) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    return said


def records(run) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_and_score_as_one_and_borrow_what_the_first_has_found(
    tiny_dataset, tmp_path, monkeypatch, free_port
):
    monkeypatch.setenv(PLUGIN_VARIABLE, PLUGINS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    alone = command(tiny_dataset, tmp_path, "one")
    assert main([*command(tiny_dataset, tmp_path, "lent", "ToyEar"), "--evaluate=False"]) == 0
    assert main(["preprocess", "--only=audio,landmarks", *alone[1:]]) == 0  # the toys ask for nothing, scoring does
    assert main(alone) == 0
    runs = tmp_path / "ToyBorrower-lrs2"
    one = records(runs / "one")
    figures = json.loads((runs / "one/eval/metrics.json").read_text())
    assert {key for record in one for key in record} >= CURVES
    for launcher in (by_torchrun, by_srun):
        name = launcher.__name__
        first, second = launcher(command(tiny_dataset, tmp_path, name), free_port)
        assert "ear of ToyBorrower comes from" in first and "all done in" in first
        assert "ToyBorrower" not in second, "one log"
        assert_same_curves(records(runs / name), one)
        shared = json.loads((runs / name / "eval/metrics.json").read_text())
        for part in FIGURES:
            assert_alike(flat(shared[part]), flat(figures[part]))


def assert_same_curves(two: list[dict], one: list[dict]) -> None:
    """The same steps, losses and scores, numbers to four digits."""
    assert len(two) == len(one) > 8
    for left, right in zip(one, two, strict=True):
        assert (left["stage"], left["step"], left.keys()) == (right["stage"], right["step"], right.keys())
        for key in CURVES & left.keys():
            assert left[key] == pytest.approx(right[key], rel=1e-4, abs=1e-6), key


def assert_alike(shared: dict[str, object], alone: dict[str, object]) -> None:
    """The same, numbers to four digits."""
    assert shared.keys() == alone.keys()
    for place, value in alone.items():
        assert shared[place] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), place


def flat(value) -> dict[str, object]:
    """Every value of nested JSON by its place."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = {f"{key}/{place}": leaf for key, item in pairs for place, leaf in flat(item).items()}
    return below if isinstance(value, (dict, list)) else {"": value}
