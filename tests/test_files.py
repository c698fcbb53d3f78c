"""Files appear whole or not at all, under names that nobody can guess, and nothing is left behind."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from talkingface import files
from talkingface.errors import OutputError
from talkingface.files import atomic_output


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_only_on_a_clean_exit(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_output(path) as temporary:
        temporary.write_text("new")
        assert names(path.parent) == [temporary.name] and temporary.suffix == ".txt"
    assert names(path.parent) == ["a.txt"] and path.read_text() == "new"
    with pytest.raises(RuntimeError), atomic_output(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(path.parent) == ["a.txt"] and path.read_text() == "new"


def test_temporary_names_differ_and_links_in_their_place_are_not_followed(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("mine")
    tokens = iter(["taken", "free"])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(tokens))
    name = f"{files._TEMPORARY}{files._HOST}-{os.getpid()}-taken.txt"
    (tmp_path / name).symlink_to(tmp_path / "mine.txt")
    with atomic_output(tmp_path / "a.txt") as temporary:
        assert "free" in temporary.name
        temporary.write_text("new")
    assert (tmp_path / "mine.txt").read_text() == "mine" and (tmp_path / name).is_symlink()


def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path):
    path = tmp_path / ("名" * 83 + ".txt")  # 253 bytes
    with atomic_output(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_what_a_killed_process_left_behind_goes_at_the_next_start(tmp_path):
    code = (
        "import os, signal, sys\nfrom talkingface.files import atomic_output\n"
        "with atomic_output(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.mp4"], check=False)
    (left,) = names(tmp_path)
    assert left.startswith(files._TEMPORARY)
    others = tmp_path / f"{files._TEMPORARY}00000000-1-abc.mp4"  # of another machine that shares the folder
    own = tmp_path / f"{files._TEMPORARY}{files._HOST}-{os.getpid()}-abc.mp4"  # of a process that is at work
    others.touch(), own.touch()
    with atomic_output(tmp_path / "b.mp4"):
        assert left not in names(tmp_path)
    assert names(tmp_path) == sorted(["b.mp4", others.name, own.name])


def test_what_earlier_versions_left_behind_goes_as_well_and_files_of_others_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [f".last.pt.{dead.pid}.tmp", f".log.jsonl.{dead.pid}.tmp", f".o.{dead.pid}.tmp.mp4"]
    kept = [
        f".last.pt.{os.getpid()}.tmp",
        f".o.{os.getpid()}.tmp.mp4",
        f".notes.{dead.pid}.tmp",
        f"o.{dead.pid}.tmp.mp4",
    ]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    with atomic_output(tmp_path / "b.mp4"):
        pass
    assert names(tmp_path) == sorted(["b.mp4", *kept])


def test_what_another_machine_left_behind_goes_after_a_week_without_a_change(tmp_path):
    fresh, old = (tmp_path / f"{files._TEMPORARY}00000000-1-{name}.mp4" for name in ("fresh", "old"))
    fresh.touch(), old.touch()
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    os.utime(fresh, (time.time() - 6 * 86400,) * 2)
    with atomic_output(tmp_path / "b.mp4"):
        pass
    assert names(tmp_path) == sorted(["b.mp4", fresh.name])


def test_containers_of_one_host_name_are_told_apart(tmp_path, monkeypatch):
    """Their processes are counted from 1 each, so that the writer of a file may seem to be gone, or to live."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr(files.os, "readlink", lambda path: "pid:[another]")
    there = files._place()
    assert there != files._HOST and files._place() == there
    assert files.writer_is_gone(f"{files._HOST}-{dead.pid}-abc")
    assert not files.writer_is_gone(f"{there}-{dead.pid}-abc") and not files.writer_is_gone(files.writer())


def test_a_record_that_can_be_made_again_is_not_waited_for_until_it_is_on_the_disk(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: forced.append(descriptor))
    files.write_text(tmp_path / "clip.json", "{}", durable=False)
    assert not forced and names(tmp_path) == ["clip.json"]
    files.write_text(tmp_path / "run.json", "{}")
    assert len(forced) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of this path is a file"), atomic_output(tmp_path / "file" / "a.txt"):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("count", [10, 10**6])
def test_an_array_that_does_not_fit_on_the_disk_is_a_full_disk(count):
    full = Path("/dev/full")
    with pytest.raises(OutputError, match="/dev/full: cannot be written, the disk is full"), files.writing(full):
        try:
            with full.open("wb") as stream:
                np.save(stream, np.zeros(count))
        except OSError as error:
            assert files.is_unwritable(error)
            raise


def test_a_cell_that_a_spreadsheet_would_carry_out_is_text():
    names = ["=1+1", "+1-cmd", "-x", "@sum", "\ttab", "\rreturn", "-1.5", "+2", "plain", 7, -0.5, None]
    (row,) = csv.reader(io.StringIO(files.csv_text([names]), newline=""))
    assert row[:6] == ["'=1+1", "'+1-cmd", "'-x", "'@sum", "'\ttab", "'\\rreturn"]
    assert row[6:] == ["-1.5", "+2", "plain", "7", "-0.5", ""]
