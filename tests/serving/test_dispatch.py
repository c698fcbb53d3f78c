"""Which worker a stream comes to: the one that knows its face, unless that is at work for long."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from talkingface.serving import dispatch
from talkingface.serving.config import load_serving


class Worker:
    """Notes the faces that it speaks with; it takes until `free` is set for each."""

    faults = 0

    def __init__(self, name: str) -> None:
        self.name, self.faces, self.free = name, [], threading.Event()
        self.free.set()

    def ask(self, question, *_, **__) -> None:
        self.faces.append(question["source"])
        self.free.wait(60)

    def close(self) -> None:
        """There is no process."""


@pytest.fixture
def workers():
    return [Worker("first"), Worker("second"), Worker("third")]


@pytest.fixture
def speak(workers, monkeypatch):
    """Begins a stream of a face; its event `over` is set once it has ended."""
    monkeypatch.setattr(dispatch, "_HOME_SECONDS", 60)
    settings = load_serving((), {"serve.avatars": 2})
    dispatcher = dispatch.Dispatcher(SimpleNamespace(claim=lambda: None), None, workers, settings)
    dispatcher.start()

    def begin(face: str) -> threading.Event:
        over = threading.Event()
        session = SimpleNamespace(question={"source": face}, face=face, since=time.monotonic(), began=threading.Event())
        session.told = session.also = session.gone = None
        session.end = lambda *_: over.set()
        dispatcher.speak(session)
        assert session.began.wait(60)
        return over

    yield begin
    for worker in workers:
        worker.free.set()
    dispatcher.close()


def test_sentences_of_a_face_are_spoken_where_it_is_known(workers, speak):
    for face in "abababab":
        assert speak(face).wait(60)
    assert [sum(face in worker.faces for worker in workers) for face in "ab"] == [1, 1]


def test_where_that_worker_is_at_work_for_long_another_one_speaks_and_knows_the_face(workers, speak, monkeypatch):
    assert speak("a").wait(60)
    home = next(worker for worker in workers if worker.faces)
    home.free.clear()
    speak("a")
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "_HOME_SECONDS", 0.05)
        assert speak("a").wait(60), "another one is free"
    assert speak("a").wait(60)
    assert sorted(worker.faces for worker in workers) == [[], ["a", "a"], ["a", "a"]]
