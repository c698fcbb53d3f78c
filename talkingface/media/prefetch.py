"""Work ahead in a thread: frames are decoded while the network is busy with the ones before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.05  # how soon the thread notices that nobody wants more


class _End(NamedTuple):
    """The last entry in the queue: why there are no more items."""

    error: BaseException | None


def prefetch(items: Iterable[T], ahead: int = 16) -> Generator[T, None, None]:
    """The same items in the same order, made by a thread that is at most `ahead` items further.

    The thread starts with the first item that is asked for. When the generator is closed or deleted early, `items` is
    closed (in its thread) and the thread ends; use `contextlib.closing` where an exception may keep it alive.

    Args:
        items: iterated in the thread; decoding and OpenCV run beside the caller there.
        ahead: bound of the queue, and so of the memory.

    Raises:
        Exception: whatever `items` raises, at the place where it raised.
    """
    waiting: queue.Queue[Any] = queue.Queue(ahead)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, waiting, stop), name="prefetch", daemon=True)
    thread.start()
    try:
        # An item may be None or any object; only an entry of our own class can mark the end.
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


def _fill(items: Iterable[Any], waiting: queue.Queue[Any], stop: threading.Event) -> None:
    error: BaseException | None = None
    iterator = iter(())
    try:
        iterator = iter(items)
        for item in iterator:
            if not _put(item, waiting, stop):
                break
    except BaseException as caught:  # the caller's thread decides what to do about it
        error = caught
    finally:
        # Generators hold files open: they are closed here, in the thread that ran them.
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    _put(_End(error), waiting, stop)


def _put(item: Any, waiting: queue.Queue[Any], stop: threading.Event) -> bool:
    """Queue an item; False when nobody wants it any more."""
    while not stop.is_set():
        try:
            waiting.put(item, timeout=_POLL_SECONDS)
            return True
        except queue.Full:
            continue
    return False
