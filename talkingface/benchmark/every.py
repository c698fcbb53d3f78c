"""The figures of several models, each measured in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from talkingface.benchmark.speed import PARTS, measure, table
from talkingface.devices import limit_threads
from talkingface.errors import TalkingFaceError
from talkingface.workers import WorkerDied, map_in_processes

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig


@dataclass(frozen=True)
class _Task:
    loaded: LoadedConfig
    seconds: float
    only: tuple[str, ...]


def measure_models(
    models: Mapping[str, LoadedConfig | str],
    seconds: float,
    only: Collection[str] = PARTS,
    told: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Figures by model, fit for JSON; a model that cannot be measured has the reason instead.

    Args:
        models: their configurations by name; or the reason for which there is none.
        seconds: time spent on each figure.
        only: parts to measure. Those of the metrics are the same for all, so they are measured with the first alone.
        told: gets a line and a table as each model is done.
    """
    figures: dict[str, Any] = {}
    parts = tuple(only)
    for name, loaded in models.items():
        figures[name] = {"not measured": loaded} if isinstance(loaded, str) else _apart(_Task(loaded, seconds, parts))
        reason = figures[name].get("not measured")
        told(f"{name}: not measured: {reason}" if reason else f"{name}\n{table(figures[name])}\n")
        if not reason:
            parts = tuple(part for part in parts if part != "metrics")
    return {"models": figures}


def _apart(task: _Task) -> dict[str, Any]:
    """The figures of one model, measured in a process of its own."""
    [(_, result)] = map_in_processes(_measured, [task], 1)
    if isinstance(result, WorkerDied):
        return {"not measured": "its process ended: killed for memory, or a crash in native code"}
    if isinstance(result, BaseException):
        raise result
    return result


def _measured(task: _Task) -> dict[str, Any]:
    """The figures of one model, or why there are none."""
    limit_threads(task.loaded.config.threads)
    try:
        return measure(task.loaded, task.seconds, task.only)
    except TalkingFaceError as error:
        return {"not measured": str(error)}
