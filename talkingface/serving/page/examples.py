"""Example inputs of the page: two clips of the demo corpus, drawn in a process of their own at the first start."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from talkingface.serving.child import Answer, Child, Line, Refused, Stopped, TimeLimit
from talkingface.workers import WorkerDied

log = logging.getLogger("talkingface")

DRAWER = "talkingface.serving.page.examples:make_drawer"
_SHAPE = {"identities": 2, "clips": 1, "unseen": 0, "seconds": 2.4, "size": 256}
_SECONDS = 600.0


class Examples:
    """A face and a voice to try the page with; they are made in the background.

    Args:
        folder: where they lie, kept from start to start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.face, self.voice = (folder / "main" / f"id0{person}" / "00000.mp4" for person in (0, 1))
        self._child, self._closing = Child("examples", DRAWER), False
        self._thread = threading.Thread(target=self._draw, name="examples", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether they are there."""
        return self.face.is_file() and self.voice.is_file()

    def start(self) -> None:
        """Begin to draw them, unless they are there."""
        if not self.ready:
            self._thread.start()

    def close(self) -> None:
        """Stop drawing."""
        self._closing = True
        self._child.close()

    def _draw(self) -> None:
        try:
            self._child.ask({"folder": str(self.folder)}, _SECONDS)
        except (Refused, Stopped, TimeLimit, WorkerDied) as error:
            if not self._closing:
                log.warning("the page has no examples: %s", error)
        finally:
            self._child.close()


def make_drawer() -> Answer:
    """What the process answers with: it draws a small demo corpus."""
    from talkingface.config.sections import DemoConfig
    from talkingface.demo.corpus import make_corpus

    def answer(question: dict[str, Any], line: Line) -> dict[str, Any]:
        folder = Path(question["folder"])
        make_corpus(folder, DemoConfig(**_SHAPE), filelists=folder / "filelist", workers=0, progress=False)
        return {}

    return answer
