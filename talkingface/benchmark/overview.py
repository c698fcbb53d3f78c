"""The figures of several models in one table, a line for each: what `benchmark --model=all` ends with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_MEASURED, NOT_FINISHED = "not measured", "not finished"
"""In place of figures, and beside those that there are: why there are no more."""

_COLUMNS = (
    ("preparing, frames/s", "preprocessing frames/s", "all steps"),
    ("network, fps", "generation", "network fps"),
    ("known landmarks, fps", "generation", "prepared landmarks, no encoding fps"),
    ("end to end, fps", "generation", "end to end fps"),
    ("ONNX, known landmarks, fps", "generation by ONNX files", "prepared landmarks, no encoding fps"),
    ("ONNX, end to end, fps", "generation by ONNX files", "end to end fps"),
    ("scoring, fps", "evaluation", "scoring fps"),
    ("memory, MiB", "peak memory MiB", "process"),
)
"""Title, and the group and name of its figure."""


def overview(figures: Mapping[str, Any]) -> str:
    """A Markdown table of what `measure_models` gives; columns without any figure are left out.

    Args:
        figures: of `benchmark --model=all`.
    """
    models: Mapping[str, Any] = figures["models"]
    lines = [_line(name, groups) for name, groups in models.items()]
    titles = ["model", "training, steps/s", *(title for title, _, _ in _COLUMNS), "missing"]
    kept = [k for k in range(len(titles)) if any(line[k] for line in lines)]
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(row[k] or "-" for k in kept) + " |" for row in rows)


def _line(name: str, groups: Mapping[str, Any]) -> list[str]:
    stages = groups.get("training steps/s", {})
    training = ", ".join(f"{stage} {rate:g}" for stage, rate in stages.items())
    values = [groups.get(group, {}).get(entry) for _, group, entry in _COLUMNS]
    missing = str(groups.get(NOT_MEASURED) or groups.get(NOT_FINISHED) or "")
    return [name, training, *("" if value is None else f"{value:g}" for value in values), missing.replace("|", "/")]
