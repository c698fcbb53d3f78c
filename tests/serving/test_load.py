"""Many clients at once and a kill in the middle: no job is lost, and who misbehaves harms nobody else."""

from __future__ import annotations

import sys
import time

import pytest

from talkingface.media import count_frames, probe, read_mark
from talkingface.serving.store import JobStore

for package in ("fastapi", "uvicorn", "multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)


def check_codes(crowd, good: int) -> None:
    assert {name: code for name, code in crowd.codes.items() if name.startswith("good")} == {
        f"good{number}": 202 for number in range(good)
    }
    assert all(code in (400, 422) for name, code in crowd.codes.items() if name.startswith("bad")), crowd.codes
    assert all(
        code == (422 if int(name[4:]) % 2 else 413) for name, code in crowd.codes.items() if name.startswith("over")
    ), crowd.codes


def test_jobs_survive_a_kill_and_bad_clients_harm_nobody(face, tmp_path):
    from helpers.load import ServerProcess, free_port, storm

    private = tmp_path / "private"
    private.mkdir()
    (private / "orders").write_text("sleep")
    port = free_port()
    command = [sys.executable, "-m", "helpers.stand_in_server", str(private), str(port)]
    server = ServerProcess(command, port, tmp_path / "log.txt")
    server.start()
    start = server.start

    def start_again():
        (private / "orders").unlink()
        start()

    server.start = start_again
    try:
        crowd = storm(server, face, tmp_path, good=3, bad=2, over=2, vanishing=2)
        check_codes(crowd, 3)
        assert len(crowd.videos) == 3 and all(len(video) == 204 for video in crowd.videos.values())
        jobs = JobStore(private / "jobs.sqlite")
        assert jobs.counts().pop("done") == 3, "what nobody would fetch was dropped"
        jobs.close()
        deadline = time.monotonic() + 20
        while list((private / "uploads").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        assert server.stop() in (143, -15)


@pytest.mark.slow
def test_twenty_clients_at_once_with_a_real_model(face, tmp_path):
    from helpers.load import ServerProcess, command_line, free_port, storm, summary
    from helpers.serving import random_checkpoint

    port = free_port()
    checkpoint = random_checkpoint(tmp_path / "tiny.pt")
    server = ServerProcess(command_line(tmp_path / "private", port, checkpoint), port, tmp_path / "log.txt")
    server.start()
    try:
        crowd = storm(server, face, tmp_path, good=10, bad=5, over=2, vanishing=3)
        print(summary(server, crowd))
        check_codes(crowd, 10)
        assert len(crowd.videos) == 10
        for name, video in crowd.videos.items():
            made = tmp_path / f"{name}.mp4"
            made.write_bytes(video)
            assert count_frames(made) == crowd.jobs[name][1] and read_mark(made) and probe(made).has_audio
        assert max(server.peaks.values()) < 1500, "MiB of any process"
    finally:
        assert server.stop() == 143
