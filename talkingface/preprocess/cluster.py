"""Clips worked on by the machines of a Ray cluster: actors that keep their detector, fed with one clip after the other.

Only names and settings travel, so every machine must see the same folders under the same names. A machine may go at any
time: what it was working on is given to another one, and one that joins is used. Ray is an extra (`ray`) and is
imported here alone, where it is asked for.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.errors import ConfigError, DataError, first_line
from talkingface.packages import install, wanted
from talkingface.preprocess.at_work import MOST_DEATHS
from talkingface.ray_cluster import connected, same_modules
from talkingface.workers import WorkerDied, take_one_core

if TYPE_CHECKING:
    from types import ModuleType

    from talkingface.clips.layouts import ClipItem

log = logging.getLogger("talkingface")

_LOOK_SECONDS = 2.0  # between looks at which machines there are
_PATIENCE_SECONDS = 30.0  # without any process at work, until that is said
_MOST_STILLBORN = 3  # processes that end before any has answered: then none will
_DIED = "the worker process died on this clip (crash in native code, or out of memory)"


def map_on_ray(
    function: Callable[[ClipItem], Any],
    items: Sequence[ClipItem],
    address: str,
    most: int | None,
    root: Path,
    forgive: Callable[[ClipItem], None],
) -> Iterator[tuple[ClipItem, Any]]:
    """Call `function` on every clip, in the processes of a Ray cluster.

    Args:
        function: importable (a module-level function or a `functools.partial` of one).
        items: its arguments.
        address: of the cluster: `auto`, `host:port`, or `local` for one that lives in this command.
        most: processes in all; None: one for each core of the cluster.
        root: folder that `function` writes to; every machine must see it, and the first clip's video.
        forgive: told of a clip whose process was ended for no fault of the clip's.

    Yields:
        (clip, result) in order of completion; the result is the exception when the call raised, `WorkerDied` when
        the process of a machine that lives has died on the clip each time.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
        DataError: a machine does not see the folders, or no process has ever started.
    """
    with _connected(address) as ray, _mark(root) as mark:
        paths = [str(mark), *(str(item.video) for item in items[:1] if os.path.exists(item.video))]
        crew = _Crew(ray, ray.put((function, os.getcwd(), paths)), forgive)
        try:
            yield from crew.work_through(deque(items), most or len(items))
        finally:
            crew.end()


@contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    """Ray, connected."""
    instead = "use --preprocess.ray_address=local or --preprocess.executor=local"
    try:
        import ray
    except ImportError as error:
        command = install(*(package.text for package in wanted(["ray"]) if package.extra == "ray"))
        raise ConfigError(f"preprocess.executor=ray: ray is not installed ({error}); run: {command}") from error
    with connected(address, "preprocess.ray_address", instead) as ray:
        yield ray


@contextmanager
def _mark(root: Path) -> Iterator[Path]:
    """A file by which a machine can tell that it sees this very folder, and not one of its own of that name."""
    mark = root / f".ray-{secrets.token_hex(8)}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


class _Worker:
    """What an actor does; the detector that the function builds stays with its process (`process_resource`)."""

    def __init__(self, given: tuple[Callable[[ClipItem], Any], str, list[str]]) -> None:
        self.function, self.folder, self.paths = given
        take_one_core()

    def begin(self) -> tuple[str, str]:
        """The machine's id in the cluster, and what it lacks; empty where nothing is missing."""
        import ray

        context = ray.get_runtime_context()
        unseen = next((path for path in (self.folder, *self.paths) if not self._sees(path)), "")
        return context.get_node_id(), unseen

    def _sees(self, path: str) -> bool:
        if os.path.isdir(self.folder):
            os.chdir(self.folder)  # where relative paths begin
        return os.path.exists(path)

    def work(self, item: ClipItem) -> Any:
        """The function's answer."""
        return self.function(item)


