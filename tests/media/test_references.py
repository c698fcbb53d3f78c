"""Media files that name other files or addresses: nothing but the file that is given is ever opened."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest

from helpers.media_files import write_video
from talkingface import media
from talkingface.errors import MediaError


@pytest.fixture
def listener():
    """A TCP port of this machine that counts who connects."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    calls, stop = [], threading.Event()

    def serve():
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            calls.append(connection.recv(100))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], calls
    stop.set()
    thread.join()
    server.close()


def references(port, secret):
    """Texts that FFmpeg takes for media and that lead elsewhere, by what the message calls them."""
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.2,\n{}\n#EXT-X-ENDLIST\n"
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    return [
        ("HLS playlist", hls.format(f"http://127.0.0.1:{port}/a.ts")),
        ("HLS playlist", hls.format(secret)),
        ("HLS playlist", "\ufeff" + hls.format(secret)),
        ("ffconcat", f"ffconcat version 1.0\nfile '{secret}'\n"),
        ("ffconcat", f"ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/a.mp4'\n"),
        ("SDP", sdp),
        ("XML", f'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:{port}/</BaseURL></MPD>'),
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".wav", ".jpg"])
@pytest.mark.parametrize("number", range(7))
def test_a_file_that_leads_elsewhere_is_refused_and_nothing_is_opened(tmp_path, listener, number, suffix):
    port, calls = listener
    secret = write_video(tmp_path / "secret.mp4", [k / 25 for k in range(5)])
    what, text = references(port, secret)[number]
    path = tmp_path / f"given{suffix}"
    path.write_text(text, encoding="utf-8")
    started = time.monotonic()
    for look in (media.probe, media.read_audio, media.count_frames):
        with pytest.raises(MediaError, match=f"given.*{what}.*points to other files"):
            look(path)
    assert time.monotonic() - started < 5, "waited for somebody to send something"
    assert not calls


def test_a_pattern_in_a_name_does_not_open_its_neighbours(tmp_path):
    media.write_image(tmp_path / "a1.jpg", np.full((32, 32, 3), 255, np.uint8))
    media.write_image(tmp_path / "a%d.jpg", np.zeros((32, 32, 3), np.uint8))
    assert media.read_image(tmp_path / "a%d.jpg").max() < 10
