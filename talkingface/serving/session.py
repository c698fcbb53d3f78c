"""One stream: sound from a client to a worker process, pieces of a film back; neither piles up, and both may fail.

The client's side lives in the event loop of the server, the worker's in a thread of the dispatcher.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from talkingface.serving.child import Line

_PIECES, _SOUNDS = 64, 64  # that wait on either side
_LOOK_SECONDS = 0.02
_BYTES_PER_SAMPLE = 2
_LONGEST_PIECE = 2**16


class Gone(Exception):
    """The client has gone, or takes nothing any more."""


class Session:
    """A face, a voice that arrives, and the film of it.

    Args:
        model: served name.
        source: file of the face.
        sample_rate: of the sound, Hz; it is 16-bit PCM, little-endian, mono.
        visible_mark: whether frames say that they are synthetic.
        most_seconds: of sound that are heard.
        stall_seconds: for which either side waits for the client.
    """

    def __init__(
        self,
        model: str,
        source: Path,
        sample_rate: int,
        visible_mark: bool,
        most_seconds: float,
        stall_seconds: float,
    ) -> None:
        self.face, self.since = str(source.absolute()), time.monotonic()
        self.question: dict[str, Any] = {
            "do": "speak",
            "model": model,
            "source": self.face,
            "sample_rate": sample_rate,
            "visible_mark": visible_mark,
        }
        self.gone = threading.Event()
        self.began = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._left = int(most_seconds * sample_rate) * _BYTES_PER_SAMPLE
        self._bytes_per_second = sample_rate * _BYTES_PER_SAMPLE
        self._stall = stall_seconds
        self._lag = 0.0  # seconds that were waited for sound, beyond those that the sound lasts
        self._sounds: queue.Queue[bytes | None] = queue.Queue(_SOUNDS)
        self._pieces: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_PIECES)
        self._asked: float | None = None

    # -- the client's side ---------------------------------------------------------------------------------------------

    async def hear(self, sound: bytes) -> None:
        """Take sound from the client; empty: there is no more. Waits while much of it is unheard."""
        parts = [sound[start : start + _LONGEST_PIECE] for start in range(0, len(sound), _LONGEST_PIECE)] or [None]
        for part in parts:
            while not self.gone.is_set():
                try:
                    self._sounds.put_nowait(part)
                    break
                except queue.Full:
                    await asyncio.sleep(_LOOK_SECONDS)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The film.

        Raises:
            Gone: nobody takes it.
            Exception: what the worker's side has failed with.
        """
        while (piece := await self._pieces.get()) is not None:
            if self.gone.is_set():
                break
            if isinstance(piece, BaseException):
                raise piece
            yield piece
        if self.gone.is_set():
            raise Gone

    def leave(self) -> None:
        """The client has gone, or does not want it any more; nothing comes from the worker's side then."""
        self.gone.set()
        while not self._pieces.empty():
            self._pieces.get_nowait()
        self._pieces.put_nowait(None)  # for whoever waits for a piece

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def told(self, message: dict[str, Any] | bytes) -> None:
        """What the worker process says: a piece of the film, or that it wants more sound."""
        if isinstance(message, bytes):
            self._deliver(message)
        else:
            self._asked = time.monotonic()

    def also(self, line: Line) -> None:
        """Send sound to a worker process that has asked for it. Unasked, both might wait for each other to read."""
        if self._asked is None:
            return
        try:
            sound = self._sounds.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            if self._lag + time.monotonic() - self._asked < self._stall:
                return
            sound = None  # whoever says nothing for so long, or speaks that much slower than people do, has finished
        if sound is not None:
            waited = time.monotonic() - self._asked
            self._lag = max(0.0, self._lag + waited - len(sound) / self._bytes_per_second)
            sound, self._left = sound[: self._left], max(0, self._left - len(sound))
        self._asked = None
        line.send(sound or {"end": True})

    def end(self, error: BaseException | None = None) -> None:
        """There is no more film."""
        self._deliver(error)

    def _deliver(self, piece: bytes | BaseException | None) -> None:
        if self.gone.is_set():
            return
        try:
            asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop).result(self._stall)
        except (concurrent.futures.TimeoutError, TimeoutError, RuntimeError):  # too slow a client; the server ends
            self.gone.set()
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.leave)