@dataclass
class _Crew:
    """The actors, what each of them does, and which deaths are a clip's.

    Attributes:
        ray: the library.
        given: what every actor gets, once in the cluster.
        forgive: see `map_on_ray`.
        running: answers awaited, each with its actor and clip; no clip: it has not begun yet.
        machines: where each actor lives.
        deaths: machines on which a clip's process has died.
        begun: whether any has ever answered, so that one which ends before it does may have lost its machine.
        stillborn: processes that ended before they answered.
        why: how the last of these ended.
        worked: when a clip was at work last, as `time.monotonic` counts.
    """

    ray: ModuleType
    given: Any
    forgive: Callable[[ClipItem], None]
    running: dict[Any, tuple[Any, ClipItem | None]] = field(default_factory=dict)
    machines: dict[Any, str] = field(default_factory=dict)
    deaths: dict[ClipItem, list[str]] = field(default_factory=dict)
    begun: bool = False
    stillborn: int = 0
    why: str = ""
    worked: float = 0.0

    def work_through(self, waiting: deque[ClipItem], most: int) -> Iterator[tuple[ClipItem, Any]]:
        """Answers for all that waits, in order of completion."""
        looked = -_LOOK_SECONDS
        self.worked = time.monotonic()
        while self._at_work() or waiting:
            if time.monotonic() - looked >= _LOOK_SECONDS:
                self._fill(most, len(waiting))
                looked = time.monotonic()
            if not self.running:  # every machine has gone
                time.sleep(_LOOK_SECONDS)
                continue
            ready, _ = self.ray.wait(list(self.running), timeout=_LOOK_SECONDS)
            for answer in ready:
                yield from self._take(answer, waiting)

    def _at_work(self) -> int:
        """How many actors have a clip; where that is none for long, it is said once."""
        count = sum(item is not None for _, item in self.running.values())
        if count:
            self.worked = time.monotonic()
        elif time.monotonic() - self.worked > _PATIENCE_SECONDS:
            why = f"a process that was started has ended: {self.why}" if self.why else "no machine had a free core"
            log.warning("the Ray cluster has not worked for %.0f s (%s); waiting", _PATIENCE_SECONDS, why)
            self.worked = math.inf
        return count

    def _fill(self, most: int, waiting: int) -> None:
        """Start actors for clips that wait, up to one for each core that the cluster has now."""
        cores = int(self.ray.cluster_resources().get("CPU", 0))
        for _ in range(min(most, cores, self._at_work() + waiting) - len(self.running)):
            self._start()

    def _start(self) -> None:
        options = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor = self.ray.remote(**options, runtime_env=same_modules())(_Worker).remote(self.given)
        self.running[actor.begin.remote()] = (actor, None)

    def _take(self, answer: Any, waiting: deque[ClipItem]) -> Iterator[tuple[ClipItem, Any]]:
        """What one actor has answered; it gets the next clip."""
        actor, item = self.running.pop(answer)
        try:
            result = self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            result = error.as_instanceof_cause()
        except self.ray.exceptions.RayError as error:
            yield from self._mourn(actor, item, error, waiting)
            return
        if item is None:
            self._begin(actor, *result)
        else:
            yield item, result
        if waiting:
            following = waiting.popleft()
            self.running[actor.work.remote(following)] = (actor, following)
        else:
            self._let_go(actor)

    def _begin(self, actor: Any, machine: str, unseen: str) -> None:
        if unseen:
            raise DataError(
                f"{unseen}: a machine of the Ray cluster does not see it; videos and preprocessed_root must lie in"
                " folders that all machines share under the same name"
            )
        self.machines[actor] = machine
        self.begun, self.why = True, ""

    def _mourn(
        self, actor: Any, item: ClipItem | None, error: Exception, waiting: deque[ClipItem]
    ) -> Iterator[tuple[ClipItem, Any]]:
        """An actor has died: with its machine, which says nothing of the clip, or on the clip."""
        machine = self.machines.pop(actor, "")
        self.ray.kill(actor)  # it may only be out of reach
        if item is None:
            self.stillborn, self.why = self.stillborn + 1, first_line(error)
            if self.stillborn >= _MOST_STILLBORN and not self.begun:
                raise DataError(f"no process starts on the Ray cluster: {self.why}") from error
            return
        died = self.deaths.setdefault(item, [])
        died.append(machine)
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        own = [place for place in died if place in alive]
        if len(own) < len(died):
            self.forgive(item)
            died[:] = own
        if len(own) >= MOST_DEATHS:
            yield item, WorkerDied(_DIED)
        else:
            waiting.appendleft(item)

    def _let_go(self, actor: Any) -> None:
        self.machines.pop(actor, None)
        self.ray.kill(actor)

    def end(self) -> None:
        """End the actors; clips at work are none's fault and are made again."""
        for actor, item in list(self.running.values()):
            self._let_go(actor)
            if item is not None:
                self.forgive(item)
        self.running.clear()
