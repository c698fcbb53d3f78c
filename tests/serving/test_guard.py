"""Who may come in: tokens, sizes, slow clients, other web pages, prefixes of proxies."""

from __future__ import annotations

import asyncio

import pytest

from talkingface.serving.config import ServeConfig

for package in ("fastapi", "multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)

TOKEN = "secret-of-the-test"


@pytest.fixture(scope="module")
def guarded(serving):
    return serving(token=TOKEN, root_path="/talk")


def test_without_the_token_nothing_is_told_but_that_the_server_lives(guarded, face, voice):
    get = guarded.client.get
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = get("/v1/models", headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert get("/metrics").status_code == 401 and guarded.post(face, voice).status_code == 401
    assert get("/healthz").status_code == 200
    assert get("/v1/models", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/talk"])
def test_behind_a_prefix_both_kinds_of_proxies_work_and_links_have_it(guarded, face, voice, prefix):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.client.get(f"{prefix}/v1/models").status_code == 401
    files = {"source": face.read_bytes(), "audio": voice.read_bytes()}
    job = guarded.client.post(f"{prefix}/v1/jobs", files=files, headers=headers)
    assert job.status_code == 202 and job.json()["links"]["self"].startswith("/talk/v1/jobs/")
    assert guarded.client.get(job.json()["links"]["self"], headers=headers).status_code == 200


def test_too_much_is_turned_away_by_what_it_says_and_by_what_it_sends(server, face, voice):
    big = {"source": b"\0" * 2**20, "audio": voice.read_bytes()}
    said = server.client.post("/v1/jobs", files=big)
    assert said.status_code == 413 and "larger than the 1 MiB" in said.json()["error"]

    def pieces():  # without a length
        yield b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield b"\0" * 2**16
        yield b"\r\n--x--\r\n"

    sent = server.client.post("/v1/jobs", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert sent.status_code == 413 and not list((server.folder / "uploads").iterdir())


def test_other_web_pages_may_not_make_a_browser_do_anything(server, face, voice):
    files = {"source": face.read_bytes(), "audio": voice.read_bytes()}
    for other in ("cross-site", "same-site"):  # the second: a page at another port of this machine, say
        assert server.client.post("/v1/jobs", files=files, headers={"Sec-Fetch-Site": other}).status_code == 403
    assert server.client.post("/v1/jobs", files=files, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 202


def test_a_name_that_others_made_lead_here_is_not_answered_to(serving, face, voice):
    """DNS rebinding: for the browser such a page is of the same site, so it could read results and uploads."""
    alone = serving(loopback=True, names=["talk.example.org"])
    for host in ("evil.example:8000", "localhost.evil.example", "192.168.0.7", "[::2]:8000"):
        answer = alone.client.get("/v1/models", headers={"Host": host})
        assert answer.status_code == 421 and "--serve.names" in answer.json()["error"]
    for host in (
        "localhost:8000",
        "LOCALHOST",
        "talk.localhost",
        "127.0.0.1:8000",
        "[::1]:8000",
        "Talk.example.org",
        "",
    ):
        assert alone.client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("host", "sent"), [("evil.example", "websocket.close"), ("localhost:8000", "passed")])
def test_websockets_are_held_to_the_name_as_well(host, sent):
    from talkingface.serving.guard import Guard

    seen = []

    async def app(scope, receive, send):
        seen.append("passed")

    async def send(message):
        seen.append(message["type"])

    scope = {"type": "websocket", "path": "/page/queue", "headers": [(b"host", host.encode())], "query_string": b""}
    asyncio.run(Guard(app, ServeConfig(), None, lambda: None, loopback=True)(scope, None, send))
    assert seen == [sent]


def test_a_fault_of_ours_is_one_line_of_json_too_and_counted(server, monkeypatch):
    def broken():
        raise RuntimeError("a secret of ours")

    with monkeypatch.context() as patch:
        patch.setattr(server.service.store, "counts", broken)
        answer = server.client.get("/healthz")
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server has failed at this request; its log says where"}
    assert 'talkingface_requests_total{code="500"} 1.0' in server.client.get("/metrics").text


def passed(guard, receive) -> int:
    """Status of what the guard answers to a POST whose body comes from `receive`."""
    answers = []

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": [], "query_string": b""}
    asyncio.run(guard(scope, receive, send))
    return answers[0]["status"]


def test_an_upload_that_does_not_end_is_given_up():
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    from talkingface.serving.guard import Guard

    async def app(scope, receive, send):
        try:
            await Request(scope, receive).body()
        except HTTPException as error:
            await PlainTextResponse("late", error.status_code)(scope, receive, send)

    async def never():
        await asyncio.sleep(60)

    assert passed(Guard(app, ServeConfig(upload_seconds=0.05), None, lambda: None), never) == 408
