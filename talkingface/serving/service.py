"""The server without HTTP: what is served, who may come in, what has become of a job. REST, page and adapter ask it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from talkingface.config.layers import to_plain
from talkingface.errors import closest
from talkingface.serving.avatars import Avatars
from talkingface.serving.broom import Broom
from talkingface.serving.child import Child, Refused, TimeLimit
from talkingface.serving.config import ServeConfig
from talkingface.serving.dispatch import Dispatcher
from talkingface.serving.folder import ServingFolder, remove
from talkingface.serving.job import Job
from talkingface.serving.store import JobStore, QueueFull
from talkingface.workers import WorkerDied

log = logging.getLogger("talkingface")

GENERATOR, LOOKER = "talkingface.serving.work:make_generator", "talkingface.serving.look:make_looker"
"""What the two kinds of processes run."""

_START_SECONDS = 600.0  # for the models to be loaded, from a slow disk


class Served(NamedTuple):
    """A model that clients may name: under which name, which weights, None for the imported published ones."""

    name: str
    model: str | None
    checkpoint: str | None


class Template(NamedTuple):
    """A source of the server's own, which clients name instead of sending one: the file, and `video` or `picture`."""

    path: Path
    kind: str


class Unfit(Exception):
    """An upload that cannot be taken; the message is for the client."""


