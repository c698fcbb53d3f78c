"""One piece of work by several processes: who prepares it, how the others join, and whose folder it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from talkingface.errors import TalkingFaceError
from talkingface.team import Team
from talkingface.training.launchers import announce_prepared, is_child_process, join_launcher, wait_until_prepared
from talkingface.training.processes import make_fabric
from talkingface.weights.runs import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from talkingface.config.sections import Config
    from talkingface.plugin.configuration import LoadedConfig

log = logging.getLogger("talkingface")
Prepared = TypeVar("Prepared")


def join() -> None:
    """Find out whether others work with this process; the first one alone says what is being done."""
    join_launcher()
    if is_child_process():
        log.setLevel(logging.ERROR)


def prepared_by_the_first(
    loaded: LoadedConfig, prepare: Callable[[LoadedConfig], Prepared], held: ExitStack
) -> tuple[LoadedConfig, Prepared, Fabric]:
    """Let the first process prepare the work, then join the others, who go by its configuration.

    Left to themselves they would look for borrowed runs and for weights once more, and might find others.

    Args:
        loaded: the configuration; in the first process with all that follows from runs and files of weights.
        prepare: called by every process, by the first one before the others: these find what it has made.
        held: when it is left with an error, the processes that this one has started are ended.

    Returns:
        The first process's configuration, what `prepare` has returned here, and the processes joined.
    """
    fabric = make_fabric(loaded.config)
    if is_child_process():
        wait_until_prepared()
        fabric.launch()
        loaded = fabric.broadcast(loaded)
        return loaded, prepare(loaded), fabric
    prepared = prepare(loaded)
    announce_prepared()
    fabric.launch()
    held.push(lambda kind, *_: end_helpers(fabric) if kind else None)
    return fabric.broadcast(loaded), prepared, fabric


def claimed_by_the_first(config: Config, team: Team, held: ExitStack) -> RunFolder:
    """The first process chooses a run's folder and locks it until `held` is left; all hear of it, or of why not.

    Raises:
        TalkingFaceError: there is none.
    """
    told: Path | TalkingFaceError | None = None
    if team.is_first:
        try:
            told = held.enter_context(RunFolder.claimed(config)).path
        except TalkingFaceError as error:
            told = error
    told = team.gather(told)[0]
    if isinstance(told, TalkingFaceError):
        raise told
    return RunFolder(told)


def end_helpers(fabric: Fabric) -> None:
    """End the processes that this one started: they would wait for it in a collective until a time limit."""
    for process in getattr(getattr(fabric, "_launcher", None), "procs", ()):
        process.terminate()
