"""What is not kept any longer is removed: videos and faces that have expired, videos beyond the room for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from talkingface.errors import TalkingFaceError
from talkingface.serving.avatars import Avatars
from talkingface.serving.config import ServeConfig
from talkingface.serving.folder import ServingFolder, remove
from talkingface.serving.job import Job
from talkingface.serving.store import JobStore

log = logging.getLogger("talkingface")

_ROWS_KEPT = 7  # times `keep_hours` after which nothing is known of a job any more
_LONGEST_NAP = 60.0  # seconds between two looks for what has expired
_MIB = 2**20


class Broom:
    """Looks now and then, and whenever it is called, for what has to go.

    Args:
        store: the list of jobs.
        folder: where files lie.
        avatars: faces of streams.
        settings: how long results stay, and how much room they have.
    """

    def __init__(self, store: JobStore, folder: ServingFolder, avatars: Avatars, settings: ServeConfig) -> None:
        self._store, self._folder, self._avatars, self._settings = store, folder, avatars, settings
        self._called, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="broom", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop, where it has begun."""
        self._closing = True
        self.call()
        if self._thread.is_alive():
            self._thread.join()

    def call(self) -> None:
        """Say that a video was made."""
        self._called.set()

    def _run(self) -> None:
        nap = min(_LONGEST_NAP, self._settings.keep_hours * 360)
        while not self._closing:
            self._called.wait(nap)
            self._called.clear()
            if self._closing:
                return
            try:
                self.sweep()
            except TalkingFaceError as error:
                log.error("%s", error)
            except Exception:
                log.exception("removing old results failed")

    def sweep(self) -> None:
        """Remove what has expired, then what has no room; later all that is known of the jobs."""
        kept = self._settings.keep_hours * 3600
        long_ago = time.time() - kept
        for job in self._store.in_state("done", before=long_ago):
            self._remove(job)
        self._make_room()
        self._sweep_page(long_ago)
        self._store.forget(time.time() - _ROWS_KEPT * kept)
        self._avatars.expire(long_ago)

    def _make_room(self) -> None:
        """Remove videos, those that were done first, until the others fit; the last one stays in any case."""
        done = sorted(self._store.in_state("done"), key=lambda job: job.ended or 0.0)
        sizes = [_size(self._folder.results / job.result) for job in done]
        excess = sum(sizes) - self._most_bytes
        for job, size in list(zip(done, sizes, strict=True))[:-1]:
            if excess <= 0:
                return
            self._remove(job)
            excess -= size

    def _sweep_page(self, long_ago: float) -> None:
        """The page has copies of its own of what was dropped and made there; they have as much room again."""
        files = sorted((path for path in self._folder.page.rglob("*") if path.is_file()), key=_changed)
        excess = sum(map(_size, files)) - self._most_bytes
        for path in files:
            if excess > 0 or _changed(path) < long_ago:
                excess -= _size(path)
                _remove_with_folder(path)

    @property
    def _most_bytes(self) -> float:
        return self._settings.most_results_mb * _MIB

    def _remove(self, job: Job) -> None:
        self._store.expire(job.id)
        remove(self._folder.results / job.result)


def stored_bytes(paths: Iterable[Path]) -> int:
    """How much room files take; those that go meanwhile take none."""
    return sum(map(_size, paths))


def _remove_with_folder(path: Path) -> None:
    """Remove a file, and its folder where that becomes empty."""
    remove(path)
    with suppress(OSError):
        path.parent.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
