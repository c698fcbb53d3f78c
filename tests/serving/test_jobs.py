"""Jobs over REST: from the upload to the video, and whatever may go wrong on the way."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from helpers.clips import tone
from helpers.serving import write_voice
from helpers.stand_in import SIZE
from talkingface.media import write_image, write_wav
from talkingface.serving.store import JobStore

for package in ("fastapi", "multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)


@pytest.fixture(autouse=True)
def no_orders(server):
    yield
    server.order("")


def wait_for(condition, seconds: float = 30.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_an_upload_becomes_a_video_that_is_fetched_whole_or_in_parts(server, face, voice):
    server.order("sleep")
    answer = server.post(face, voice, visible_mark="true")
    server.order("")
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert job["model"] == "StandIn" and job["frames"] == 10 and job["links"]["result"] is None
    done = server.ended(job["id"])
    assert (done["state"], done["progress"], done["error"]) == ("done", 1.0, None) and done["expires"] > done["created"]
    whole = server.client.get(done["links"]["result"])
    assert whole.status_code == 200 and len(whole.content) == SIZE and whole.headers["content-type"] == "video/mp4"
    part = server.client.get(done["links"]["result"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{SIZE}"
    assert server.client.head(done["links"]["result"]).headers["content-length"] == str(SIZE)
    assert server.client.get(done["links"]["result"], headers={"Range": "bytes=999-"}).status_code == 416


def test_what_was_uploaded_is_private_has_names_of_ours_and_goes_when_the_job_has_ended(server, face, voice):
    server.order("sleep")
    job = server.post(face, voice).json()
    private = server.folder
    assert stat.S_IMODE(private.stat().st_mode) == stat.S_IMODE((private / "uploads").stat().st_mode) == 0o700
    names = [path.name for path in (private / "uploads").iterdir()]
    assert len(names) == 2 and all(len(name) == 32 and name.isalnum() for name in names)
    server.order("")
    assert server.ended(job["id"])["state"] == "done"
    wait_for(lambda: not list((private / "uploads").iterdir()))
    assert not list(private.parent.glob("*.png")) and not list(private.parent.parent.glob("face.png"))


def bad(folder: Path, kind: str) -> dict[str, Path]:
    """Files of which one is no good."""
    path = folder / kind
    if kind == "text":
        path.write_text("this is no video")
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "huge":
        import numpy as np

        write_image(folder / "huge.png", np.zeros((1500, 1500, 3), np.uint8))
        path = folder / "huge.png"
    if kind in ("long", "silent"):
        path = folder / f"{kind}.wav"
        write_wav(path, tone(3.2) if kind == "long" else tone(1.0) * 0)
    return path


@pytest.mark.parametrize(
    ("field", "kind", "text"),
    [
        ("source", "text", "source: not a media file"),
        ("source", "empty", "source: the file is empty"),
        ("source", "huge", "source: has 1500 x 1500 = 2250000 pixels; this server takes 4096 to 2100000"),
        ("source", "long", "source: has sound but no picture"),
        ("audio", "text", "audio: not a media file"),
        ("audio", "long", "audio: lasts 3.2 s; 3 s are the most"),
        ("audio", "silent", "audio: the sound track is silent"),
    ],
)
def test_files_that_are_no_good_get_422_with_the_name_of_the_field(server, face, voice, tmp_path, field, kind, text):
    answer = server.post(**{"source": face, "audio": voice, field: bad(tmp_path, kind)})
    assert answer.status_code == 422 and text in answer.json()["error"], answer.text
    assert str(server.folder) not in answer.text and not list((server.folder / "uploads").iterdir())


@pytest.mark.parametrize(
    "place", ["talkingface.serving.api.shutil.copyfileobj", "tempfile.SpooledTemporaryFile.rollover"]
)
def test_an_upload_that_finds_no_room_gets_503(server, face, voice, monkeypatch, place):
    """Neither while it arrives nor afterwards is that the client's fault, nor one to look for in the log."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, full)
    monkeypatch.setattr("starlette.formparsers.MultiPartParser.spool_max_size", 1)
    answer = server.post(face, voice)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "60", answer.text
    assert answer.json()["error"] == "the server cannot store anything now"
    assert not list((server.folder / "uploads").iterdir())


def test_what_is_missing_or_unknown_gets_422(server, face, voice):
    missing = server.client.post("/v1/jobs", files={"source": face.open("rb")})
    assert (missing.status_code, missing.json()) == (422, {"error": "audio: field required"})
    unknown = server.post(face, voice, model="Othr")
    assert unknown.status_code == 422
    assert (
        unknown.json()["error"] == "model: there is none of that name, did you mean 'Other'? (models: StandIn, Other)"
    )
    assert server.client.get("/v1/jobs/nobody").status_code == 404
    assert server.post(face, voice, model="Other").json()["model"] == "Other"


