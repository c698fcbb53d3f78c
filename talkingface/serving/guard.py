"""What stands before every route: token, name of the server, size and time of uploads, requests of other web pages.

FastAPI reads the whole body of a request before any code of a route runs, so what is to be turned away must be turned
away here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import secrets
import time
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talkingface.serving.config import ServeConfig
from talkingface.serving.service import Busy

PAGE = "/page"
"""Where the page lies; it has a login of its own."""

OPEN = ("/healthz", "/health", "/openapi.json", "/")
"""Paths that need no token."""

_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_OTHER_PAGES = ("cross-site", "same-site")
"""What browsers say of requests from other pages; `same-site` is also a page at another port of this machine."""


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: what is guarded.
        settings: limits.
        token: that clients must show; None: nobody is asked.
        check_room: raises `Busy` where an upload would find no place.
        uploads: paths where files are posted that become jobs.
        streams: begin of paths whose bodies may take as long as somebody speaks.
        prefix: of all paths, where a proxy in front of the server does not take it away.
        loopback: whether only this machine reaches the server. Where it asks for no token either, it answers to
            names of this machine and to `settings.names` alone: a web page whose own name was made to lead here (DNS
            rebinding) is of the same site for the browser, which would let it read every answer.
        answered: called with the status code of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServeConfig,
        token: str | None,
        check_room: Callable[[], None],
        uploads: tuple[str, ...] = (),
        streams: str | None = None,
        prefix: str = "",
        loopback: bool = False,
        answered: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.app, self._settings, self._token, self._check_room = app, settings, token, check_room
        self._uploads, self._streams, self._prefix, self._answered = uploads, streams, prefix, answered
        self._names = frozenset(map(str.lower, settings.names)) if loopback and token is None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn a request away, or let it pass with a body that is watched."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = self._below(scope["path"])
        scope = {**scope, "root_path": self._prefix, "path": self._prefix + path}
        if scope["type"] == "websocket":  # of the page, which has a login of its own
            if self._called_wrongly(Headers(scope=scope)):
                await send({"type": "websocket.close", "code": 1008})  # policy violation (RFC 6455)
            else:
                await self.app(scope, receive, send)
            return

        begun = False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._answered(message["status"])
            await send(message)

        refused = self._refused(scope["method"], path, Headers(scope=scope))
        if refused is not None:
            await refused(scope, receive, counted)
            return
        if self._streams is None or not path.startswith(self._streams):
            receive = _Watched(receive, self._settings).receive
        try:
            await self.app(scope, receive, counted)
        except Exception:
            if not begun:
                self._answered(500)  # which is said further out
            raise

    def _refused(self, method: str, path: str, headers: Headers) -> JSONResponse | None:
        """The answer to a request that may not pass."""
        if self._called_wrongly(headers):
            return refusal(421, "this server has another name; --serve.names=[NAME] gives it more")
        if self._token is not None and not path.startswith(PAGE) and path not in OPEN and not self._knows(headers):
            return refusal(401, "give the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        if method in _CHANGING and headers.get("sec-fetch-site") in _OTHER_PAGES:
            return refusal(403, "another web page may not do this")
        most = _most_bytes(self._settings)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            return refusal(413, _too_large(self._settings), {"Connection": "close"})
        if method == "POST" and path in self._uploads:
            try:
                self._check_room()
            except Busy as busy:
                return busy_answer(busy)
        return None

    def _called_wrongly(self, headers: Headers) -> bool:
        """Whether a browser came here by a name that is not the server's."""
        if self._names is None:
            return False
        name = host_name(headers.get("host", ""))
        # Browsers always say the name; a monitor that says none is no browser.
        return bool(name) and not is_loopback(name) and name not in self._names

    def _below(self, path: str) -> str:
        """A path without the prefix of the server."""
        return path[len(self._prefix) :] if self._prefix and path.startswith(f"{self._prefix}/") else path

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and same_token(given, self._token)


class _Watched:
    """A body that must not be too large, nor take too long."""

    def __init__(self, receive: Receive, settings: ServeConfig) -> None:
        self._receive, self._settings = receive, settings
        self._deadline = time.monotonic() + settings.upload_seconds
        self._bytes, self._complete = 0, False

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            HTTPException: 413 or 408.
        """
        if self._complete:  # what follows is the end of the connection, for which one may wait for ever
            return await self._receive()
        try:
            left = max(0.0, self._deadline - time.monotonic())
            message: dict[str, Any] = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            raise HTTPException(
                408, f"the upload took more than the {self._settings.upload_seconds:g} s that this server gives"
            ) from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > _most_bytes(self._settings):
            raise HTTPException(413, _too_large(self._settings))
        self._complete = not message.get("more_body", False)
        return message


def same_token(given: str | None, token: str | None) -> bool:
    """Whether a token is right, in a time that does not tell how much of it is."""
    return token is not None and secrets.compare_digest((given or "").encode(), token.encode())


def host_name(host: str) -> str:
    """The name in a `Host` header, without the port: `[::1]:8000` -> `::1`."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, which only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Names below localhost lead here as well, whatever a name server says (RFC 6761).
        return host == "localhost" or host.endswith(".localhost")


def refusal(code: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer that says no, and why."""
    return JSONResponse({"error": error}, code, headers)


def busy_answer(busy: Busy, code: int = 429) -> JSONResponse:
    """Come back later."""
    return refusal(code, str(busy), {"Retry-After": str(math.ceil(busy.seconds))})


def _most_bytes(settings: ServeConfig) -> int:
    return int(settings.most_upload_mb * 2**20)


def _too_large(settings: ServeConfig) -> str:
    return f"the upload is larger than the {settings.most_upload_mb:g} MiB that this server takes"
