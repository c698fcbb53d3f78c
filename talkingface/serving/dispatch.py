"""Who does what: a thread for each worker process takes the job that waits longest and sees it to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from talkingface.errors import TalkingFaceError
from talkingface.serving.child import Child, Refused, Stopped, TimeLimit
from talkingface.serving.config import ServeConfig
from talkingface.serving.folder import ServingFolder, remove
from talkingface.serving.job import Job
from talkingface.serving.pace import Pace
from talkingface.serving.session import Session
from talkingface.serving.store import JobStore
from talkingface.workers import WorkerDied

log = logging.getLogger("talkingface")

MOST_DEATHS = 2
"""From so many on a job is given up: one may be the fault of whoever killed the process."""

MOST_FAULTS = 5
"""From so many on without an answer a worker is ill until it has shown that it works: inputs may be at fault, too."""

T = TypeVar("T")
_LOOK_SECONDS = 1.0  # between two looks at the queue when nobody calls
_TRY_SECONDS = 60.0  # between two tries of a worker that is ill
_HOME_SECONDS = 0.5  # for which a stream waits for the worker that knows its face: to end a sentence, not a video
_STREAM_SECONDS = 0.01  # between two looks for sound that has arrived


@dataclass
class Progress:
    """How far a running job is: frames `done` of `total`."""

    total: int
    done: int = 0


class Dispatcher:
    """Takes jobs from the list and hands them to worker processes.

    Args:
        store: the list.
        folder: where files lie.
        children: the worker processes, each with a device of its own.
        settings: limits.
        ended: called with each job that has ended, its state, and the seconds that it took.
    """

    def __init__(
        self,
        store: JobStore,
        folder: ServingFolder,
        children: Sequence[Child],
        settings: ServeConfig,
        ended: Callable[[Job, str, float], None] = lambda *_: None,
    ) -> None:
        self.store, self.folder, self.children, self.settings = store, folder, children, settings
        self.pace = Pace()
        self.running: dict[str, Progress] = {}
        self._sessions: list[Session] = []
        self._homes: dict[str, Child] = {}  # of faces: the worker that spoke last with each, and so has it prepared
        self._ended = ended
        self._cancelled: set[str] = set()
        self._news = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, args=(child,), name=f"dispatch-{child.name}", daemon=True)
            for child in children
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; what was at work waits again, for the next server."""
        self._closing = True
        self.call()
        for thread in self._threads:
            thread.join()
        for child in self.children:
            child.close()

    @property
    def healthy(self) -> bool:
        """Whether every thread is at its work, and no worker process fails at whatever it is given."""
        threads, children = self._threads, self.children
        return all(thread.is_alive() for thread in threads) and all(child.faults < MOST_FAULTS for child in children)

    def call(self) -> None:
        """Say that there is something to do."""
        with self._news:
            self._news.notify_all()

    def cancel(self, job: Job) -> None:
        """End a job wherever it is; its files go."""
        if self.store.end(job.id, "cancelled"):
            self._cancelled.add(job.id)
            if job.id not in self.running:
                self._clean(job)
                self._cancelled.discard(job.id)
            self._ended(job, "cancelled", 0.0)

    def speak(self, session: Session) -> None:
        """Let a stream have the next worker process that is free, before all jobs that wait.

        That which has spoken with its face before has it first.
        """
        with self._news:
            self._sessions.append(session)
        self.call()

    def withdraw(self, session: Session) -> bool:
        """Take back a stream that has not begun; False where it has."""
        with self._news:
            if session not in self._sessions:
                return False
            self._sessions.remove(session)
            return True

    def seconds_left(self, job: Job) -> float | None:
        """Seconds until a job is done, as far as can be told: None as long as nothing was made with its model."""
        if job.state == "running":
            progress = self.running.get(job.id) or Progress(job.frames)
            return self.pace.expect(job.model, max(0, progress.total - progress.done))
        if job.state != "queued":
            return None
        before = [*self.store.in_state("running"), *self.store.ahead(job.id)]
        waits = [self.pace.expect(each.model, self._frames_left(each)) for each in before]
        own = self.pace.expect(job.model, job.frames)
        if own is None or None in waits:
            return None
        return own + sum(filter(None, waits)) / max(1, len(self.children))

    def _frames_left(self, job: Job) -> int:
        progress = self.running.get(job.id)
        return max(0, progress.total - progress.done) if progress else job.frames

    # -- the threads ---------------------------------------------------------------------------------------------------

    def _run(self, child: Child) -> None:
        next_try = 0.0
        while not self._closing:
            try:
                if child.faults >= MOST_FAULTS and time.monotonic() >= next_try:
                    well = self._try_out(child)
                    next_try = 0.0 if well else time.monotonic() + _TRY_SECONDS
                if (session := self._next_session(child)) is not None:
                    self._speak(child, session)
                    continue
                if self._sessions:  # for another worker; but soon for this one, if no job keeps it
                    time.sleep(_STREAM_SECONDS)
                    continue
                job = self.store.claim()
                if job is not None:
                    self._work(child, job)
                    continue
            except TalkingFaceError as error:  # the disk is full, say: it may be free again
                log.error("%s", error)
            except Exception:
                log.exception("the dispatcher failed")
            with self._news:
                if not self._closing:
                    self._news.wait(_LOOK_SECONDS)

    def _try_out(self, child: Child) -> bool:
        """Whether a worker still works; if so its faults are forgotten, for they were those of its inputs.

        Who watches may send nothing to a server that is ill, so it must not need a job to get well.
        """
        try:
            child.ask({"do": "try"}, self.settings.job_seconds, wanted=lambda: not self._closing)
        except Stopped:
            return False
        except (Refused, TimeLimit, WorkerDied) as error:
            log.error("the %s process fails without an input of anybody, too: %s", child.name, error)
            return False
        return True

    def _next_session(self, child: Child) -> Session | None:
        """The first stream but for those that still wait for another worker, which knows their face."""
        latest = time.monotonic() - _HOME_SECONDS
        with self._news:
            for session in self._sessions:
                if self._homes.get(session.face, child) is child or session.since < latest:
                    self._sessions.remove(session)
                    self._note_home(session.face, child)
                    return session
        return None

    def _note_home(self, face: str, child: Child) -> None:
        """Remember which worker knows a face, of as many as it does."""
        self._homes.pop(face, None)
        self._homes[face] = child
        if len(self._homes) > self.settings.avatars:
            del self._homes[next(iter(self._homes))]

    def _speak(self, child: Child, session: Session) -> None:
        """See a stream to its end."""
        session.began.set()
        try:
            child.ask(
                session.question,
                self.settings.job_seconds,
                told=session.told,
                wanted=lambda: not self._closing and not session.gone.is_set(),
                also=session.also,
                look_seconds=_STREAM_SECONDS,
            )
        except (Refused, Stopped, TimeLimit, WorkerDied) as error:
            session.end(error)
        except BaseException as error:  # a fault of ours: the client must not wait for ever
            session.end(Refused("the server has failed at this stream; its log says where", ours=True))
            raise error
        else:
            session.end()

    def _work(self, child: Child, job: Job) -> None:
        self.running[job.id] = Progress(job.frames)
        began = time.monotonic()
        try:
            state, error = self._asked(child, job)
        finally:
            progress = self.running.pop(job.id)
        seconds = time.monotonic() - began
        if state == "queued":
            if self._insist(lambda: self.store.put_back(job.id, died=error != "")) is not False:
                return  # else it was cancelled meanwhile, and its files were left to us
        elif self._insist(lambda: self.store.end(job.id, state, error)):  # else likewise
            self._ended(job, state, seconds)
        if state == "done":
            self.pace.learn(job.model, progress.total, seconds)
        self._cancelled.discard(job.id)
        self._clean(job)

    def _asked(self, child: Child, job: Job) -> tuple[str, str]:
        """The state that a job goes to, and why; `queued` with a reason after the death of its process."""
        uploads, results = self.folder.uploads.absolute(), self.folder.results.absolute()
        question = {
            "do": "generate",
            "model": job.model,
            "source": str(uploads / job.source),
            "audio": str(uploads / job.audio),
            "output": str(results / job.result),
            "visible_mark": job.visible_mark,
            "mute": job.mute,
        }
        try:
            child.ask(
                question,
                self.settings.job_seconds,
                told=lambda message: self._note(job, message),
                wanted=lambda: not self._closing and job.id not in self._cancelled,
            )
        except Refused as error:
            return "failed", str(error)
        except Stopped:
            return ("queued", "") if self._closing else ("cancelled", "")
        except TimeLimit:
            return "failed", f"took longer than the {self.settings.job_seconds:g} s that this server gives"
        except WorkerDied as error:
            log.warning("job %s: %s", job.id, error)
            died = "its worker process, or the server, died twice (crash in native code, or out of memory)"
            return ("failed", died) if job.deaths + 1 >= MOST_DEATHS else ("queued", str(error))
        except Exception:  # a fault of ours: the client must not wait for ever
            log.exception("job %s", job.id)
            return "failed", "the server has failed at this job; its log says where"
        return "done", ""

    def _insist(self, change: Callable[[], T]) -> T | None:
        """Write down what has become of a job; on a full disk, once there is room again."""
        while True:
            try:
                return change()
            except TalkingFaceError as error:
                log.error("%s", error)
                if self._closing:
                    return None
                time.sleep(_LOOK_SECONDS)

    def _note(self, job: Job, message: object) -> None:
        if isinstance(message, dict) and job.id in self.running:
            self.running[job.id] = Progress(int(message["of"]), int(message["frames"]))

    def _clean(self, job: Job) -> None:
        """Remove what was uploaded, and the result unless the job is done."""
        for name in (job.source, job.audio):
            remove(self.folder.uploads / name)
        now = self.store.find(job.id)
        if now is None or now.state != "done":
            remove(self.folder.results / job.result)
