"""A server in a process of its own whose generator is a stand-in.

`python -m helpers.stand_in_server FOLDER PORT`, or `... FOLDER PORT SAVED TOKEN` for one with a page, a token and the
prefix `/talk`; without them there is no page, whose packages take seconds to import.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from helpers.stand_in import MAKER
from talkingface.serving import server
from talkingface.serving.app import make_app
from talkingface.serving.config import load_serving
from talkingface.serving.service import Served, Service

if __name__ == "__main__":
    folder, port, *page = sys.argv[1:]
    server.Service = functools.partial(Service, generator=MAKER)
    if not page:
        server.make_app = lambda service, *given: make_app(service, *given[:2])
        server.Examples.start = lambda self: None
    saved, token = page or ("saved", None)
    given = {"folder": folder, "most_upload_mb": 1, "most_audio_seconds": 3, "stall_seconds": 4}
    server.serve(
        settings=load_serving((), {f"serve.{key}": value for key, value in given.items()}),
        served=[Served("StandIn", "StandIn", None)],
        devices=["cpu"],
        overrides={},
        host="127.0.0.1",
        port=int(port),
        token=token,
        root_path="/talk" if page else "",
        templates={},
        saved=Path(saved),
        ready=lambda address: None,
    )
