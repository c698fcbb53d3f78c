"""A process pool that outlives its workers: a decoder or detector that crashes its process must not end the batch."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from talkingface.errors import DataError

A = TypeVar("A")
R = TypeVar("R")


class WorkerDied(Exception):
    """The process working on an item ended without an answer: a crash in native code, or killed for memory."""


def map_in_processes(
    function: Callable[[A], R], items: Sequence[A], workers: int
) -> Iterator[tuple[A, R | BaseException]]:
    """Call `function` on every item in `workers` processes.

    When a worker dies, the items in flight are tried again one at a time, so that the culprit is known.

    Args:
        function: importable (a module-level function or a `functools.partial` of one).
        items: its arguments.
        workers: number of processes.

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
        suspects = yield from _batch(function, waiting, workers)
        answered += before - len(waiting) - len(suspects)
        for suspect in suspects:
            lost = yield from _batch(function, deque([suspect]), 1)
            answered, died = answered + 1 - len(lost), died + len(lost)
            if died > 2 and not answered:
                raise DataError(
                    "worker processes die at once; a script that calls this needs `if __name__ == '__main__':`, "
                    "otherwise set preprocess.workers=0"
                )
            for item in lost:
                yield item, WorkerDied("the worker process died on this clip (crash in native code, or out of memory)")


def _batch(function: Callable[[A], R], waiting: deque[A], workers: int) -> Iterator[tuple[A, R | BaseException]]:
    """Work through `waiting` in one pool until it is empty or the pool breaks; returns the items then in flight."""
    # spawn: torch, OpenCV and MediaPipe run threads, which do not survive a fork.
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    running: dict[Future[R], A] = {}
    lost: deque[A] = deque()
    broken = False
    try:
        while (waiting or running) and not broken:
            while waiting and len(running) < 2 * workers:
                try:
                    running[executor.submit(function, waiting[0])] = waiting[0]
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


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and one core to each worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _stop(executor: ProcessPoolExecutor, at_once: bool) -> None:
    processes = list((getattr(executor, "_processes", None) or {}).values())
    executor.shutdown(wait=not at_once, cancel_futures=True)
    if at_once:  # interrupted or broken: clips at work are made again, their files appear only when whole
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(timeout=5)
