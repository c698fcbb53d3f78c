"""What lies in `saved/`: one entry per run, also of those that are damaged."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkingface.config.yaml_files import read_yaml
from talkingface.errors import ConfigError
from talkingface.evaluation.report.main_figures import main_figures
from talkingface.weights.lock import is_held

TAIL = 2**16  # bytes at the end of log.jsonl: the last records, however long the training was
LARGEST = 2**26  # bytes of a JSON file that is read
FIGURES = 3
SILENT = 15 * 60
"""Seconds without a sign of life after which a run of which nothing else is known counts as stopped."""


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
        path: its folder.
        model: its model.
        dataset: its data set.
        name: of the folder.
        date: of the last change of its state, ISO 8601; empty where unknown.
        seed: its seed.
        state: `finished`, `running`, `stopped` (it was begun and nothing works on it), `evaluated` (it never trained
            here) or `unknown`.
        progress: how far the last stage came: `render 400/800 (stage 2 of 2)`.
        figures: the main figures of its evaluation.
        licence: what limits the use of its checkpoints; empty: nothing is known.
        problem: what is damaged.
    """

    path: Path
    model: str
    dataset: str
    name: str
    date: str = ""
    seed: int | None = None
    state: str = "unknown"
    progress: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    licence: str = ""
    problem: str = ""


def list_runs(saved: str | Path) -> list[RunSummary]:
    """All folders `<Model>-<dataset>/<run>/` below `saved`, the latest last."""
    folders = [path for path in Path(saved).glob("*/*") if path.is_dir() and not path.name.startswith(".")]
    return sorted((summary_of(folder) for folder in folders), key=lambda run: (run.date, str(run.path)))


def summary_of(folder: Path) -> RunSummary:
    """What can be told of a folder; whatever is damaged in it is named and does not hide the rest."""
    problems: list[str] = []
    config = _configuration(folder, problems)
    told = _json(folder / "run.json", problems)
    evaluation = _json(folder / "eval" / "metrics.json", problems)
    model, _, dataset = folder.parent.name.partition("-")
    return RunSummary(
        path=folder,
        model=str(config.get("model_name") or evaluation.get("model") or model),
        dataset=str(config.get("dataset") or evaluation.get("dataset") or dataset),
        name=folder.name,
        date=str(told.get("time") or evaluation.get("date") or "")[:19],
        seed=config.get("seed") if isinstance(config.get("seed"), int) else None,
        state=_state(folder, told, evaluation),
        progress=_progress(folder, config),
        figures=_figures(evaluation),
        licence=str(told.get("licence") or evaluation.get("licence") or ""),
        problem="; ".join(problems),
    )


def _configuration(folder: Path, problems: list[str]) -> dict[str, Any]:
    file = folder / "config.yaml"
    try:
        return read_yaml(file)[0] if file.is_file() else {}
    except (ConfigError, OSError):
        problems.append("config.yaml is damaged")
        return {}


def _json(file: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON object; empty where there is no file, or none that can be read."""
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > LARGEST:
            raise ValueError("too large")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except (OSError, ValueError, RecursionError):
        problems.append(f"{file.name} is damaged")
        return {}


def _state(folder: Path, told: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    status = told.get("status")
    if status == "running":
        return "running" if _works(folder) else "stopped"
    if status == "finished":
        return "finished"
    return "evaluated" if evaluation else "unknown"


def _works(folder: Path) -> bool:
    """Whether a process trains there: as its lock says, else by the last sign of life."""
    held = is_held(folder)
    if held is not None:
        return held
    times = [file.stat().st_mtime for file in (folder / "log.jsonl", folder / "run.json") if file.is_file()]
    return time.time() - max(times, default=0.0) < SILENT


def _progress(folder: Path, config: Mapping[str, Any]) -> str:
    """How far the stage of the last record came."""
    record = _last_record(folder / "log.jsonl")
    if record is None:
        return ""
    name, step, epoch = (record.get(key) for key in ("stage", "step", "epoch"))
    stages = [stage for stage in config.get("stages") or () if isinstance(stage, dict)]
    names = [stage.get("name") for stage in stages]
    stage = stages[names.index(name)] if name in names else {}
    done = f"{step}/{stage['max_steps']}" if stage.get("max_steps") else f"step {step}"
    if not stage.get("max_steps") and stage.get("epochs"):
        done = f"epoch {epoch}/{stage['epochs']}"
    return f"{name} {done}" + (f" (stage {names.index(name) + 1} of {len(names)})" if len(names) > 1 and stage else "")


def _last_record(log: Path) -> dict[str, Any] | None:
    """The last whole record of a log that may be cut short, or large."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and "stage" in record:
            return record
    return None


def _figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The first main figures of the generated row, or of the first row where there is none."""
    rows, told = evaluation.get("rows"), evaluation.get("figures")
    if not isinstance(rows, dict) or not rows or not isinstance(told, dict):
        return {}
    row = rows.get("generated", next(iter(rows.values())))
    values = {key: row[key] for key in told if isinstance(row, dict) and isinstance(row.get(key), (int, float))}
    directed = [key for key in values if isinstance(told[key], dict) and told[key].get("higher_is_better") is not None]
    return {key: float(values[key]) for key in main_figures(list(values), directed, FIGURES)}


def to_json(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """For `--json`: plain values."""
    return [{**vars(run), "path": str(run.path), "figures": dict(run.figures)} for run in runs]
