"""The page itself: its parts, and what their events do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from talkingface.serving.guard import PAGE, same_token
from talkingface.serving.page.examples import Examples
from talkingface.serving.page.runs import Runs
from talkingface.serving.page.speak import NotMade, speak
from talkingface.serving.service import Service

_TITLE = "talkingface"
_ABOUT = (
    "Drop a video or a picture of a face and a voice; the face will say it. "
    "Every video says in its metadata that it is synthetic. Only use faces and voices of people who agree to it."
)
# Events are no routes of an API: that is what the REST routes are for.
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_BUTTONS: list[Any] = ["download"]  # not `share`, which would send the file to the internet
_VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


def mount_page(
    app: FastAPI, service: Service, examples: Examples, saved: Path, token: str | None, root_path: str
) -> FastAPI:
    """Put the page at `PAGE` of an application.

    Args:
        app: the application.
        service: what does the work.
        examples: inputs to try it with.
        saved: folder of runs that the second tab shows.
        token: word for the login of the page; None: nobody is asked.
        root_path: prefix of all paths.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(service.folder.page.absolute())  # which the broom of the service sweeps
    wanted: dict[str, Any] = {
        "path": PAGE,
        "root_path": f"{root_path}{PAGE}" if root_path else None,
        "auth": None if token is None else (lambda user, word: same_token(word, token)),
        "auth_message": "Any name, and the token of this server as the word.",
        "max_file_size": int(service.settings.most_upload_mb * 2**20),
        "allowed_paths": [str(service.folder.results.absolute()), str(examples.folder.absolute())],
        "show_error": True,
        "ssr_mode": False,
        "footer_links": [],
    }
    return gr.mount_gradio_app(app, _page(service, examples, Runs(saved)), **wanted)


def _page(service: Service, examples: Examples, runs: Runs) -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False, title=_TITLE) as page:
        gr.Markdown(f"# {_TITLE}\n{_ABOUT}")
        with gr.Tab("Speak"):
            _speak_tab(service, examples)
        with gr.Tab("Runs"):
            _runs_tab(page, runs)
    # Jobs wait in the queue of the server, which is bounded; that of the page lets them all through.
    page.queue(default_concurrency_limit=service.settings.queue)
    return page


def _speak_tab(service: Service, examples: Examples) -> None:
    names = list(service.models)
    with gr.Row():
        with gr.Column():
            model = gr.Dropdown(names, value=names[0], label="Model", elem_id="model")
            face = gr.File(label="Face: a video or a picture", file_types=["video", "image"], elem_id="face")
            voice = gr.Audio(label="Voice: a file or a recording", type="filepath", buttons=_BUTTONS, elem_id="voice")
            mark = gr.Checkbox(label="Write SYNTHETIC into the frames", elem_id="mark")
            with gr.Row():
                example = gr.Button("Try an example", elem_id="example")
                stop = gr.Button("Stop", elem_id="stop")
                go = gr.Button("Generate", variant="primary", elem_id="go")
        with gr.Column():
            status = gr.Textbox(label="Progress", interactive=False, elem_id="status")
            with gr.Row():
                film = gr.Video(label="Source", interactive=False, buttons=_BUTTONS, elem_id="source-video")
                picture = gr.Image(
                    label="Source", interactive=False, buttons=_BUTTONS, visible=False, elem_id="source-picture"
                )
                result = gr.Video(label="Result", interactive=False, buttons=_BUTTONS, elem_id="result")
            download = gr.DownloadButton("Download", visible=False, elem_id="download")

    def show_source(path: str | None) -> tuple[Any, Any]:
        is_film = path is None or Path(path).suffix.lower() in _VIDEO_SUFFIXES
        shown = gr.update(value=path if is_film else None, visible=is_film)
        return shown, gr.update(value=None if is_film else path, visible=not is_film)

    def take_example() -> tuple[str, str]:
        if not examples.ready:
            raise gr.Error("The examples are still being drawn; try again in a minute.", print_exception=False)
        return str(examples.face), str(examples.voice)

    def generate(
        model: str,
        face: str | None,
        voice: str | None,
        mark: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, Any, Any]]:
        nothing = gr.update(value=None), gr.update(visible=False)
        yield "Looking at the files", *nothing
        try:
            for step in speak(service, model, face, voice, mark):
                if step.video is None:
                    progress(step.share, step.words)
                    yield step.words, *nothing
                else:
                    yield step.words, str(step.video), gr.update(value=str(step.video), visible=True)
        except NotMade as error:
            yield str(error), *nothing
            raise gr.Error(str(error), print_exception=False) from None

    face.change(show_source, face, [film, picture], **_PRIVATE)
    example.click(take_example, None, [face, voice], **_PRIVATE)
    made = go.click(generate, [model, face, voice, mark], [status, result, download], **_PRIVATE)
    stop.click(lambda: "Stopped", None, status, cancels=[made], **_PRIVATE)


def _runs_tab(page: gr.Blocks, runs: Runs) -> None:
    with gr.Row():
        run = gr.Dropdown([], label="Run", elem_id="run")
        again = gr.Button("Look again", scale=0)
    about = gr.Markdown(elem_id="about")
    curves = gr.Image(label="Training curves", interactive=False, buttons=_BUTTONS, visible=False, elem_id="curves")
    report = gr.HTML(elem_id="report")

    def look() -> Any:
        names = runs.names()
        return gr.update(choices=names, value=names[0] if names else None)

    def show(name: str | None) -> tuple[Any, Any, Any]:
        shown = runs.show(name)
        return shown.about, gr.update(value=_file(shown.curves), visible=shown.curves is not None), shown.report

    run.change(show, run, [about, curves, report], **_PRIVATE)
    again.click(look, None, run, **_PRIVATE)
    page.load(look, None, run, **_PRIVATE)


def _file(picture: bytes | None) -> str | None:
    """A picture as a file that Gradio takes over."""
    if picture is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".png", dir=os.environ["GRADIO_TEMP_DIR"], delete=False) as file:
        file.write(picture)
    return file.name
