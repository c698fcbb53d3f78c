"""`python -m helpers.stand_in_server FOLDER PORT`: a server in a process of its own whose generator is a stand-in."""

from __future__ import annotations

import functools
import sys

from helpers.stand_in import MAKER
from talkingface.serving import server
from talkingface.serving.config import load_serving
from talkingface.serving.service import Served, Service

if __name__ == "__main__":
    server.Service = functools.partial(Service, generator=MAKER)
    given = {"folder": sys.argv[1], "most_upload_mb": 1, "most_audio_seconds": 3, "stall_seconds": 2}
    server.serve(
        settings=load_serving((), {f"serve.{key}": value for key, value in given.items()}),
        served=[Served("StandIn", "StandIn", None)],
        devices=["cpu"],
        overrides={},
        host="127.0.0.1",
        port=int(sys.argv[2]),
        token=None,
        root_path="",
        templates={},
        ready=lambda address: None,
    )
