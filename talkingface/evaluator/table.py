"""The printed table of an evaluation, and how the numbers of every report are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from talkingface.evaluator.base import Figure

if TYPE_CHECKING:
    from talkingface.evaluator.report import EvalResult

SHOWN_SKIPS = 10
COLUMN = 12  # at least
INTERVAL = 19  # characters of [-0.1234, -0.01234]
DETAILS = ("row", "variant", "region", "protocol", "net", "network", "aggregation")
"""Parts of a definition that belong to a figure's name, since numbers with others do not compare."""


def printed_table(result: EvalResult) -> str:
    """Figures down, rows across, then stage figures, unavailable metrics and skipped clips.

    The first row, usually the generated one, also shows its intervals; report.html has those of all rows.
    """
    rows = list(result.rows.values())
    labels = {key: label(key, figure, result.definitions.get(key, {})) for key, figure in result.figures.items()}
    width = max([len(text) for text in labels.values()] + [len(key) for key in result.stage_figures] + [12])
    column = max([COLUMN, *(len(name) + 2 for name in result.rows)])
    intervals = rows[0].intervals if rows else {}

    def line(text: str, cells: Sequence[object], ends: str = "") -> str:
        first, *others = [f"{cell!s:>{column}}" for cell in cells]
        ends = f" {ends:<{INTERVAL}}" if intervals else ""
        return (f"{text:<{width}}" + first + ends + "".join(others)).rstrip()

    lines = [result.title(), line("", list(result.rows))]
    for key, text in labels.items():
        if any(key in row.values for row in rows):
            values = [number(row.values.get(key)) for row in rows]
            lines.append(line(text, values, interval(intervals.get(key))))
    lines.append(line("clips", [row.clips for row in rows]))
    lines += ["[ ]: 95 % bootstrap interval of the mean over clips"] if intervals else []
    if result.stage_figures:
        lines += ["", "stage figures"]
        lines += [f"{key:<{width}}{number(value):>{COLUMN}}" for key, value in result.stage_figures.items()]
    lines += [f"{name}: n/a ({reason})" for name, reason in result.unavailable.items()]
    return "\n".join(lines + _skipped(result))


def label(key: str, figure: Figure, definition: Mapping[str, Any]) -> str:
    """A figure with what its number depends on: `psnr (piq, frame, dB, higher is better)`."""
    details = [text for text in (depends_on(definition), figure.unit, direction(figure)) if text]
    return f"{key} ({', '.join(details)})" if details else key


def depends_on(definition: Mapping[str, Any]) -> str:
    """What belongs to a figure's name, nothing twice: `piq, frame`."""
    texts: list[str] = []
    for name in DETAILS:
        text = str(definition.get(name) or "")
        if text and not any(text in known for known in texts):
            texts.append(text)
    return ", ".join(texts)


def direction(figure: Figure) -> str:
    """Which way is better, in words; empty where neither is."""
    return {True: "higher is better", False: "lower is better", None: ""}[figure.higher_is_better]


def number(value: float | None) -> str:
    """Four digits below 1, two decimals above; a dash for none."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"


def interval(ends: tuple[float, float] | None) -> str:
    """`[low, high]`, or nothing."""
    return "" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"


def _skipped(result: EvalResult) -> list[str]:
    lines = [f"skipped {clip} ({row}, {what}): {reason}" for row, clip, what, reason in result.skipped]
    more = len(lines) - SHOWN_SKIPS
    return [*lines[:SHOWN_SKIPS], f"... and {more} more, see metrics.json"] if more > 0 else lines
