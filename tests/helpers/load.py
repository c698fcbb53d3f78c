"""Many clients at once against a server in a process of its own: good ones, bad ones, some that vanish; and a kill."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from helpers import ROOT
from helpers.serving import write_voice


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


@dataclass
class ServerProcess:
    """A server that can be killed and started again at the same place."""

    command: list[str]
    port: int
    log: Path
    peaks: dict[int, int] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, seconds: float = 120.0) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.log.parent, env=environment)
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            try:
                assert httpx.get(f"{self.address}/healthz", timeout=5).status_code == 200
                return
            except httpx.TransportError:
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def measure(self) -> None:
        """Note the most memory, in MiB, that the server and each of its processes have had resident."""
        pids = [self.process.pid, *_children(self.process.pid)]
        for pid in pids:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
            self.peaks[pid] = max(self.peaks.get(pid, 0), peak // 1024)


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def command_line(folder: Path, port: int, checkpoint: Path, *more: str) -> list[str]:
    """The command that a user would give."""
    return [
        sys.executable, str(ROOT / "run_talkingface.py"), "serve", "--model=Wav2Lip", f"--checkpoint={checkpoint}",
        f"--port={port}", "--device=cpu", f"--serve.folder={folder}", "--serve.most_upload_mb=1",
        "--serve.most_audio_seconds=3", *more,
    ]  # fmt: skip


@dataclass
class Crowd:
    """What became of the clients.

    Attributes:
        codes: status code of each client's upload, by its name; 0 for those that vanish.
        jobs: name of the client -> (job, frames that its video must have).
        videos: the same -> the bytes of its video.
    """

    codes: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    videos: dict[str, bytes] = field(default_factory=dict)


def storm(server: ServerProcess, face: Path, folder: Path, good: int, bad: int, over: int, vanishing: int) -> Crowd:
    """All clients upload at once; then the server is killed in the middle of its work, and started again.

    Returns:
        What became of them; the good ones wait for their videos.
    """
    crowd, ready = Crowd(), threading.Barrier(good + bad + over + vanishing)
    people = [(f"good{k}", _good, k) for k in range(good)] + [(f"bad{k}", _bad, k) for k in range(bad)]
    people += [(f"over{k}", _over, k) for k in range(over)] + [(f"gone{k}", _vanish, k) for k in range(vanishing)]

    def run(name, act, number):
        ready.wait()
        crowd.codes[name] = act(server, face, folder, number, name, crowd)

    threads = [threading.Thread(target=run, args=person) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.measure()
    _wait_until_running(server, crowd)
    server.kill()
    server.start()
    for name, (job, _) in crowd.jobs.items():
        crowd.videos[name] = fetch(server, job)
        server.measure()
    return crowd


def _wait_until_running(server: ServerProcess, crowd: Crowd) -> None:
    """Wait until a job is at work while others wait."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = [httpx.get(f"{server.address}/v1/jobs/{job}").json()["state"] for job, _ in crowd.jobs.values()]
        if "running" in states and "queued" in states:
            return
        time.sleep(0.02)
    raise AssertionError(states)


def fetch(server: ServerProcess, job: str, seconds: float = 300.0) -> bytes:
    """The video of a job, once it is there."""
    deadline = time.monotonic() + seconds
    while (told := httpx.get(f"{server.address}/v1/jobs/{job}", timeout=30).json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, told
        server.measure()
        time.sleep(0.2)
    assert told["state"] == "done", told
    return httpx.get(f"{server.address}{told['links']['result']}", timeout=30).content


def _post(server: ServerProcess, source: bytes, audio: bytes) -> httpx.Response:
    files = {"source": ("face", source), "audio": ("voice", audio)}
    return httpx.post(f"{server.address}/v1/jobs", files=files, timeout=120)


def _good(server, face, folder, number, name, crowd) -> int:
    frames = 10 + number
    voice = write_voice(folder / f"{name}.wav", frames / 25)
    answer = _post(server, face.read_bytes(), voice.read_bytes())
    if answer.status_code == 202:
        crowd.jobs[name] = answer.json()["id"], frames
    return answer.status_code


def _bad(server, face, folder, number, name, crowd) -> int:
    voice = write_voice(folder / f"{name}.wav").read_bytes()
    kinds = [
        lambda: _post(server, b"this is no video", voice),
        lambda: _post(server, face.read_bytes(), voice[:30]),
        lambda: _post(server, face.read_bytes()[:2000], voice),
        lambda: httpx.post(f"{server.address}/v1/jobs", files={"source": face.read_bytes()}, timeout=60),
        lambda: httpx.post(
            f"{server.address}/v1/jobs",
            content=b"no parts",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        ),
    ]
    return kinds[number % len(kinds)]().status_code


def _over(server, face, folder, number, name, crowd) -> int:
    voice = write_voice(folder / f"{name}.wav", 3.5 if number % 2 else 0.4).read_bytes()
    try:
        return _post(server, face.read_bytes() if number % 2 else b"\0" * 2**21, voice).status_code
    except httpx.TransportError:  # the server answers before it has read all, and closes
        return 413


def _vanish(server, face, folder, number, name, crowd) -> int:
    """Go before the upload, in the middle of it, or right behind it, before the answer."""
    parts = {"source": face.read_bytes(), "audio": write_voice(folder / f"{name}.wav").read_bytes()}
    head = '--x\r\nContent-Disposition: form-data; name="{}"; filename="a"\r\n\r\n'
    body = b"".join(head.format(part).encode() + content + b"\r\n" for part, content in parts.items()) + b"--x--\r\n"
    about = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(f"{about}{len(body)}\r\n\r\n".encode())
        if number % 3 < 2:
            line.sendall(body[: len(body) // (1 + number % 3)])
    return 0


def summary(server: ServerProcess, crowd: Crowd) -> str:
    """What happened, in one line of JSON."""
    return json.dumps({"codes": crowd.codes, "videos": len(crowd.videos), "peak_mib": list(server.peaks.values())})
