"""Servers for the tests of this folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helpers.serving import write_face, write_voice
from helpers.stand_in import MAKER


@pytest.fixture(scope="session")
def face(tmp_path_factory) -> Path:
    return write_face(tmp_path_factory.mktemp("face") / "face.png")


@pytest.fixture(scope="session")
def voice(tmp_path_factory) -> Path:
    return write_voice(tmp_path_factory.mktemp("voice") / "voice.wav")


class Server:
    """A server without a network: a service that runs, and a client."""

    def __init__(self, folder: Path, token=None, root_path="", workers=1, templates=None, loopback=False, **settings):
        from starlette.testclient import TestClient

        from talkingface.serving.app import make_app
        from talkingface.serving.config import load_serving
        from talkingface.serving.service import Served, Service

        given = {"folder": str(folder), "most_upload_mb": 1, "most_audio_seconds": 3, **settings}
        self.folder = folder
        self.service = Service(
            load_serving((), {f"serve.{key}": value for key, value in given.items()}),
            [Served("StandIn", "StandIn", None), Served("Other", None, "run")],
            ["cpu"] * workers,
            {"orders": str(folder / "orders")},
            generator=MAKER,
            templates=templates,
        )
        try:
            self.service.start()
        except BaseException:
            self.service.close()
            raise
        app = make_app(self.service, token, root_path, loopback=loopback)
        self.client = TestClient(app, raise_server_exceptions=False)

    def order(self, what: str) -> None:
        """Tell the generator what to do with each job from now on."""
        (self.folder / "orders").write_text(what)

    def post(self, source: Path, audio: Path, **fields):
        with source.open("rb") as first, audio.open("rb") as second:
            files = {"source": (f"../{source.name}", first), "audio": ("..\\voice.wav", second)}
            return self.client.post("/v1/jobs", files=files, data=fields)

    def ended(self, job_id: str, seconds: float = 60.0) -> dict:
        """The job once it has ended."""
        deadline = time.monotonic() + seconds
        while (job := self.client.get(f"/v1/jobs/{job_id}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Makes servers, each with a folder of its own; they end with the tests of the file."""
    made: list[Server] = []

    def make(**settings) -> Server:
        made.append(Server(tmp_path_factory.mktemp("serving") / "private", **settings))
        return made[-1]

    yield make
    for server in made:
        server.service.close()


@pytest.fixture(scope="module")
def server(serving) -> Server:
    """One server for all tests of a file that change nothing about it."""
    return serving()
