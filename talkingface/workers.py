"""Worker processes: the pool outlives them, since a crash in native code must not end a batch; they never outlive it.

A worker that is told to end (SIGTERM), or whose parent is gone, cleans up behind the item at work and goes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import cv2

from talkingface.errors import DataError

A = TypeVar("A")
R = TypeVar("R")

_GRACE_SECONDS = 3.0  # to clean up in, before a worker is ended for good
_KILL_SECONDS = 1.0  # until the system has ended one that was killed
_LOOK_SECONDS = 0.5


class WorkerDied(Exception):
    """The process working on an item ended without an answer: a crash in native code, or killed for memory."""


class TookTooLong(Exception):
    """The process working on an item was ended, for it took longer than it may."""


def map_in_processes(
    function: Callable[[A], R], items: Sequence[A], workers: int, began: Callable[[A], bool] | None = None
) -> Iterator[tuple[A, R | BaseException]]:
    """Call `function` on every item in `workers` processes.

    When a worker dies, the items in flight are tried again one at a time, so that the culprit is known.

    Args:
        function: importable (a module-level function or a `functools.partial` of one).
        items: its arguments.
        workers: number of processes.
        began: whether a process died while it worked on an item; None: not known. Where it is, only those items are
            tried by themselves, and their deaths are theirs, not those of processes that cannot even start.

    Yields:
        (item, result) in order of completion; the result is the exception when the call raised, `WorkerDied` when its
        process ended.

    Raises:
        DataError: no worker process ever answers.
    """
    waiting = deque(items)
    answered = died = 0
    while waiting:
        before = len(waiting)
        lost = yield from _batch(function, waiting, workers)
        answered += before - len(waiting) - len(lost)
        suspects = [item for item in lost if began is None or began(item)] or list(lost)
        waiting.extendleft(reversed([item for item in lost if item not in suspects]))
        for suspect in suspects:
            dead = yield from _batch(function, deque([suspect]), 1)
            answered += not dead
            died += bool(dead) and not (began and began(suspect))
            if died > 2 and not answered:
                raise DataError(
                    "worker processes die at once; a script that calls this needs `if __name__ == '__main__':`, "
                    "otherwise set preprocess.workers=0"
                )
            for item in dead:
                yield item, WorkerDied("the worker process died on this clip (crash in native code, or out of memory)")


def call_in_process(function: Callable[[A], R], item: A, seconds: float, look: Callable[[], None]) -> R:
    """Call a function in a process of its own, which is ended when its time is over.

    Args:
        function: importable, see `map_in_processes`.
        item: its argument.
        seconds: that it may take.
        look: called now and then meanwhile.

    Raises:
        WorkerDied: the process ended without an answer.
        TookTooLong: it was ended.
        Exception: what the function raised.
    """
    executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker)
    future, deadline = executor.submit(_work, function, item), time.monotonic() + seconds
    try:
        while not wait([future], timeout=_LOOK_SECONDS).done:
            look()
            if time.monotonic() > deadline:
                raise TookTooLong(f"took more than {seconds:g} s")
        return future.result()
    except BrokenProcessPool as error:
        raise WorkerDied("the process ended without an answer") from error
    finally:
        _stop(executor, at_once=not future.done())


def unsendable(function: Callable[..., Any]) -> str:
    """Why a function, or what it carries, cannot be sent to a worker process; empty where it can.

    A class that was made in a notebook or by a test, say, cannot be imported there.
    """
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return str(error)
    return ""


def _batch(function: Callable[[A], R], waiting: deque[A], workers: int) -> Iterator[tuple[A, R | BaseException]]:
    """Work through `waiting` in one pool until it is empty or the pool breaks; returns the items then in flight."""
    # spawn: torch, OpenCV and MediaPipe run threads, which do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_one_of_many)
    running: dict[Future[R], A] = {}
    lost: deque[A] = deque()
    broken = False
    try:
        while (waiting or running) and not broken:
            while waiting and len(running) < 2 * workers:
                try:
                    running[executor.submit(_work, function, waiting[0])] = waiting[0]
                except BrokenProcessPool:  # died idle: start over with a new pool
                    broken = True
                    break
                waiting.popleft()
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                item = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken = True
                    lost.append(item)
                else:
                    yield item, error if error is not None else future.result()
        lost.extend(running.values())
    finally:
        _stop(executor, at_once=broken or bool(running))
    return lost


class _ToldToEnd(SystemExit):
    """Raised where a worker is at work when it is told to end, so that what is half made is removed on the way out."""


def start_worker() -> None:
    """What a worker process begins with: leave Ctrl-C to the parent, and end when told or orphaned."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _start_one_of_many() -> None:
    start_worker()
    take_one_core()


def take_one_core() -> None:
    """Compute with one thread, as one of as many processes as there are cores.

    With the threads of all cores each, they wait for one another: see docs/benchmarks.md.
    """
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported, which most workers never do
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def own_threads() -> int:
    """Threads that this process computes with, for libraries that would else take all cores; in workers one.

    Those of torch where that is loaded, else those of OpenCV.
    """
    torch = sys.modules.get("torch")
    return cv2.getNumThreads() if torch is None else torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as in a worker process: a network gives other last bits with other numbers of threads."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _end(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: cleaning up is not to be interrupted
    raise _ToldToEnd(128 + signal.SIGTERM)


def _follow_parent() -> None:
    """Wait for the end of the parent, also of one that was killed and could say nothing; then end this process."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait_for([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _work(function: Callable[[A], R], item: A) -> R:
    try:
        return function(item)
    except _ToldToEnd:
        # The pool would take the exception for an answer, and give this process the next item.
        os._exit(128 + signal.SIGTERM)


def _stop(executor: ProcessPoolExecutor, at_once: bool) -> None:
    processes = list((getattr(executor, "_processes", None) or {}).values())
    executor.shutdown(wait=not at_once, cancel_futures=True)
    if at_once:  # interrupted or broken: items at work are made again, their files appear only when whole
        end_processes(processes)


def end_processes(processes: Sequence[BaseProcess], seconds: float = _GRACE_SECONDS) -> None:
    """Tell worker processes to end, and end those that have not within so many seconds."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(timeout=max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()
    for process in processes:  # until then it counts as alive
        process.join(timeout=_KILL_SECONDS)
