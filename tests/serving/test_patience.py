"""Connections whose client does nothing are ended, so that others find room."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

for package in ("uvicorn", "httpx"):
    pytest.importorskip(package)

PATIENCE = 0.2
LARGE = 64 * 2**20  # more than the buffers of a connection take


async def app(scope, receive, send):
    """Answers with much that nobody may read."""
    if scope["type"] != "http":
        return
    size = LARGE if scope["path"] == "/large" else 3
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
    for start in range(0, size, 2**16):
        await send({"type": "http.response.body", "body": bytes(min(2**16, size - start)), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def server():
    """A server in a thread, and its port."""
    import uvicorn

    from talkingface.serving.patience import connection_class

    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", http=connection_class(PATIENCE))
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[door])), daemon=True)
    thread.start()
    yield running, door.getsockname()[1]
    running.should_exit = True
    thread.join(10)
    door.close()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_clients_that_ask_for_nothing_or_only_half_leave_room_for_others(server):
    import httpx

    _, port = server
    silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(4)]
    silent[0].sendall(b"GET / HTTP/1.1\r\nHos")
    assert [line.recv(1) for line in silent] == [b""] * 4, "closed by the server"
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=30).status_code == 200


def test_a_client_that_takes_nothing_of_its_answer_is_given_up_and_one_that_is_slow_is_not(server):
    running, port = server
    deaf, slow = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    for line in (deaf, slow):
        line.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    heard, ends = 0, time.monotonic() + 12 * PATIENCE
    while heard < LARGE:  # a little at a time for far longer than the server waits, then the rest
        piece = slow.recv(2**17)
        assert piece, heard
        heard += len(piece)
        if time.monotonic() < ends:
            time.sleep(0.02)
    wait_for(lambda: not running.server_state.connections)
    left = 0
    while piece := deaf.recv(2**20):  # what lay in the buffers of the connection by then
        left += len(piece)
    assert left < LARGE
