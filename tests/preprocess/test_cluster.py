"""Preprocessing on a Ray cluster: the manifest of a local run, though a machine goes and a clip ends its process."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from types import SimpleNamespace

import pytest

from helpers.preparing import item, run
from talkingface.cli import main
from talkingface.config.sections import PreprocessConfig
from talkingface.errors import ConfigError, DataError
from talkingface.preprocess.at_work import NOTE
from talkingface.preprocess.cluster import _Crew
from talkingface.preprocess.manifest import FILE as MANIFEST
from talkingface.preprocess.rejections import FILE as REJECTIONS

pytest.importorskip("mediapipe")
MADE = ("mel", "faces", "notes")


def on_ray(items, root, address: str, **overrides):
    return run(items, root, MADE, PreprocessConfig(executor="ray", ray_address=address), **overrides)


@pytest.fixture
def cluster():
    """Two machines of one core each, as far as Ray can tell; and the second of them."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def remove_when_both_work(cluster, machine, root, removed: list[float]) -> None:
    """Remove a machine as soon as two clips are at work at once."""
    deadline = time.monotonic() + 120
    while len(list(root.rglob(NOTE))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    if time.monotonic() < deadline:
        cluster.remove_node(machine, allow_graceful=False)
        removed.append(time.monotonic())


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_gives_the_manifest_of_a_local_run(videos, tmp_path, cluster, caplog):
    kinds = ["good", "mute", "good", "broken", "good", "half", "good", "good", "good", "good"]
    items = [item(videos[kind], f"s/{number}") for number, kind in enumerate(kinds)]
    dies = {"notes": {"die_on": "s/6"}}
    run(items, tmp_path / "local", MADE, PreprocessConfig(workers=2), **dies)
    machines, second = cluster
    (tmp_path / "ray").mkdir()
    removed: list[float] = []
    arguments = (machines, second, tmp_path / "ray", removed)
    thread = threading.Thread(target=remove_when_both_work, args=arguments, daemon=True)
    thread.start()
    report = on_ray(items, tmp_path / "ray", machines.address, **dies)
    ended = time.monotonic()
    thread.join()
    assert removed and removed[0] < ended, "a machine went in the middle"
    assert "died, every time" in report.failed["s/6"] and report.counts["ok"] == 6
    for name in (MANIFEST, REJECTIONS):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert not list((tmp_path / "ray").glob(".ray-*")) and not list((tmp_path / "ray").rglob(NOTE))


class StandIn:
    """As much of Ray as a crew asks for; `fates` tells of each process that is started whether it ever answers."""

    exceptions = SimpleNamespace(RayTaskError=type("RayTaskError", (Exception,), {}), RayError=OSError)

    def __init__(self, *fates: bool) -> None:
        self.fates, self.started = iter(fates), len(fates)

    def remote(self, **_):
        return lambda _: SimpleNamespace(remote=lambda _: self._process(next(self.fates)))

    def _process(self, lives: bool):
        def called(answer):
            return SimpleNamespace(
                remote=lambda *given: Answer(answer(*given) if lives else OSError("its node has died"))
            )

        return Handle(begin=called(lambda: ("machine", "")), work=called(lambda clip: f"made {clip}"))

    def cluster_resources(self):
        return {"CPU": self.started}

    def wait(self, answers, timeout):
        return answers, []

    def get(self, answer):
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def kill(self, actor):
        pass


class Handle(SimpleNamespace):
    __hash__ = object.__hash__


class Answer:
    def __init__(self, value):
        self.value = value


def test_processes_that_end_while_they_start_leave_the_work_to_those_that_have_begun():
    crew = _Crew(StandIn(True, False, False, False), None, forgive=None)
    clips = [f"s/{number}" for number in range(6)]
    assert list(crew.work_through(deque(clips), 4)) == [(clip, f"made {clip}") for clip in clips]


def test_a_cluster_on_which_no_process_starts_is_refused_with_the_reason():
    crew = _Crew(StandIn(False, False, False), None, forgive=None)
    with pytest.raises(DataError, match="no process starts on the Ray cluster: its node has died"):
        list(crew.work_through(deque(["a", "b", "c"]), 3))


def test_a_cluster_that_is_not_there_is_named_with_what_to_do(videos, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=r"preprocess.ray_address=auto: no Ray cluster.*`ray start --head`"):
        on_ray([item(videos["good"])], tmp_path, "auto")


def test_without_ray_the_command_that_installs_it_is_named(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"executor=ray: ray is not installed.*pip install.*ray"):
        on_ray([item(videos["good"])], tmp_path, "auto")


def test_ray_without_processes_is_refused(capsys):
    options = ["--preprocess.executor=ray", "--preprocess.workers=0"]
    assert main(["preprocess", "--model=SyncNet", "--dataset=demo", *options]) == 2
    assert "workers must not be 0" in capsys.readouterr().err