def test_a_job_that_ended_its_process_once_is_tried_again_one_that_does_it_again_fails(server, face, voice):
    server.order("die once")
    assert server.ended(server.post(face, voice).json()["id"])["state"] == "done"
    server.order("die")
    job = server.post(face, voice).json()
    failed = server.ended(job["id"])
    assert failed["state"] == "failed" and "died twice" in failed["error"]
    refused = server.client.get(f"/v1/jobs/{job['id']}/result")
    assert refused.status_code == 409 and "died twice" in refused.json()["error"]
    server.order("")
    assert server.ended(server.post(face, voice).json()["id"])["state"] == "done"


def test_a_fault_of_ours_says_nothing_of_the_inside(server, face, voice):
    server.order("fail")
    failed = server.ended(server.post(face, voice).json()["id"])
    assert failed["error"] == "the server has failed at this input; its log says where"


def test_a_worker_that_fails_at_whatever_it_is_given_is_told_until_it_makes_something(server, face, voice, monkeypatch):
    monkeypatch.setattr("talkingface.serving.dispatch.MOST_FAULTS", 2)
    for order, code in (("", 200), ("be ill", 200), ("be ill", 503), ("", 200)):
        server.order(order)
        server.ended(server.post(face, voice).json()["id"])
        assert server.client.get("/healthz").status_code == code


def test_a_worker_that_is_well_again_needs_no_job_to_show_it(server, face, voice, monkeypatch):
    """A balancer sends none to a server that says it is ill."""
    monkeypatch.setattr("talkingface.serving.dispatch.MOST_FAULTS", 1)
    monkeypatch.setattr("talkingface.serving.dispatch._TRY_SECONDS", 0.1)
    server.order("be ill")
    server.ended(server.post(face, voice).json()["id"])
    tried = server.service.workers[0].faults + 2
    wait_for(lambda: server.service.workers[0].faults >= tried)
    assert server.client.get("/healthz").status_code == 503
    server.order("")
    wait_for(lambda: server.client.get("/healthz").status_code == 200)


@pytest.mark.parametrize("order", ["die", "fail"])
def test_inputs_that_fail_again_and_again_make_no_sound_worker_ill(server, face, voice, monkeypatch, order):
    monkeypatch.setattr("talkingface.serving.dispatch.MOST_FAULTS", 2)
    server.order(order)
    for _ in range(3):
        assert server.ended(server.post(face, voice).json()["id"])["state"] == "failed"
    wait_for(lambda: server.client.get("/healthz").status_code == 200)


