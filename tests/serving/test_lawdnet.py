"""Clients of the earlier LawDNet server are understood, and cannot do what they could do there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.stand_in import SIZE
from talkingface.serving.child import Refused

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


def test_limits_of_sources_are_for_those_of_clients_and_the_server_has_looked_at_its_own(serving, face, voice):
    server = serving(templates={"anchor": face}, most_pixels=5000)
    assert server.post(face, voice).status_code == 422
    answer = server.client.post("/generate_video", files={"audio": ("a.wav", voice.read_bytes())})
    assert answer.status_code == 200, answer.text
    other = server.service.models["Other"]
    server.service.models["Other"] = replace(other, accepts=("video",))
    given = {"files": {"audio": ("a.wav", voice.read_bytes())}, "data": {"model": "Other"}}
    refused = server.client.post("/generate_video", **given)
    assert (refused.status_code, refused.json()["error"]) == (422, "template: is a picture; this model takes a video")
    assert not list((server.folder / "uploads").iterdir())


def test_a_template_that_cannot_serve_is_refused_at_the_start(serving, voice):
    with pytest.raises(Refused, match=r"^template anchor: .*voice\.wav: has sound but no picture"):
        serving(templates={"anchor": voice})
