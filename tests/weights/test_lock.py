"""A run folder belongs to one training at a time, also when two start at once or one is killed."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from talkingface.errors import CheckpointError, OutputError
from talkingface.weights import lock as lock_module
from talkingface.weights.lock import FILE, FolderLock, TakenError
from talkingface.weights.runs import RunFolder
from toys.build import toy_config

pytestmark = pytest.mark.usefixtures("toys")
HOLDS = (
    "import sys, time\nfrom pathlib import Path\nfrom talkingface.weights.lock import FolderLock\n"
    "lock = FolderLock.take(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(60)\n"
)


@pytest.fixture
def elsewhere():
    """Locks a folder in another process, and gives that process."""
    started = []

    def lock(folder: Path) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield lock
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def running(config):
    run = RunFolder.open(config)
    run.set_status("running")
    return run


def test_a_run_that_is_being_trained_is_neither_resumed_nor_joined(tmp_path, elsewhere, caplog):
    run = running(toy_config(tmp_path, run_name="mine").config)
    older = running(toy_config(tmp_path, run_name="older").config)
    os.utime(older.path / "run.json", (1, 1))
    process = elsewhere(run.path)
    who = rf"mine: process {process.pid} on .* trains there since \d{{4}}-"
    with (
        pytest.raises(CheckpointError, match=who + ".*wait until"),
        RunFolder.claimed(toy_config(tmp_path, resume=str(run.path)).config),
    ):
        pass
    with caplog.at_level(logging.WARNING), RunFolder.claimed(toy_config(tmp_path, resume="auto").config) as found:
        assert found.path == older.path
    assert "mine is passed over: process" in caplog.text
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunFolder.claimed(toy_config(tmp_path, resume="auto").config) as found:
        assert found.path == run.path  # the latest again, as soon as its process is dead


def test_a_name_that_somebody_has_just_begun_with_is_refused(tmp_path, elsewhere):
    config = toy_config(tmp_path, run_name="mine").config
    RunFolder.open(config).path.mkdir(parents=True)
    elsewhere(RunFolder.open(config).path)
    with pytest.raises(CheckpointError, match="mine: process .* choose another name"), RunFolder.claimed(config):
        pass


def test_starts_within_one_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    config = toy_config(tmp_path).config
    with RunFolder.claimed(config) as first, RunFolder.claimed(config) as second:
        assert first.path.name == "20260101-000000" and second.path.name == "20260101-000000-2"
        # Both have looked before either made its folder.
        looks = iter([first, second, RunFolder(tmp_path / "third")])
        monkeypatch.setattr(RunFolder, "open", classmethod(lambda *_: next(looks)))
        monkeypatch.setattr(Path, "exists", lambda _: False)
        with RunFolder.claimed(config) as third:
            assert third.path.name == "third"


def test_a_start_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError), RunFolder.claimed(toy_config(tmp_path, run_name="mine").config) as run:
        raise RuntimeError
    assert not run.path.exists()
    with RunFolder.claimed(toy_config(tmp_path, run_name="mine").config) as run:
        run.set_status("running")
    assert sorted(path.name for path in run.path.iterdir()) == ["run.json", FILE]


def test_a_process_does_not_train_twice_in_one_folder(tmp_path):
    lock = FolderLock.take(tmp_path)
    with pytest.raises(TakenError, match="this process"):
        FolderLock.take(tmp_path)
    lock.release()
    FolderLock.take(tmp_path).release()


def test_a_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / FILE).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OutputError, match=FILE):
        FolderLock.take(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_whatever_a_lock_file_says_is_no_error(tmp_path, elsewhere):
    process = elsewhere(tmp_path)
    for text in ("", "[]", '{"process": "x"}', '{"process": 1e999}', "\x00\xff", "[" * 900):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(TakenError, match="another process trains there"):
            FolderLock.take(tmp_path)
    assert process.poll() is None


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts the open files of Linux")
def test_a_lock_whose_holder_cannot_be_written_down_is_given_back(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock_module, "_tell", full)
    before = open_files()
    with pytest.raises(OutputError, match="run.lock: cannot be written, the disk is full"):
        FolderLock.take(tmp_path)
    assert open_files() == before
    monkeypatch.undo()
    FolderLock.take(tmp_path).release()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="asks Linux which files are open")
def test_where_there_are_no_locks_that_is_said_and_an_empty_folder_goes_all_the_same(tmp_path, monkeypatch, caplog):
    """As on Windows, where an open file cannot be removed."""
    unlink = Path.unlink

    def closed_only(path, *args, **kwargs):
        if str(path) in [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]:
            raise PermissionError(errno.EACCES, "used by a process")
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(lock_module, "fcntl", None)
    monkeypatch.setattr(Path, "unlink", closed_only)
    folder = tmp_path / "run"
    folder.mkdir()
    FolderLock.take(folder).withdraw()
    assert "knows no locks; see that only one training writes there" in caplog.text
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "[1", "[" * 100_000, '"running"', "[]", '{"a": 1}'])
def test_a_damaged_status_is_that_of_a_new_run(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert RunFolder(tmp_path).status == "new"
