"""Files appear whole or not at all, under names that nobody can guess, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of this path is a file"), atomic_output(tmp_path / "file" / "a.txt"):
        pass
