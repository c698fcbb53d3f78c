"""Two benchmarks side by side: what was written to a file before, and what has been measured now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talkingface.errors import DataError
from talkingface.stored.jsons import read_json

SAME = ("device", "cpu", "threads", "torch", "profile")
"""Entries of `hardware` that must agree for figures to be comparable."""

_NO_SPEED = ("hardware", "batch size", "not measured")


def read_figures(path: str | Path) -> dict[str, Any]:
    """What `benchmark --json` wrote.

    Raises:
        DataError: it is missing, no JSON, or something else.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not ("hardware" in content or isinstance(content.get("models"), dict)):
        raise DataError(f"{path}: is nothing that `benchmark --json=FILE` has written")
    return content


def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines: every figure that both have, and how many times the new one is; first what makes them incomparable."""
    before, after = dict(_figures(old)), dict(_figures(new))
    common = [key for key in after if key in before]
    if not common:
        return ["nothing to compare: the two have no figure in common"]
    rows = [("", "before", "now", "times")]
    for key in common:
        ratio = f"{after[key] / before[key]:.2f}" if before[key] else "-"
        rows.append((key, f"{before[key]:g}", f"{after[key]:g}", ratio))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in (1, 2, 3))]) for row in rows]
    return [*_warnings(old, new), *lines]


def _by_model(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Figures by model, of a benchmark of one model or of several."""
    models = figures.get("models")
    if isinstance(models, Mapping):
        return {str(name): each for name, each in models.items() if isinstance(each, Mapping)}
    return {str((figures.get("hardware") or {}).get("model", "?")): figures}


def _figures(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for model, groups in _by_model(figures).items():
        for group, values in groups.items():
            for name, value in values.items() if group not in _NO_SPEED and isinstance(values, Mapping) else ():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    yield f"{model}: {group}: {name}", float(value)


def _warnings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What was otherwise, by model; said once where it is the same for all."""
    before, found = _by_model(old), dict[str, None]()
    for model, groups in _by_model(new).items():
        one, other = (each.get("hardware") or {} for each in (before.get(model, {}), groups))
        for key in SAME if one else ():
            if one.get(key) != other.get(key):
                found[f"warning: {key} was {one.get(key)}, is {other.get(key)}: the figures do not compare"] = None
    return list(found)
