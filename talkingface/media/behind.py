"""Write behind in a thread: frames are encoded while the network is busy with the ones after them."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from talkingface.media.write import VideoWriter

if TYPE_CHECKING:
    from talkingface.media.clear import FrameFolder

_QUEUE_BYTES = 64 * 2**20  # of pictures that wait; so that large ones do not take more memory than small ones
_MOST_WAITING, _FEWEST_WAITING = 16, 2
_POLL_SECONDS = 0.05  # how soon a caller who waits for room notices that the thread has failed


def frames_waiting(frame_bytes: int) -> int:
    """How many pictures of that size may wait between two threads: 2 to 16, in 64 MiB where that is enough for 2."""
    return max(_FEWEST_WAITING, min(_MOST_WAITING, _QUEUE_BYTES // max(1, frame_bytes)))


class WriteBehind:
    """Context manager with the manners of the `VideoWriter` that it is given: `write` comes back at once.

    The frames are encoded in their order by one thread, so the file is the same to the byte. At most `frames_waiting`
    of them wait. What the thread fails with is raised by the next `write`, at the latest at the end of the context;
    then, and after any other error, nothing is left of the file.
    """

    def __init__(self, writer: VideoWriter | FrameFolder) -> None:
        """Write into `writer`, whose context begins and ends with this one."""
        self._writer = writer
        self._waiting: queue.Queue[np.ndarray | None] | None = None  # None in it: no more frames
        self._thread: threading.Thread | None = None
        self._given_up = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> WriteBehind:
        """Make the temporary file.

        Raises:
            OutputError: If the folder cannot be made or written.
        """
        self._writer.__enter__()
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame (H, W, 3) uint8 RGB; the caller may draw on it afterwards.

        Raises:
            OutputError: If an earlier frame could not be written.
        """
        if self._thread is None:
            self._start(np.asarray(frame).nbytes)
        self._put(np.array(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or remove every trace of it after an error.

        Raises:
            OutputError: If a frame or the end of the file could not be written.
        """
        try:
            if kind is None and self._thread is not None:
                self._put(None)
                self._thread.join()
                self._raise()
        except BaseException as failure:
            self._give_up(type(failure), failure, failure.__traceback__)
            raise
        if kind is None:
            self._writer.__exit__(None, None, None)
        else:
            self._give_up(kind, error, trace)

    def _give_up(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove every trace of the file, also where the wait for the thread is interrupted once more."""
        try:
            self._stop()
        except BaseException:
            self._stop()  # the encoder must not be closed under the frame at hand
            raise
        finally:
            self._writer.__exit__(kind, error, trace)

    def _start(self, frame_bytes: int) -> None:
        self._waiting = queue.Queue(frames_waiting(frame_bytes))
        self._thread = threading.Thread(target=self._work, args=(self._waiting,), name="write-behind", daemon=True)
        self._thread.start()

    def _put(self, frame: np.ndarray | None) -> None:
        assert self._waiting is not None
        while True:
            self._raise()
            try:
                self._waiting.put(frame, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self, waiting: queue.Queue[np.ndarray | None]) -> None:
        try:
            while not self._given_up.is_set() and (frame := waiting.get()) is not None:
                if not self._given_up.is_set():
                    self._writer.write(frame)
        except BaseException as error:  # the caller's thread decides what to do about it
            self._error = error

    def _stop(self) -> None:
        """End the thread without writing what waits; it finishes the frame at hand."""
        if self._thread is None or self._waiting is None:
            return
        self._given_up.set()
        while self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=_POLL_SECONDS)  # wakes a thread that waits for frames
                break
            except queue.Full:
                continue
        self._thread.join()
