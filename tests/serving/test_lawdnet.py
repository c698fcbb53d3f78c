"""Clients of the earlier LawDNet server are understood, and cannot do what they could do there."""

from __future__ import annotations

import pytest

from helpers.stand_in import SIZE

for package in ("fastapi", "multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def server(serving, face, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "other.png"
    other.write_bytes(face.read_bytes() + b"\0")
    return serving(templates={"anchor": face, "other": other})


@pytest.mark.parametrize(
    ("route", "field"), [("/upload-audio", "file"), ("/generate_video", "audio"), ("/generate-video", "audio")]
)
def test_its_routes_take_a_sound_and_give_a_video(server, voice, route, field):
    answer = server.client.post(
        route, files={field: ("../../evil.wav", voice.read_bytes())}, data={"template": "other"}
    )
    assert answer.status_code == 200 and len(answer.content) == SIZE
    assert answer.headers["content-type"] == "video/mp4" and "attachment" in answer.headers["content-disposition"]
    assert not list(server.folder.parent.rglob("evil*"))
    assert not list((server.folder / "results").iterdir()), "nobody could fetch it any more"


def test_its_errors_have_its_codes_and_words_as_json(server, voice):
    post, sound = server.client.post, voice.read_bytes()
    assert (post("/upload-audio").status_code, post("/upload-audio").json()) == (400, {"error": "No file part"})
    empty = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    nameless = post("/upload-audio", content=empty, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert nameless.status_code == 400 and nameless.json()["error"] in ("No selected file", "No file part")
    unknown = post("/upload-audio", files={"file": ("a.wav", sound)}, data={"template": "../secret"})
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Video not found"})
    bad = post("/generate_video", files={"audio": ("a.wav", b"no sound")})
    assert bad.status_code == 422 and bad.json()["error"].startswith("audio: ")
    assert server.client.get("/health").json() == {"status": "ok"}


def test_what_cannot_be_made_is_an_error_of_the_server(server, voice):
    server.order("fail")
    try:
        answer = server.client.post("/generate_video", files={"audio": ("a.wav", voice.read_bytes())})
        assert answer.status_code == 500 and "has failed" in answer.json()["error"]
    finally:
        server.order("")
