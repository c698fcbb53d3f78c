"""Connections whose client does nothing: they are ended, for so many at once would leave no room for others.

Uvicorn waits for ever for the first request of a connection, and for a client that reads nothing of its answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_LOOKS_TO_READ = 6
"""So many times longer a client may leave its answer unread: players of videos stop reading when they have enough."""


def connection_class(seconds: float) -> type[asyncio.Protocol]:
    """What `uvicorn.Config(http=...)` takes.

    Args:
        seconds: for which the server waits for a client.
    """

    class Patient(_Patient):
        patience = seconds

    return Patient


class _Patient(AutoHTTPProtocol):
    """A connection that looks every `patience` seconds whether its client has done anything since."""

    patience: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look."""
        super().connection_made(transport)
        self._taken = 0
        self._before: Any = None
        self._same = 0
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The client has taken most of what was sent."""
        self._taken += 1
        super().resume_writing()

    def _look(self) -> None:
        now = self._waits_for()
        self._same = self._same + 1 if now is not None and now == self._before else 0
        if self._same >= (_LOOKS_TO_READ if now and now[0] == "read" else 1):
            self.transport.abort()
            return
        self._before = now
        self._next_look = self.loop.call_later(self.patience, self._look)

    def _waits_for(self) -> tuple[Any, ...] | None:
        """What the client should do, the same as long as it does nothing of it; None: it is not its turn."""
        if self.transport.get_protocol() is not self:  # now a web socket
            return None
        if unsent := self.transport.get_write_buffer_size():
            return "read", self._taken, unsent
        if self.cycle is None or self.cycle.response_complete:
            return "ask", self.cycle
        return None  # the body of its request has a limit of its own, see `Guard`