class Busy(Exception):
    """Nothing more can be taken now; `seconds` is when to ask again."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class ServedModel:
    """What clients may know of a model.

    Attributes:
        name: by which they ask for it.
        model: registered name of its kind.
        stage: of the training that its weights come from.
        accepts: kinds of sources, `video`, `picture`.
        licence: what limits the use of what it makes; empty: nothing known.
    """

    name: str
    model: str
    stage: str
    accepts: tuple[str, ...]
    licence: str = ""


class Service:
    """Everything that runs: list of jobs, worker processes, the process that looks at uploads, the broom.

    Args:
        settings: limits and places.
        served: the models; the first one is that of a client who names none.
        devices: one worker process for each.
        overrides: configuration keys that differ from training.
        generator: `module:function` of what makes the answers of a worker process.
        templates: sources of the server's own, by the names that clients call them.

    Raises:
        ConfigError, OutputError: the folder is taken, or cannot be written.
    """

    def __init__(
        self,
        settings: ServeConfig,
        served: Sequence[Served],
        devices: Sequence[str] = ("auto",),
        overrides: Mapping[str, Any] | None = None,
        generator: str = GENERATOR,
        templates: Mapping[str, Path] | None = None,
    ) -> None:
        self.settings = settings
        self.folder = ServingFolder(settings.folder)
        try:
            self.store = JobStore(self.folder.jobs)
        except BaseException:
            self.folder.release()
            raise
        plain, changes = [tuple(each) for each in served], dict(overrides or {})
        kept = settings.models_kept, settings.avatars
        self._looker = Child("upload check", LOOKER, to_plain(settings))
        self.workers = [
            Child(f"generation {number}", generator, plain, device, changes, *kept, devices.count(device))
            for number, device in enumerate(devices)
        ]
        self.avatars = Avatars(self.folder.avatars, settings.avatars)
        self.listeners: list[Callable[[Job, str, float], None]] = []
        self.dispatcher = Dispatcher(self.store, self.folder, self.workers, settings, self._tell)
        self.models: dict[str, ServedModel] = {}
        self._template_files = dict(templates or {})
        self.templates: dict[str, Template] = {}
        self.broom = Broom(self.store, self.folder, self.avatars, settings)
        self._closed = self._started = False

    def start(self) -> None:
        """Load the first model, look at the others, take up what a server before has left, and begin.

        Raises:
            Refused: a checkpoint or template cannot be used; the message says why.
        """
        told = self.workers[0].ask({"do": "describe"}, _START_SECONDS)["models"]
        self.models = {each["name"]: ServedModel(**{**each, "accepts": tuple(each["accepts"])}) for each in told}
        self.templates = {name: self._template(name, path) for name, path in self._template_files.items()}
        if again := self.store.recover():
            log.info("%d jobs that were at work when the server ended wait again", again)
        alive = self.store.in_state("queued")
        done = {job.result for job in self.store.in_state("done")}
        self.folder.sweep({name for job in alive for name in (job.source, job.audio)}, done)
        self._started = True
        self.dispatcher.start()
        self.broom.start()

    def close(self) -> None:
        """Stop; whatever was not done waits for the next server."""
        if self._closed:
            return
        self._closed = True
        self.broom.close()
        if self._started:
            self.dispatcher.close()
        for child in (self._looker, *self.workers):
            child.close()
        self.store.close()
        self.folder.release()

    # -- what clients ask ----------------------------------------------------------------------------------------------

    def model(self, name: str | None) -> ServedModel:
        """A served model; the first one where none is named.

        Raises:
            Unfit: there is no such model.
        """
        if not name:
            return next(iter(self.models.values()))
        if name not in self.models:
            names = ", ".join(self.models)
            raise Unfit(f"model: there is none of that name{closest(name, self.models)} (models: {names})")
        return self.models[name]

    def check_room(self) -> None:
        """Refuse before an upload what would find no place after it.

        Raises:
            Busy: the queue is full.
        """
        if self.store.counts().get("queued", 0) >= self.settings.queue:
            raise self._full()

    def look(self, **question: Any) -> dict[str, Any]:
        """Have uploads looked at, in a process of its own.

        Args:
            **question: `source` and `accepts`, `audio`, or all of them.

        Raises:
            Unfit: a file is damaged, of the wrong kind, or beyond a limit.
        """
        try:
            return self._looker.ask(question, self.settings.check_seconds)
        except Refused as error:
            raise Unfit(str(error)) from None
        except TimeLimit:
            raise Unfit(f"looking at these files took more than {self.settings.check_seconds:g} s") from None
        except WorkerDied:
            raise Unfit("these files cannot be read: looking at them ended the process") from None

    def submit(
        self,
        model: str | None,
        source: Path,
        audio: Path,
        visible_mark: bool = False,
        mute: bool = False,
        kind: str | None = None,
    ) -> Job:
        """Take a job; the files lie in `folder.uploads` and are removed where it is not taken.

        Args:
            model: served name.
            source: the face.
            audio: the voice.
            visible_mark: whether the frames say that they are synthetic.
            mute: whether the video has no sound.
            kind: of a source that is a copy of a template, which was looked at before; None: a client has sent it.

        Raises:
            Unfit: a file is no good, or the model unknown.
            Busy: the queue is full.
        """
        taken = False
        try:
            wanted = self.model(model)
            unseen: dict[str, Any] = {"audio": str(audio.absolute())}
            if kind is None:
                unseen |= {"source": str(source.absolute()), "accepts": list(wanted.accepts)}
            elif kind not in wanted.accepts:
                raise Unfit(f"template: is a {kind}; this model takes a {' or a '.join(wanted.accepts)}")
            found = self.look(**unseen)
            job = Job(wanted.name, source.name, audio.name, found["frames"], visible_mark=visible_mark, mute=mute)
            try:
                self.store.add(job, self.settings.queue)
            except QueueFull:
                raise self._full() from None
            taken = True
        finally:
            if not taken:
                remove(source)
                remove(audio)
        self.dispatcher.call()
        return job

    def find(self, job_id: str) -> Job | None:
        """A job by its name."""
        return self.store.find(job_id)

    def result(self, job: Job) -> Path:
        """File of the video of a job that is done."""
        return self.folder.results / job.result

    def remove(self, job: Job) -> None:
        """End a job where it has not ended; its video goes."""
        self.dispatcher.cancel(job)
        self.store.expire(job.id)
        remove(self.result(job))

    def _template(self, name: str, path: Path) -> Template:
        """Look at a template; the limits are for what clients send.

        Raises:
            Refused: it cannot serve.
        """
        kinds = sorted({kind for model in self.models.values() for kind in model.accepts})
        question = {"source": str(path.absolute()), "accepts": kinds, "limited": False}
        try:
            return Template(path, self._looker.ask(question, _START_SECONDS)["kind"])
        except (Refused, TimeLimit, WorkerDied) as error:
            raise Refused(f"template {name}: {path}: {str(error).removeprefix('source: ')}") from None

    def _full(self) -> Busy:
        first = next(iter(self.store.in_state("running")), None)
        left = None if first is None else self.dispatcher.seconds_left(first)
        seconds = max(1.0, left if left is not None else 10.0)
        return Busy(f"{self.settings.queue} jobs wait already; try again later", seconds)

    def _tell(self, job: Job, state: str, seconds: float) -> None:
        for listener in self.listeners:
            listener(job, state, seconds)
        if state == "done":
            self.broom.call()
