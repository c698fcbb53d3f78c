"""Media files that name other files or addresses: nothing but the file that is given is ever opened."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest

from helpers.clips import face_frames, tone, write_clip
from helpers.media_files import write_video
from helpers.preparing import FAST, item, run
from talkingface import media
from talkingface.clips.source import Audio, Source
from talkingface.errors import MediaError
from talkingface.media import info


@pytest.fixture
def listener():
    """A TCP port of this machine that counts who connects."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.02)
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


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n{}#EXTINF:1.2,\n{}\n#EXT-X-ENDLIST\n"
MPD = (
    "<MPD><Period><AdaptationSet><Representation><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n{}m=video {} RTP/AVP 96\n"
# Texts that FFmpeg or a player takes for media and that lead to an address, by what the message calls them.
LEADING = {
    "segment": ("HLS playlist", lambda to: HLS.format("", to)),
    "segment behind a mark": ("HLS playlist", lambda to: "\ufeff" + HLS.format("", to)),
    "key": ("HLS playlist", lambda to: HLS.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{to}"\n', "a.ts")),
    "map": ("HLS playlist", lambda to: HLS.format(f'#EXT-X-MAP:URI="{to}"\n', "a.mp4")),
    "playlist of playlists": ("HLS playlist", lambda to: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{to}\n"),
    "concat": ("ffconcat", lambda to: f"ffconcat version 1.0\nfile '{to}'\n"),
    "concat with options": (
        "ffconcat",
        lambda to: f"ffconcat version 1.0\nfile '{to}'\noption safe 0\noption protocol_whitelist file,http,tcp\n",
    ),
    "dash": ("DASH manifest", MPD.format),
    "dash with a head": ("XML", lambda to: f'\n<?xml version="1.0"?>{MPD.format(to)}'),
    "smooth streaming": ("XML", lambda to: f'<SmoothStreamingMedia><StreamIndex Url="{to}"/></SmoothStreamingMedia>'),
    "xspf": ("playlist in XML", lambda to: f"<playlist><track><location>{to}</location></track></playlist>"),
    "asx": ("playlist in XML", lambda to: f'<ASX version="3.0"><entry><ref href="{to}"/></entry></ASX>'),
    "smil": ("playlist in XML", lambda to: f'<smil><body><video src="{to}"/></body></smil>'),
    "wpl": ("playlist in XML", lambda to: f'<?wpl version="1.0"?><smil><media src="{to}"/></smil>'),
    "pls": ("playlist", lambda to: f"[playlist]\nFile1={to}\n"),
    "asf reference": ("playlist", lambda to: f"[Reference]\nRef1={to}\n"),
    "rtsp redirection": ("RTSP", lambda to: f"RTSP/1.0 302 Found\nLocation: {to}\n"),
    "sdp control": ("SDP", lambda to: SDP.format(f"a=control:{to}\n", 5004)),
}


def addresses(port, secret, descriptor):
    """Ways to name a listener, a file, and a file that this process has open."""
    files = (f"{secret}", f"file:{secret}", f"crypto:{secret}", f"concat:{secret}|{secret}", f"cache:{secret}")
    inside = (f"subfile,,start,0,end,99999,,:{secret}", "data:video/mp2t;base64,R0FAAA==", "secret.ts", "secret%d.ts")
    network = (f"{scheme}://127.0.0.1:{port}/a.ts" for scheme in ("http", "https", "tcp", "ftp", "rtmp", "hls+http"))
    return [*files, *inside, *network, f"pipe:{descriptor}", f"fd:{descriptor}"]


@pytest.fixture
def secret(tmp_path):
    """A video that nobody gives, and its descriptor in this process."""
    path = write_video(tmp_path / "secret.ts", [k / 25 for k in range(5)])
    with path.open("rb") as stream:
        yield path, stream.fileno()
        assert stream.tell() == 0, "somebody has read it through its descriptor"


DOORS = {
    "probe": media.probe,
    "sound": media.read_audio,
    "voice": Audio.load,
    "face": Source,
    "length": media.count_frames,
    "frames": lambda path: list(media.VideoReader(path)),
}


@pytest.mark.parametrize("kind", LEADING)
def test_a_file_that_leads_elsewhere_is_refused_and_nothing_is_opened(tmp_path, listener, secret, kind):
    port, calls = listener
    what, text = LEADING[kind]
    started = time.monotonic()
    for number, address in enumerate(addresses(port, *secret)):
        path = tmp_path / f"given{number}{('.mp4', '.m3u8', '.wav', '.jpg', '.mpd', '.sdp')[number % 6]}"
        path.write_text(text(address), encoding="utf-8")
        for look in DOORS.values():
            with pytest.raises(MediaError, match=rf"^[^\n]*given{number}\.\w+: is an? .*{what}.*points to other files"):
                look(path)
    assert time.monotonic() - started < 5, "waited for somebody to send something"
    assert not calls


@pytest.mark.parametrize("kind", ["segment", "concat with options", "sdp control", "dash"])
def test_what_ffmpeg_itself_would_follow_is_closed_behind_the_first_words_as_well(tmp_path, listener, secret, kind):
    """A text may begin otherwise and be found out by FFmpeg later; it has no protocol to open anything with."""
    port, calls = listener
    for address in addresses(port, *secret):
        (tmp_path / "given.mp4").write_text(LEADING[kind][1](address))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(MediaError):
            patch.setattr(info, "_REFERRING_TEXTS", {})
            media.probe(tmp_path / "given.mp4")
    assert not calls


@pytest.mark.parametrize("door", DOORS)
def test_a_name_is_the_name_of_a_file_and_nothing_else(tmp_path, listener, secret, door, monkeypatch):
    port, calls = listener
    monkeypatch.chdir(tmp_path)
    for address in (*addresses(port, *secret)[2:], "secre?.ts", "-"):
        if address != "secret.ts":
            with pytest.raises(MediaError, match="no such file; check the path"):
                DOORS[door](address)
    assert not calls


def test_a_clip_of_a_data_set_that_leads_elsewhere_fails_alone(tmp_path, listener, secret):
    port, calls = listener
    good = write_clip(tmp_path / "good.mp4", face_frames(12), tone(0.5))
    texts = [
        LEADING[kind][1](address) for kind in ("segment", "concat", "dash") for address in addresses(port, *secret)
    ]
    items = [item(good, "s/good")]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.mp4").write_text(text)
        items.append(item(tmp_path / f"{number}.mp4", f"s/{number}"))
    report = run(items, tmp_path / "out", FAST)
    assert report.ok_ids == ["s/good"] and len(report.failed) == len(texts)
    assert all("points to other files" in reason for reason in report.failed.values())
    assert not calls


def test_a_folder_that_looks_like_a_protocol_is_written_into(tmp_path, listener, monkeypatch):
    port, calls = listener
    monkeypatch.chdir(tmp_path)
    for path in (f"tcp:/127.0.0.1:{port}/a.mp4", "concat:/a.mp4", "12:30.mp4", "a%03d.mp4"):
        with media.VideoWriter(path, fps=25) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8))
        assert media.count_frames(path) == 1
    assert not calls


@pytest.mark.parametrize("pattern", ["a%d.jpg", "a%03d.jpg", "a?.jpg", "a*.jpg", "a[0-9].jpg"])
def test_a_pattern_in_a_name_does_not_open_its_neighbours(tmp_path, pattern):
    for name in ("a1.jpg", "a001.jpg"):
        media.write_image(tmp_path / name, np.full((32, 32, 3), 255, np.uint8))
    media.write_image(tmp_path / pattern, np.zeros((32, 32, 3), np.uint8))
    assert media.read_image(tmp_path / pattern).max() < 10
    assert len(Source(tmp_path / pattern)) == media.count_frames(tmp_path / pattern) == 1
