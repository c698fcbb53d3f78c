"""A full disk while training: one line with the file, whoever wrote it, and the checkpoint of before stays."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from talkingface.errors import OutputError
from talkingface.training.run_log import RunLog
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder
from toys.build import toy_config

pytestmark = pytest.mark.usefixtures("toys")
FULL = Path("/dev/full")
TESTS = Path(__file__).parents[1]
on_linux = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@pytest.fixture
def run_log(tmp_path):
    return RunLog(RunFolder(tmp_path), toy_config(tmp_path).config)


@on_linux
def test_the_log_names_itself(tmp_path, run_log):
    (tmp_path / "log.jsonl").symlink_to(FULL)
    with pytest.raises(OutputError, match=r"log\.jsonl: cannot be written, the disk is full"):
        run_log.record("warm", 0, 1, {"loss": 1.0})


@on_linux
def test_a_sample_picture_names_itself(tmp_path, run_log):
    (tmp_path / "warm/samples").mkdir(parents=True)
    (tmp_path / "warm/samples/a_0000001.png").symlink_to(FULL)
    with pytest.raises(OutputError, match=r"a_0000001\.png: cannot be written, the disk is full"):
        run_log.pictures("warm", 1, {"a": torch.zeros(3, 8, 8)})


def test_the_thread_of_tensorboard_ends_the_run_with_one_line_and_shows_no_traceback(tmp_path, monkeypatch, capsys):
    from tensorboard.summary.writer.record_writer import RecordWriter

    run_log = RunLog(RunFolder(tmp_path), toy_config(tmp_path, tensorboard=True).config)
    run_log.start_stage("warm", 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(OutputError, match=r"tensorboard/warm: cannot be written, the disk is full"):
        for step in range(100):
            run_log.record("warm", 0, step, {"loss": 1.0})
            time.sleep(0.01)
    monkeypatch.undo()
    with pytest.raises(OutputError, match=r"tensorboard/warm"):
        run_log.close()
    assert "Traceback" not in capsys.readouterr().err


def test_a_checkpoint_that_torch_could_not_finish_is_named_with_the_reason(tmp_path, monkeypatch):
    checkpoint.write(tmp_path / "last.pt", {"step": 1})

    def full(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nmore")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"last\.pt: the checkpoint cannot be written, the disk is full.*untouched$"):
        checkpoint.write(tmp_path / "last.pt", {"step": 2})
    monkeypatch.undo()
    assert checkpoint.read(tmp_path / "last.pt") == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


CHILD = """
import subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
root = Path(sys.argv[2])
from talkingface import workflow
from talkingface.cli import commands
from toys.build import CLIPS

workflow.prepared_clips = lambda *_: {**CLIPS, "test": [], "unseen": []}
for size in (12, 24, 40, 100):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", root], check=True)
    keys = ["--device=cpu", "--show_progress=False", "--log_every=1", "--save_every_steps=5", "--max_steps=40"]
    code = commands.main(["train", "--model=ToyGAN", "--dataset=folder", f"--saved_dir={root}", *keys])
    print("exit", size, code, file=sys.stderr)
    for file in root.rglob("*.pt"):
        from talkingface.weights import checkpoint
        checkpoint.load(file)
    print("left", [p.name for p in root.rglob(".talkingface-*")], file=sys.stderr)
    subprocess.run(["umount", root], check=True)
"""


def _may_mount() -> bool:
    """Whether this system lets us make a small disk, in a name space of our own."""
    if not all(map(shutil.which, ("unshare", "mount"))):
        return False
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def test_whatever_of_a_training_meets_a_full_disk_tells_it_in_one_line(tmp_path):
    if not _may_mount():
        pytest.skip("no small disk can be mounted here")
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "TALKINGFACE_PLUGINS": "toys.toy_gan"}
    command = ["unshare", "-rm", sys.executable, "-c", CHILD, str(TESTS), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 4 and all(f"error: {tmp_path}" in line and "the disk is full" in line for line in errors)
    assert [line.split()[-1] for line in lines if line.startswith("exit")] == ["2"] * 4
    assert [line for line in lines if line.startswith("left")] == ["left []"] * 4
