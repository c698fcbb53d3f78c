"""Processes that answer: they may die, hang or fail, and the next question is answered all the same."""

from __future__ import annotations

import os
import time

import pytest

from talkingface.errors import MediaError
from talkingface.serving.child import Child, Refused, Stopped, TimeLimit
from talkingface.workers import WorkerDied


def make(*args):
    def answer(question, line):
        if question["do"] == "die":
            os.abort()
        if question["do"] == "refuse":
            raise MediaError("film.mp4: is no good")
        if question["do"] == "fail":
            raise ZeroDivisionError
        if question["do"] == "hang":
            time.sleep(60)
        if question["do"] == "work":
            line.send(b"\0bytes")
            while True:
                line.send({"frames": 1})
                line.go_on()
                time.sleep(0.02)
        return {"args": args, "process": os.getpid()}

    return answer


@pytest.fixture(scope="module")
def child():
    found = Child("test", f"{__name__}:make", 1, "two")
    yield found
    found.close()


def ask(child, what, seconds=30.0, **kwargs):
    return child.ask({"do": what}, seconds, **kwargs)


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        ("refuse", Refused, "film.mp4: is no good"),
        ("fail", Refused, "the server has failed at this input"),
        ("die", WorkerDied, "the test process ended without an answer"),
    ],
)
def test_after_an_input_that_is_no_good_the_next_question_is_answered(child, what, error, text):
    with pytest.raises(error, match=text) as caught:
        ask(child, what)
    assert getattr(caught.value, "ours", False) == (what == "fail")
    assert ask(child, "answer")["args"] == [1, "two"]


def test_a_fault_ends_the_process_whose_fault_it_may_be_and_is_counted_until_the_next_answer(child):
    before = ask(child, "answer")["process"]
    for what, faults in (("refuse", 0), ("fail", 1), ("refuse", 1), ("fail", 2)):
        with pytest.raises(Refused):
            ask(child, what)
        assert child.faults == faults
    assert ask(child, "answer")["process"] != before and child.faults == 0


def test_one_that_hangs_is_ended_at_the_limit_and_started_anew(child):
    before, restarts = ask(child, "answer")["process"], child.restarts
    with pytest.raises(TimeLimit, match=r"more than 0 s"):
        ask(child, "hang", 0.2)
    assert child.faults == 1, "as of a device that hangs"
    assert ask(child, "answer")["process"] != before and child.restarts == restarts + 1 and child.faults == 0


def test_work_that_nobody_wants_is_stopped_without_losing_the_process(child):
    before, said = ask(child, "answer")["process"], []
    with pytest.raises(Stopped):
        ask(child, "work", told=said.append, wanted=lambda: len(said) < 3)
    assert said[:2] == [b"\0bytes", {"frames": 1}]
    assert ask(child, "answer")["process"] == before


def test_what_the_server_itself_fails_with_on_the_way_does_not_spoil_the_next_answer(child):
    def told(message):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        ask(child, "work", told=told)
    assert ask(child, "answer")["args"] == [1, "two"]
