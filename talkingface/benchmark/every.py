"""The figures of several models, each measured in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.benchmark.metrics import TOWER
from talkingface.benchmark.overview import NOT_FINISHED, NOT_MEASURED
from talkingface.benchmark.speed import PARTS, measure, table
from talkingface.devices import limit_threads
from talkingface.errors import TalkingFaceError
from talkingface.files import write_text
from talkingface.stored.jsons import read_json
from talkingface.workers import TookTooLong, WorkerDied, call_in_process

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig

log = logging.getLogger("talkingface")


@dataclass(frozen=True)
class _Task:
    """A model to be measured; `notes` is a file that tells its part and figures while it is at work."""

    loaded: LoadedConfig
    seconds: float
    only: tuple[str, ...]
    notes: Path


def measure_models(
    models: Mapping[str, LoadedConfig | str],
    seconds: float,
    most_seconds: float,
    only: Collection[str] = PARTS,
    told: Callable[[str], None] = print,
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Figures by model, fit for JSON; a model that cannot be measured has the reason instead.

    Args:
        models: their configurations by name; or the reason for which there is none.
        seconds: time spent on each figure.
        most_seconds: that one model may take; it is ended then, and keeps the figures that it has.
        only: parts to measure. Those of the metrics are the same for all, so they are measured with the first alone.
        told: gets a line and a table as each model is done.
        progress: gets a line as each part begins.
    """
    figures: dict[str, Any] = {}
    parts = tuple(only)
    for number, (name, loaded) in enumerate(models.items(), start=1):
        if isinstance(loaded, str):
            figures[name] = {NOT_MEASURED: loaded}
        else:
            said = _said(progress, f"{number} of {len(models)}, {name}")
            figures[name] = _apart(loaded, seconds, parts, most_seconds, said)
        told(_shown(name, figures[name]))
        if TOWER in figures[name] or figures[name].get(NOT_FINISHED, "").startswith("metrics"):  # once is enough
            parts = tuple(part for part in parts if part != "metrics")
    return {"models": figures}


def _said(progress: Callable[[str], None], who: str) -> Callable[[str], None]:
    begun = time.monotonic()
    return lambda part: progress(f"{who}: {part} (after {time.monotonic() - begun:.0f} s)")


def _shown(name: str, figures: Mapping[str, Any]) -> str:
    if NOT_MEASURED in figures:
        return f"{name}: {NOT_MEASURED}: {figures[NOT_MEASURED]}"
    lacking = f"{NOT_FINISHED}: {figures[NOT_FINISHED]}\n" if NOT_FINISHED in figures else ""
    return f"{name}\n{table(figures)}\n{lacking}"


def _apart(
    loaded: LoadedConfig, seconds: float, only: tuple[str, ...], most_seconds: float, said: Callable[[str], None]
) -> dict[str, Any]:
    """The figures of one model, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        task = _Task(loaded, seconds, only, Path(scratch) / "notes.json")
        heard = ""

        def look() -> None:
            nonlocal heard
            part, _ = _noted(task)
            if part != heard:
                heard = part
                said(part)

        try:
            return call_in_process(_measured, task, most_seconds, look)
        except WorkerDied:
            return _ended(task, "its process ended: killed for memory, or a crash in native code")
        except TookTooLong:
            return _ended(task, f"took more than {most_seconds / 60:g} minutes in all; --most_minutes gives more")
        except Exception as error:  # a bug in one model is no reason to lose the figures of all
            log.exception("%s", loaded.config.model_name)
            return _ended(task, f"{type(error).__name__}: {error}")


def _ended(task: _Task, why: str) -> dict[str, Any]:
    """What there is of a model whose process did not come to its end."""
    part, figures = _noted(task)
    return {**figures, NOT_FINISHED: f"{part}: {why}"} if figures else {NOT_MEASURED: why}


def _noted(task: _Task) -> tuple[str, dict[str, Any]]:
    """The part at work, and the figures of those before; nothing where none has begun."""
    if not task.notes.is_file():
        return "", {}
    noted = read_json(task.notes)
    return noted["part"], noted["figures"]


def _measured(task: _Task) -> dict[str, Any]:
    """The figures of one model, and why there are no more."""
    limit_threads(task.loaded.config.threads)

    def note(part: str, figures: Mapping[str, Any]) -> None:
        write_text(task.notes, json.dumps({"part": part, "figures": figures}), durable=False)

    failed: dict[str, str] = {}
    try:
        figures = measure(task.loaded, task.seconds, task.only, note, failed)
    except TalkingFaceError as error:
        return _ended(task, str(error))
    return figures | ({NOT_FINISHED: "; ".join(f"{part}: {why}" for part, why in failed.items())} if failed else {})
