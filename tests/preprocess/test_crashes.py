"""A clip whose work ends its process, a command that is killed: the others go on, and a restart knows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from helpers import ROOT
from helpers.preparing import FAST, item, run, steps_with
from talkingface.clips.folder import ClipFolder
from talkingface.clips.meta import read_meta
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import DataError
from talkingface.files import writer
from talkingface.preprocess import prepare as preprocess
from talkingface.preprocess.at_work import NOTE, at_work, deaths
from talkingface.preprocess.clip import record_crash
from talkingface.preprocess.prepare import Preprocessor
from talkingface.workers import WorkerDied

pytest.importorskip("mediapipe")


def test_processes_give_the_same_and_survive_crashes_which_a_restart_passes_over(videos, tmp_path, caplog):
    names = ["s/0", "s/1", "s/2", "s/3"]
    settings = PreprocessConfig(workers=2)
    items, crash = [item(videos["good"], name) for name in names], {"die_on": "s/1"}
    report = run(items, tmp_path / "two", ("mel", "notes"), settings, notes=crash)
    assert report.ok_ids == ["s/0", "s/2", "s/3"] and list(report.outcomes) == names
    assert "the process that worked on this clip died, every time" in report.failed["s/1"]
    assert read_meta(tmp_path / "two/s/1")["status"] == "failed" and not (tmp_path / "two/s/1" / NOTE).exists()
    run(items[:1], tmp_path / "one", FAST)
    np.testing.assert_array_equal(ClipFolder(tmp_path / "one/s/0").mel(), ClipFolder(tmp_path / "two/s/3").mel())

    caplog.clear()
    again = run(items, tmp_path / "two", ("mel", "notes"), settings, notes=crash)
    assert again.worked == 0 and set(again.failed) == {"s/1"}
    assert "1 clips are passed over, whose work ended its process in an earlier run (s/1)" in caplog.text
    here = PreprocessConfig(workers=0)
    other = run(items[:2], tmp_path / "two", ("mel", "notes"), here, notes={"text": "other"})
    assert other.ok_ids == names[:2], "something else is to be made"
    record_crash(items[1], Preprocessor(steps_with(FAST), here, tmp_path / "two").job)
    assert run(items[:2], tmp_path / "two", FAST, here).worked == 0
    once_more = here.model_copy(update={"retry_crashed": True})
    assert run(items[:2], tmp_path / "two", FAST, once_more).ok_ids == names[:2]


def test_a_crash_on_a_file_that_cannot_be_read_any_more_is_noted_all_the_same(videos, tmp_path, monkeypatch):
    def unreadable(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("talkingface.preprocess.clip.describe_source", unreadable)
    job = Preprocessor(steps_with(FAST), PreprocessConfig(), tmp_path).job
    assert "Input/output error" in record_crash(item(videos["good"], "s/1"), job).reason
    assert read_meta(tmp_path / "s/1")["status"] == "failed"


SCRIPT = """
import os, sys
from pathlib import Path
from talkingface.clips.layouts import ClipItem
from talkingface.config.sections import PreprocessConfig
from talkingface.preprocess.prepare import Preprocessor
from talkingface.preprocess.step import Step, register_step


@register_step("boom")
class Boom(Step):
    def run(self, ctx):
        if ctx.item.clip_id == "b":
            os.abort()
        return []


def main():
    settings = PreprocessConfig(workers={workers})
    items = [ClipItem(name, Path(sys.argv[1])) for name in "abc"]
    report = Preprocessor([Boom("boom", {}, settings)], settings, sys.argv[2], progress=False).run(items)
    print(*report.ok_ids, *report.failed)


{guard}main()
"""


def in_a_script(folder, video, workers, guard='if __name__ == "__main__":\n    '):
    (folder / "script.py").write_text(SCRIPT.replace("{workers}", workers).replace("{guard}", guard))
    command = [sys.executable, "script.py", str(video), str(folder / "out")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_a_crash_that_ends_the_command_is_passed_over_by_the_next_one(videos, tmp_path):
    assert in_a_script(tmp_path, videos["good"], "0").returncode == -signal.SIGABRT
    assert deaths(tmp_path / "out/a") == 0 and deaths(tmp_path / "out/b") == 1
    done = in_a_script(tmp_path, videos["good"], "0")
    assert (done.returncode, done.stdout.split()) == (0, ["a", "c", "b"])
    assert "every time" in read_meta(tmp_path / "out/b")["reason"]


@pytest.mark.slow
def test_a_script_that_each_process_would_run_again_does_the_work_itself(videos, tmp_path):
    done = in_a_script(tmp_path, videos["good"], "None", guard="")
    assert done.returncode == -signal.SIGABRT, "clip b, in the process of the script"
    assert "no worker process can be started here, so this process does the work" in done.stderr
    assert ClipFolder(tmp_path / "out/a").status == "ok" and deaths(tmp_path / "out/b") == 1


def test_a_clip_that_was_at_work_when_somebody_killed_the_command_is_simply_made(videos, tmp_path, monkeypatch):
    with at_work(tmp_path / "s/1"):
        assert deaths(tmp_path / "s/1") == 0, "at work is not dead"
    (tmp_path / "s/1" / NOTE).write_text("1\n")
    assert deaths(tmp_path / "s/1") == 1
    began = called_here(monkeypatch)
    assert run([item(videos["good"]), item(videos["good"], "s/2")], tmp_path, FAST).ok_ids == ["s/1", "s/2"]
    assert began == ["s/1"], "in a process of its own, the other one in this"
    assert deaths(tmp_path / "s/1") == 0 and not (tmp_path / "s/1" / NOTE).exists()
    (tmp_path / "s/3").mkdir()
    (tmp_path / "s/3" / NOTE).write_text("2\n")
    report = run([item(videos["good"], "s/3")], tmp_path, FAST)
    assert "passed over" in report.failed["s/3"]


def called_here(monkeypatch):
    """Worker processes replaced by calls; returns the names of what they are given."""
    given = []

    def calls(work, items, workers, began):
        for each in items:
            given.append(each.clip_id)
            yield each, work(each)

    monkeypatch.setattr(preprocess, "map_in_processes", calls)
    return given


def test_where_the_first_clips_all_crash_it_is_not_the_clips(videos, tmp_path, monkeypatch):
    def crashes(work, items, workers, began):
        for each in items:
            (tmp_path / each.clip_id).mkdir(parents=True)
            (tmp_path / each.clip_id / NOTE).write_text("2\n")
            yield each, WorkerDied("it died")

    monkeypatch.setattr(preprocess, "map_in_processes", crashes)
    items = [item(videos["good"], f"s/{k}") for k in range(9)]
    with pytest.raises(DataError, match="the first 5 clips all ended the process that worked on them"):
        run(items, tmp_path, FAST, PreprocessConfig(workers=1))


def test_leftovers_of_a_killed_run_are_removed_but_not_those_of_a_running_one(videos, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place = writer().partition("-")[0]
    names = (".making-1", ".making-2", f".making-{place}-{gone.pid}", f".making-{place}-{os.getppid()}")
    old, new, dead, alive = (tmp_path / "s/1" / name for name in names)
    for folder in (old, new, dead, alive):
        folder.mkdir(parents=True)
        (folder / "mel.npy").write_bytes(b"half")
    os.utime(old, (1, 1))
    run([item(videos["good"])], tmp_path, FAST)
    assert [folder.exists() for folder in (old, new, dead, alive)] == [False, True, False, True]
