"""Whoever ends a command ends all of it: no process goes on, and nothing half made stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.media_files import write_video
from helpers.tensorflow_graphs import look_alike
from helpers.threads import threads_here, threads_to_decode, threads_to_hear
from talkingface.devices import own_cores
from talkingface.networks.deepspeech.front_ends import DeepSpeechOnnxFrontEnd
from talkingface.networks.deepspeech.onnx_file import convert_deepspeech
from talkingface.workers import TookTooLong, WorkerDied, call_in_process, end_processes, map_in_processes

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core works without worker processes"),
]
DEMO = ["demo-data", "--identities=2", "--clips=12", "--seconds=40", "--size=256"]  # minutes of work


def start(command, folder):
    """The command, at work: the first temporary file of a worker is there."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TALKINGFACE_TEST_MARK": str(folder)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_talkingface.py"), *command],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not temporary(folder):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    return process


def temporary(folder):
    return [path for path in Path(folder).rglob(".*") if path.is_file()]


def descendants(folder):
    """Processes of this command that live, found by a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if f"TALKINGFACE_TEST_MARK={folder}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_until_gone(folder, seconds=5):
    deadline = time.monotonic() + seconds
    while descendants(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not descendants(folder)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "ending, code",
    [("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=SLOW), pytest.param("SIGINT", 130, marks=SLOW)],
)
def test_a_signal_ends_the_command_and_its_workers(tmp_path, ending, code):
    process = start([*DEMO, f"--out={tmp_path}"], tmp_path)
    process.send_signal(getattr(signal, ending))
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said.strip().splitlines()[-1].startswith("interrupted" if ending == "SIGINT" else f"ended by {ending}")
    assert "Traceback" not in said
    assert wait_until_gone(tmp_path) and not temporary(tmp_path)


def test_workers_do_not_outlive_a_killed_command(tmp_path):
    process = start([*DEMO, f"--out={tmp_path}"], tmp_path)
    assert len(descendants(tmp_path)) >= 3
    process.kill()
    process.communicate()
    assert wait_until_gone(tmp_path) and not temporary(tmp_path)


@SLOW
def test_a_whole_group_may_be_told_to_end_at_once(tmp_path):
    """As Slurm and a closing terminal do."""
    process = start([*DEMO, f"--out={tmp_path}"], tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143 and wait_until_gone(tmp_path) and not temporary(tmp_path)


def test_a_call_in_a_process_of_its_own_gives_its_answer_or_is_ended_in_time():
    looks = []
    assert call_in_process(abs, -3, 60, lambda: looks.append("")) == 3
    with pytest.raises(TypeError):
        call_in_process(abs, "three", 60, lambda: None)
    with pytest.raises(WorkerDied):
        call_in_process(os._exit, 3, 60, lambda: None)
    began = time.monotonic()
    with pytest.raises(TookTooLong, match="took more than 2 s"):
        call_in_process(time.sleep, 600, 2, lambda: looks.append(""))
    assert looks and time.monotonic() - began < 60


def test_a_process_that_had_to_be_killed_is_waited_for():
    """As one in native code, in which no handler runs; until the system has ended it, it counts as alive."""

    class Deaf:
        killed = gone = False

        def terminate(self):
            pass

        def kill(self):
            self.killed = True

        def join(self, timeout):
            self.gone = self.killed

    deaf = Deaf()
    end_processes([deaf], 0.0)
    assert deaf.gone


def test_workers_that_share_a_machine_compute_with_one_thread_each(monkeypatch):
    """Also where nothing but the function imports torch; a process of its own keeps its cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert dict(map_in_processes(threads_here, ["a", "b"], 1)) == {"a": (1, 1), "b": (1, 1)}
    assert call_in_process(threads_here, "c", 60, lambda: None)[1] == min(2, len(own_cores()))


def test_workers_decode_with_one_thread_to_the_same_frames(tmp_path):
    video = write_video(tmp_path / "a.mp4", [k / 25 for k in range(20)])
    [(_, (more, frames))] = map_in_processes(threads_to_decode, [video], 1)
    here, same = threads_to_decode(video)
    assert more == 0 and frames == same
    assert here > 0 or len(own_cores()) == 1, "this process uses its cores"


def test_workers_hear_with_one_thread_and_this_process_with_those_of_torch(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    convert_deepspeech(look_alike(tmp_path / "graph.pb"), tmp_path / DeepSpeechOnnxFrontEnd.files[0])
    [(_, more)] = map_in_processes(threads_to_hear, [tmp_path], 1)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    assert (more, threads_to_hear(tmp_path)) == (0, 3)
