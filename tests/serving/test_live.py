"""Streams: faces that are kept, and films that are sent while their sound is still arriving."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time

import numpy as np
import pytest

from helpers import ROOT
from helpers.clips import tone
from helpers.pages import blocks
from helpers.stand_in import SIZE
from talkingface.media import count_frames, probe, read_mark

for package in ("fastapi", "uvicorn", "multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)


@pytest.fixture
def avatar(server, face):
    answer = server.client.post("/v1/avatars", files={"source": face.read_bytes()})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_face_is_kept_told_and_removed(server, avatar):
    here = avatar["links"]["self"]
    assert avatar["kind"] == "picture" and server.client.get(here).json() == avatar
    assert not list((server.folder / "uploads").iterdir())
    assert server.client.delete(here).status_code == 204
    assert server.client.get(here).status_code == 404 and not list((server.folder / "avatars").iterdir())
    assert server.client.post(avatar["links"]["speech"], content=b"abc").status_code == 404
    assert server.client.get("/v1/avatars/..%2Fjobs").status_code == 404


def test_files_that_are_no_good_do_not_become_faces(server, voice):
    bad = server.client.post("/v1/avatars", files={"source": voice.read_bytes()})
    assert bad.status_code == 422 and "source: has sound but no picture" in bad.json()["error"]
    assert not list((server.folder / "uploads").iterdir())


def test_a_face_that_finds_no_room_gets_503_and_leaves_nothing(server, face, monkeypatch):
    before, replace = sorted((server.folder / "avatars").iterdir()), os.replace

    def full(source, target):
        if os.path.basename(target).isalnum():  # the face, not what is told of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr("os.replace", full)
    assert server.client.post("/v1/avatars", files={"source": face.read_bytes()}).status_code == 503
    assert sorted((server.folder / "avatars").iterdir()) == before


def test_a_face_whose_client_has_gone_meanwhile_is_not_kept(server, face, monkeypatch):
    gone = iter([False, True])  # before the upload was looked at, and after

    async def is_disconnected(_):
        return next(gone)

    before = len(list((server.folder / "avatars").iterdir()))
    monkeypatch.setattr("starlette.requests.Request.is_disconnected", is_disconnected)
    server.client.post("/v1/avatars", files={"source": face.read_bytes()})
    assert len(list((server.folder / "avatars").iterdir())) == before and next(gone, None) is None


def test_of_too_many_faces_the_one_that_was_not_used_for_longest_goes(serving, face):
    server = serving(avatars=2)
    made = []
    for _ in range(3):
        made.append(server.client.post("/v1/avatars", files={"source": face.read_bytes()}).json()["links"]["self"])
        time.sleep(0.02)
        server.client.get(made[0])
    assert [server.client.get(each).status_code for each in made] == [200, 404, 200]
    server.service.broom.sweep()
    assert len(list((server.folder / "avatars").iterdir())) == 4, "two files each"
    server.service.avatars.expire(time.time() + 1)
    assert not list((server.folder / "avatars").iterdir())


def test_a_whole_voice_at_once_is_answered_and_faults_are_told(server, avatar):
    speech = avatar["links"]["speech"]
    said = server.client.post(speech, content=b"hello world")
    assert (said.status_code, said.content, said.headers["content-type"]) == (200, b"HELLO WORLD", "video/mp4")
    assert server.client.post(speech, content=b"").status_code == 422
    assert server.client.post(speech, params={"sample_rate": 1}, content=b"ab").status_code == 422
    assert server.client.post(speech, content=b"fail").status_code == 503
    most = 3 * 16000 * 2  # bytes of the longest voice
    assert len(server.client.post(speech, content=b"x" * 2 * most).content) == most


def test_where_every_device_is_at_work_a_stream_is_told_to_come_again(serving, face, voice):
    server = serving(stall_seconds=0.5)
    avatar = server.client.post("/v1/avatars", files={"source": face.read_bytes()}).json()
    server.order("sleep")
    job = server.post(face, voice).json()["id"]
    while server.client.get(f"/v1/jobs/{job}").json()["state"] != "running":
        time.sleep(0.02)
    busy = server.client.post(avatar["links"]["speech"], content=b"abc")
    assert busy.status_code == 503 and busy.headers["retry-after"] == "1"
    server.order("")
    assert server.ended(job)["state"] == "done"
    assert server.client.post(avatar["links"]["speech"], content=b"abc").content == b"ABC"


@pytest.mark.parametrize(("seconds_each", "ended"), [(0.5, True), (4.0, False)])
def test_who_speaks_much_slower_than_people_do_does_not_keep_a_device(monkeypatch, tmp_path, seconds_each, ended):
    import asyncio
    from types import SimpleNamespace

    from talkingface.serving import session

    clock, sent = [0.0], []
    monkeypatch.setattr(session.time, "monotonic", lambda: clock[0])

    async def talk():
        stream = session.Session("StandIn", tmp_path, 100, False, most_seconds=1000, stall_seconds=10)
        for _ in range(4):  # a piece every 4 s
            stream.told({"more": True})
            stream.also(SimpleNamespace(send=sent.append))
            clock[0] += 4
            await stream.hear(b"ab" * round(100 * seconds_each))
            stream.also(SimpleNamespace(send=sent.append))

    asyncio.run(talk())
    assert ({"end": True} in sent) == ended and isinstance(sent[0], bytes)


def test_a_film_whose_client_has_gone_or_reads_too_slowly_ends(tmp_path):
    import asyncio

    from talkingface.serving.session import Gone, Session

    async def listen(leaves: bool):
        stream = Session("StandIn", tmp_path, 100, False, most_seconds=10, stall_seconds=0.05)
        if leaves:
            first = asyncio.create_task(anext(stream.pieces()))
            await asyncio.sleep(0)
            stream.leave()
        else:  # the worker's thread has more than the client takes
            await asyncio.to_thread(lambda: [stream.told(b"piece") for _ in range(100)])
            first = asyncio.create_task(anext(stream.pieces()))
        await asyncio.wait_for(first, 10)

    for leaves in (True, False):
        with pytest.raises(Gone):
            asyncio.run(listen(leaves))


class Talk:
    """A client that sends its request in pieces and reads the answer meanwhile."""

    def __init__(self, port: int, path: str) -> None:
        self.line = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.line.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        self.heard = b""

    def say(self, words: bytes) -> None:
        self.line.sendall(f"{len(words):x}\r\n".encode() + words + b"\r\n")

    def until(self, words: bytes) -> bytes:
        while words not in self.heard:
            piece = self.line.recv(4096)
            assert piece, self.heard
            self.heard += piece
        return self.heard


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """A server in a process of its own, behind a real port."""
    from helpers.load import ServerProcess, free_port

    port, folder = free_port(), tmp_path_factory.mktemp("wired")
    command = [sys.executable, "-m", "helpers.stand_in_server", str(folder / "private"), str(port)]
    server = ServerProcess(command, port, folder / "log.txt")
    server.start()
    yield server
    server.stop()


def test_over_the_wire_the_film_begins_before_the_voice_ends_and_slow_clients_stop_nobody(face, wired):
    import httpx

    avatar = httpx.post(f"{wired.address}/v1/avatars", files={"source": face.read_bytes()}, timeout=60).json()
    path = avatar["links"]["speech"]
    talk = Talk(wired.port, path)
    for words in (b"first", b"second"):
        talk.say(words)
        assert words.upper() in talk.until(words.upper())
    talk.say(b"")
    assert b"200 OK" in talk.until(b"0\r\n\r\n") and b"ransfer-encoding: chunked" in talk.heard.lower()
    gone = Talk(wired.port, path)
    gone.say(b"slow")
    gone.line.close()  # in the middle of a sentence
    silent = Talk(wired.port, path)
    silent.say(b"word")  # and then nothing more, without an end
    assert b"WORD" in silent.until(b"0\r\n\r\n"), "who says nothing for long has finished"
    assert httpx.post(f"{wired.address}{path}", content=b"abc", timeout=30).content == b"ABC"


@pytest.mark.parametrize(("number", "made"), [(0, None), (2, b"HELLO WORLD")])
def test_the_clients_of_the_docs_work_as_printed(face, voice, wired, tmp_path, monkeypatch, number, made):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me.mp4").write_bytes(face.read_bytes())
    (tmp_path / "speech.wav").write_bytes(voice.read_bytes())
    page = ROOT / "docs" / "serving.md"
    code = [body for _, body in blocks(page, "python")][number]
    code = code.replace("http://127.0.0.1:8000", wired.address).replace("IPLAP", "StandIn")
    exec(
        compile(code, "serving.md", "exec", dont_inherit=True), {"microphone_pcm": lambda: iter([b"hello ", b"world"])}
    )
    film = (tmp_path / "talking.mp4").read_bytes()
    assert len(film) == SIZE if made is None else film == made


class Wire:
    """The child's end of a line, on which a voice arrives."""

    def __init__(self, sounds: list[bytes]) -> None:
        self.sounds, self.pieces, self.first = sounds, [], None

    def send(self, message) -> None:
        if isinstance(message, bytes):
            self.pieces.append(message)
            self.first = len(self.sounds) if self.first is None and len(self.pieces) > 1 else self.first

    def receive(self):
        return self.sounds.pop(0) if self.sounds else {"end": True}

    def go_on(self) -> None:
        pass


def test_a_real_model_sends_a_film_with_sound_and_mark_while_it_listens(face, tmp_path):
    from helpers.serving import random_checkpoint
    from talkingface.serving.service import Served
    from talkingface.serving.work import Models, speak

    models = Models([Served("W", "Wav2Lip", str(random_checkpoint(tmp_path / "tiny.pt")))], "cpu", {}, 1, 4)
    pcm = (tone(1.5) * 32767).astype("<i2").tobytes()
    for number in range(2):
        wire = Wire([pcm[start : start + 1001] for start in range(0, len(pcm), 1001)])  # cuts samples in two
        question = {"model": "W", "source": str(face), "sample_rate": 16000, "visible_mark": number == 1}
        assert speak(models, question, wire) == {}
        film = tmp_path / f"film{number}.mp4"
        film.write_bytes(b"".join(wire.pieces))
        assert wire.first > 10, "much of the voice was still to come"
        assert count_frames(film, fps=None) == 38 and probe(film).has_audio and read_mark(film)
    sizes = [(tmp_path / f"film{number}.mp4").stat().st_size for number in range(2)]
    assert np.diff(sizes) != 0 and len(models._faces) == 1
