"""Working ahead in a thread."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from talkingface.media.prefetch import prefetch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_in_order_and_the_thread_ends():
    assert list(prefetch(range(100), ahead=3)) == list(range(100))
    assert list(prefetch([])) == []
    assert list(prefetch([None, None])) == [None, None]
    assert not threads()


def test_the_source_runs_ahead_but_not_further_than_allowed():
    made = []

    def source():
        for number in range(50):
            made.append(number)
            yield number

    with closing(prefetch(source(), ahead=4)) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 5
        while len(made) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert len(made) == 6  # one taken, four waiting, one in the hand of the thread


def test_an_error_arrives_behind_the_items_before_it():
    def broken():
        yield 1
        yield 2
        raise KeyError("third")

    seen = []
    with pytest.raises(KeyError, match="third"):
        for item in prefetch(broken()):
            seen.append(item)
    assert seen == [1, 2] and not threads()


def test_leaving_early_closes_the_source_in_its_own_thread():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    with closing(prefetch(endless(), ahead=2)) as items:
        next(items)
    assert closed == ["prefetch"] and not threads()
    for item in prefetch(endless(), ahead=2):  # noqa: B007
        break
    del item
    assert closed == ["prefetch"] * 2 and not threads()
