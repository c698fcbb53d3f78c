"""The page in a real browser: log in behind a prefix, upload, generate, play, look at a run; and what goes wrong."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from helpers.browser import Browser, find_browser
from helpers.clips import face_frames, write_clip
from talkingface.serving.page.curves import draw_curves, read_curves
from talkingface.serving.page.runs import Runs

for package in ("fastapi", "uvicorn", "gradio", "multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package)

TOKEN = "token-of-the-page"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A run with a report and a log."""
    saved = tmp_path_factory.mktemp("saved")
    run = saved / "IPLAP-demo" / "first"
    (run / "eval").mkdir(parents=True)
    (run / "eval" / "report.html").write_text("<h1>The report</h1><script>document.title='ran'</script>")
    steps = [{"stage": "render", "step": step, "train/renderer/l1": 1 / step} for step in range(1, 50)]
    more = [{"stage": "render", "step": 40, "val/loss": 0.1}, {"stage": "render", "step": 41, "train/x": float("nan")}]
    lines = [json.dumps(record) for record in (*steps, *more)]
    (run / "log.jsonl").write_text("\n".join([*lines, '{"stage": "ren']))
    return saved


def test_curves_are_read_past_damage_and_drawn(saved):
    curves = read_curves(saved / "IPLAP-demo" / "first" / "log.jsonl")
    assert {name: len(points) for name, points in curves["render"].items()} == {"train/renderer/l1": 49, "val/loss": 1}
    assert draw_curves(curves)[:4] == b"\x89PNG" and draw_curves({}) is None
    assert read_curves(saved / "missing") == {}


def test_a_run_is_shown_by_names_of_the_list_alone(saved):
    runs = Runs(saved)
    assert runs.names() == ["IPLAP-demo/first"]
    shown = runs.show("IPLAP-demo/first")
    assert shown.curves and "&lt;h1&gt;The report" in shown.report and "sandbox" in shown.report
    for name in ("../saved/IPLAP-demo/first", "IPLAP-demo/second", None):
        assert runs.show(name).curves is None and not runs.show(name).report


def test_whoever_stops_listening_ends_the_job_and_a_full_queue_is_said_in_words(serving, face, voice):
    from talkingface.serving.page.speak import NotMade, speak

    server = serving(queue=1)
    server.order("sleep")
    first = speak(server.service, None, str(face), str(voice), False)
    while "Frame 4 of 10" not in next(first).words:
        pass
    second = speak(server.service, None, str(face), str(voice), False)
    assert "Waiting" in next(second).words
    with pytest.raises(NotMade, match="Too many videos are waiting; try again in"):
        next(speak(server.service, None, str(face), str(voice), False))
    first.close()
    second.close()
    assert server.service.store.counts() == {"cancelled": 2}
    server.order("")


@pytest.fixture(scope="module")
def site(tmp_path_factory, saved):
    """A server with a page, a token and a prefix, whose generator gives a ready-made film."""
    if find_browser() is None:
        pytest.skip("there is no Chromium")
    from helpers.load import ServerProcess, free_port

    folder = tmp_path_factory.mktemp("site")
    write_clip(folder / "private" / "film.mp4", face_frames(20))
    port = free_port()
    command = [sys.executable, "-m", "helpers.stand_in_server", str(folder / "private"), str(port), str(saved), TOKEN]
    server = ServerProcess(command, port, folder / "log.txt")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


def button(browser: Browser, name: str) -> None:
    browser.js(f"document.querySelector('#{name}').click()")


def test_the_page_in_a_browser(site, browser, face, voice, tmp_path):
    browser.go(f"{site.address}/talk/")
    browser.wait("document.querySelectorAll('input').length == 2")
    for place, word in enumerate(("me", TOKEN)):
        browser.js(f"document.querySelectorAll('input')[{place}].focus()")
        browser.call("Input.insertText", text=word)
    browser.js("[...document.querySelectorAll('button')].at(-1).click()")
    browser.wait("document.querySelector('#go') !== null")

    # What is wrong is said in words.
    button(browser, "go")
    browser.wait("document.querySelector('#status textarea, #status input').value.startsWith('There is no face yet')")
    text = tmp_path / "letter.png"
    text.write_text("this is no picture")
    browser.give("#face input[type=file]", text)
    browser.wait("document.querySelector('#face').innerText.includes('letter')")
    browser.give("#voice input[type=file]", voice)
    browser.wait("document.querySelector('#voice canvas, #voice audio, #waveform') !== null")
    button(browser, "go")
    browser.wait("document.querySelector('#status textarea, #status input').value.startsWith('The face: ')")

    # Upload, generate, play.
    browser.js("document.querySelector('#face button[aria-label*=lear], #face [aria-label*=emove]').click()")
    browser.wait("document.querySelector('#face input[type=file]') !== null")
    browser.give("#face input[type=file]", face)
    browser.wait("document.querySelector('#source-picture img')?.naturalWidth > 0")
    button(browser, "go")
    browser.wait("document.querySelector('#status textarea, #status input').value == 'Done: 10 frames.'")
    browser.wait("document.querySelector('#result video')?.readyState >= 2")
    browser.js("document.querySelector('#result video').muted = true")
    browser.js("document.querySelector('#result video').play()")
    browser.wait("document.querySelector('#result video').currentTime > 0.2")
    assert browser.js("document.querySelector('#result video').videoWidth") == 192
    assert browser.wait("document.querySelector('#download') !== null")
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000

    # The report and the curves of a run.
    browser.js("[...document.querySelectorAll('button[role=tab]')].find(tab => tab.innerText == 'Runs').click()")
    browser.wait("document.querySelector('#curves img')?.naturalWidth > 100")
    browser.wait("document.querySelector('#report iframe').srcdoc.includes('The report')")
    elsewhere = [
        each for each in browser.asked if not each.startswith((f"{site.address}/", "blob:", "data:", "about:"))
    ]
    assert elsewhere == [] and browser.said == []


def test_without_a_login_the_page_gives_nothing_away(site):
    import httpx

    for path in ("/page/config", "/page/gradio_api/info"):
        answer = httpx.get(f"{site.address}/talk{path}")
        assert answer.status_code in (401, 404) or "components" not in answer.text
    files = {"files": ("a.png", b"abc")}
    assert httpx.post(f"{site.address}/talk/page/gradio_api/upload", files=files).status_code == 401


def test_examples_are_drawn_once(site):
    deadline = time.monotonic() + 120
    folder = site.log.parent / "private" / "examples" / "main"
    while not all((folder / f"id0{person}" / "00000.mp4").is_file() for person in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
