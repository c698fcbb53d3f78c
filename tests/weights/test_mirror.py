"""Weight files from a folder or an address nearby."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from talkingface.cli import commands as cli
from talkingface.weights import published
from talkingface.weights.published import WeightFile

CONTENT = bytes(range(256)) * 10
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder with two files; one of them has a published hash, neither has an address that answers."""
    url = "http://127.0.0.1:9/known.pth"
    known = WeightFile("known", "sub/known.pth", "a test", "none", "http://authors", url, len(CONTENT), True, SHA)
    unknown = WeightFile("unknown", "sub/unknown.pth", "a test", "none", "http://authors")
    monkeypatch.setattr(published, "FILES", (known, unknown))
    monkeypatch.setattr("talkingface.cli.weights.FILES", (known, unknown))
    folder = tmp_path / "mirror"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "known.pth").write_bytes(CONTENT)
    (folder / "unknown.pth").write_bytes(b"weights")
    return folder


def weights(tmp_path, mirror, *options):
    return cli.main(["weights", f"--weights_dir={tmp_path / 'mine'}", f"--weights_mirror={mirror}", *options])


def test_a_folder_is_listed_and_its_files_are_taken(mirror, tmp_path, capsys):
    assert weights(tmp_path, mirror) == 0
    assert capsys.readouterr().out.count("in mirror") == 2
    for name in ("known", "unknown"):  # as below weights_dir, and by its name alone
        assert weights(tmp_path, mirror, f"--download={name}") == 0
    assert (tmp_path / "mine" / "sub" / "known.pth").read_bytes() == CONTENT
    assert (tmp_path / "mine" / "sub" / "unknown.pth").read_bytes() == b"weights"
    assert SHA in capsys.readouterr().out


def test_a_file_that_is_not_the_published_one_is_not_taken(mirror, tmp_path, capsys):
    (mirror / "sub" / "known.pth").write_bytes(CONTENT[:-1] + b"x")
    assert weights(tmp_path, mirror, "--download=known") == 2
    assert "is not the published sub/known.pth" in capsys.readouterr().err
    assert not list((tmp_path / "mine").rglob("*.pth"))


def test_a_folder_that_is_not_there_is_one_line(mirror, tmp_path, capsys):
    for options in (["--download=known"], []):
        assert weights(tmp_path, tmp_path / "nowhere", *options) == 2
        assert "no such folder; weights_mirror names a folder or an address" in capsys.readouterr().err


def test_an_address_is_asked_first_and_believed_only_with_a_hash(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=mirror))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    try:
        assert weights(tmp_path, address, "--download=known") == 0
        assert (tmp_path / "mine" / "sub" / "known.pth").read_bytes() == CONTENT
        assert weights(tmp_path, address, "--download=unknown") == 2
        assert not (tmp_path / "mine" / "sub" / "unknown.pth").exists()
    finally:
        server.shutdown()
        server.server_close()


def test_the_configuration_may_name_it(mirror, tmp_path, monkeypatch, capsys):
    from talkingface.plugin import configuration

    real = configuration.load_settings
    monkeypatch.setattr(configuration, "load_settings", lambda: real((), {"weights_mirror": str(mirror)}))
    assert cli.main(["weights", f"--weights_dir={tmp_path / 'mine'}"]) == 0
    assert capsys.readouterr().out.count("in mirror") == 2
