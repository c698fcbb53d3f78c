"""A generator in place of models; as a file says it dies, sleeps, hangs or fails. It loads no torch."""

from __future__ import annotations

import os
import time
from pathlib import Path

MAKER = "helpers.stand_in:make_stand_in"
SIZE = 204  # bytes of what it makes


def make_stand_in(served, device, overrides, *_):
    """What `Service` takes for a generator; `overrides` may name the file of orders, for what comes without a job."""
    return lambda question, line: _answer(question, line, Path(overrides.get("orders", "")))


def _answer(question, line, given_orders):
    if question["do"] == "describe":
        one = {"model": "StandIn", "stage": "", "accepts": ["video", "picture"], "licence": ""}
        return {"models": [{"name": "StandIn", **one}, {"name": "Other", **one}]}
    if question["do"] == "try":
        if _read(given_orders) == "be ill":
            raise ZeroDivisionError
        return {}
    if question["do"] == "speak":
        return _speak(question, line)
    output = Path(question["output"])
    orders = output.parents[1] / "orders"
    order = _read(orders)
    if order == "die":
        os.abort()
    if order == "die once":
        orders.write_text("")
        os.abort()
    if order in ("fail", "be ill"):
        raise ZeroDivisionError
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (order := _read(orders)) in ("sleep", "hang"):
        line.send({"frames": 4, "of": 10})
        if order == "sleep":
            line.go_on()
        time.sleep(0.02)
    film = output.parents[1] / "film.mp4"  # what is made, where a test wants to see it
    made = film.read_bytes() if film.is_file() else Path(question["source"]).read_bytes()[:4] + bytes(range(200))
    output.write_bytes(made)
    line.send({"frames": 10, "of": 10})
    return {"bytes": SIZE}


def _speak(question, line):
    """Say what was heard, in capitals; at the word `fail` fail, at `slow` take long."""
    while True:
        line.send({"more": True})
        sound = line.receive()
        if not isinstance(sound, bytes):
            return {}
        if sound == b"fail":
            raise ZeroDivisionError
        if sound == b"slow":
            time.sleep(1)
        line.go_on()
        line.send(sound.upper())


def _read(orders: Path) -> str:
    return orders.read_text() if orders.is_file() else ""
