"""A full disk while training: one line with the file, whoever wrote it, and the checkpoint of before stays."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
import torch

from helpers.small_disk import errors_of, run_on_small_disks
from talkingface.errors import OutputError
from talkingface.training.run_log import RunLog
from talkingface.weights import checkpoint
from talkingface.weights.runs import RunFolder
from toys.build import toy_config

pytestmark = pytest.mark.usefixtures("toys")
FULL = Path("/dev/full")
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
from talkingface.workflow import calls
from talkingface.cli import commands
from talkingface.weights import checkpoint
from toys.build import CLIPS

calls.prepared_clips = lambda *_: {**CLIPS, "test": [], "unseen": []}
for size in (12, 24, 40, 100):
    small(size)
    keys = ["--device=cpu", "--show_progress=False", "--log_every=1", "--save_every_steps=5", "--max_steps=40"]
    tell("exit", commands.main(["train", "--model=ToyGAN", "--dataset=folder", f"--saved_dir={root}", *keys]))
    for file in root.rglob("*.pt"):
        checkpoint.load(file)
    tell("left", left())
"""


def test_whatever_of_a_training_meets_a_full_disk_tells_it_in_one_line(tmp_path):
    lines = run_on_small_disks(CHILD, tmp_path, plugins=["toys.toy_gan"])
    errors = errors_of(lines)
    assert len(errors) == 4 and all(f"error: {tmp_path}" in line and "the disk is full" in line for line in errors)
    assert [line for line in lines if line.startswith("exit")] == ["exit 2"] * 4
    assert [line for line in lines if line.startswith("left")] == ["left []"] * 4