def test_a_fault_of_the_server_itself_fails_the_job_and_the_next_one_is_made(server, face, voice, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a secret of ours")

    with monkeypatch.context() as patch:
        patch.setattr(server.service.dispatcher.children[0], "ask", broken)
        job = server.ended(server.post(face, voice).json()["id"])
    assert job["state"] == "failed" and job["error"] == "the server has failed at this job; its log says where"
    assert server.ended(server.post(face, voice).json()["id"])["state"] == "done"


def test_a_running_job_tells_how_far_it_is_those_behind_their_place_and_all_can_be_ended(server, face, voice):
    server.order("sleep")
    first, second, third = (server.post(face, voice).json()["id"] for _ in range(3))
    get = server.client.get
    wait_for(lambda: get(f"/v1/jobs/{first}").json()["progress"] == 0.4)
    assert [get(f"/v1/jobs/{job}").json()["position"] for job in (first, second, third)] == [0, 0, 1]
    assert get(f"/v1/jobs/{third}").json()["seconds_left"] is not None  # videos were made before
    not_yet = get(f"/v1/jobs/{first}/result")
    assert not_yet.status_code == 409 and not_yet.headers["retry-after"] == "1"
    for job in (second, first):
        assert server.client.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    server.order("")
    assert server.ended(third)["state"] == "done"
    assert get(f"/v1/jobs/{first}/result").status_code == 410
    wait_for(lambda: not list((server.folder / "uploads").iterdir()))
    removed = server.client.delete(f"/v1/jobs/{third}").json()
    assert removed["state"] == "expired" and get(f"/v1/jobs/{third}/result").status_code == 410
    assert not (server.folder / "results" / f"{third}.mp4").exists()


def test_a_full_queue_says_when_to_come_again(serving, face, voice):
    server = serving(queue=1, job_seconds=4)
    server.order("hang")
    first = server.post(face, voice).json()["id"]
    wait_for(lambda: server.client.get("/v1/jobs/" + first).json()["state"] == "running")
    server.post(face, voice)
    full = server.post(face, voice)
    assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
    assert full.json()["error"] == "1 jobs wait already; try again later"
    # One that hangs is ended at its limit, and the next one has its turn.
    late = server.ended(first)
    assert late["state"] == "failed" and "took longer than the 4 s" in late["error"]


def test_results_expire(serving, face, voice):
    server = serving(keep_hours=0.0004)
    job = server.post(face, voice).json()["id"]
    wait_for(lambda: server.client.get(f"/v1/jobs/{job}").json()["state"] == "expired")
    gone = server.client.get(f"/v1/jobs/{job}/result")
    assert gone.status_code == 410 and not list((server.folder / "results").iterdir())


def test_beyond_the_room_for_results_those_done_first_go_but_nothing_at_work_nor_the_last_one(serving, face, voice):
    server = serving(most_results_mb=2.5 * SIZE / 2**20)
    results, state = server.folder / "results", lambda job: server.client.get(f"/v1/jobs/{job}").json()["state"]
    server.order("sleep")
    late = server.post(face, voice).json()["id"]
    wait_for(lambda: state(late) == "running")
    (results / f"{late}.mp4").write_bytes(bytes(100 * SIZE))  # half made
    server.service.broom.sweep()
    assert (results / f"{late}.mp4").exists() and state(late) == "running"
    server.order("")
    jobs = [late, *(server.post(face, voice).json()["id"] for _ in range(2))]
    assert [server.ended(job)["state"] for job in jobs[1:]] == ["done", "done"]
    wait_for(lambda: state(jobs[0]) == "expired")
    gone = server.client.get(f"/v1/jobs/{jobs[0]}/result")
    assert gone.status_code == 410 and "all of them in" in gone.json()["error"]
    assert {path.stem for path in results.iterdir()} == set(jobs[1:])
    assert f"talkingface_results_bytes {2.0 * SIZE}" in server.client.get("/metrics").text
    server.service.broom._settings = server.service.settings.model_copy(update={"most_results_mb": 1e-6})
    server.service.broom.sweep()
    assert [state(job) for job in jobs] == ["expired", "expired", "done"], "what was made last can be fetched"


def test_copies_that_the_page_keeps_go_like_the_results(serving):
    server = serving(most_results_mb=1)
    page, now = server.folder / "page", time.time()
    for name, age in (("expired", 25 * 3600), ("older", 20), ("newer", 10)):
        (page / name).mkdir()
        (page / name / "film.mp4").write_bytes(bytes(600_000))
        os.utime(page / name / "film.mp4", (now - age, now - age))
    server.service.broom.sweep()
    assert [path.name for path in page.iterdir()] == ["newer"]


def test_a_job_that_is_cancelled_while_its_process_dies_leaves_no_files(serving, face, voice):
    server = serving()
    server.order("hang")
    job = server.post(face, voice).json()["id"]
    wait_for(lambda: server.client.get(f"/v1/jobs/{job}").json()["progress"] == 0.4)
    server.client.delete(f"/v1/jobs/{job}")
    server.service.workers[0]._process.kill()
    wait_for(lambda: job not in server.service.dispatcher.running)
    wait_for(lambda: not list((server.folder / "uploads").iterdir()), 5)
    assert server.client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"


def test_a_server_that_is_told_to_end_leaves_its_jobs_to_the_next_one(serving, face, voice):
    server = serving()
    server.order("sleep")
    jobs = [server.post(face, voice).json()["id"] for _ in range(2)]
    wait_for(lambda: server.client.get(f"/v1/jobs/{jobs[0]}").json()["state"] == "running")
    server.service.close()
    left = JobStore(server.folder / "jobs.sqlite")
    assert [job.id for job in left.in_state("queued")] == jobs
    left.close()
    (server.folder / "orders").unlink()
    (server.folder / "uploads" / "half").write_bytes(b"of an upload under way")
    again = type(server)(server.folder)
    try:
        assert [again.ended(job)["state"] for job in jobs] == ["done", "done"]
        wait_for(lambda: not list((server.folder / "uploads").iterdir()))
    finally:
        again.service.close()


def test_two_workers_work_at_once(serving, face, voice, tmp_path):
    server = serving(workers=2)
    server.order("sleep")
    jobs = [server.post(face, write_voice(tmp_path / "v.wav")).json()["id"] for _ in range(2)]
    states = lambda: [server.client.get(f"/v1/jobs/{job}").json()["state"] for job in jobs]  # noqa: E731
    wait_for(lambda: states() == ["running", "running"])
    server.order("")
    assert [server.ended(job)["state"] for job in jobs] == ["done", "done"]


def test_models_health_and_figures_are_told(server):
    models = server.client.get("/v1/models").json()
    assert [(each["name"], each["default"]) for each in models] == [("StandIn", True), ("Other", False)]
    assert server.client.get("/healthz").json()["status"] == "ok"
    figures = server.client.get("/metrics").text
    assert 'talkingface_jobs_total{model="StandIn",state="done"}' in figures
    assert "talkingface_jobs_queued 0.0" in figures and 'talkingface_requests_total{code="422"}' in figures


def test_the_description_for_programs_has_examples_and_every_answer(server):
    described = server.client.get("/openapi.json").json()
    post = described["paths"]["/v1/jobs"]["post"]
    assert {"202", "401", "413", "422", "429"} <= set(post["responses"])
    schemas = described["components"]["schemas"]
    assert schemas["JobAnswer"]["examples"][0]["state"] == "running" and schemas["Problem"]["examples"]
    assert all(server.client.get(path).status_code == 404 for path in ("/docs", "/redoc"))  # they load from elsewhere
