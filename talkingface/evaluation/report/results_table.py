"""The table of a page: what stands side by side, the figures below each other, one cell for each.

A column is one row of one evaluation. A report has the rows of one result as columns; a comparison the generated rows
of several, and reference rows beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from talkingface.evaluation.report.main_figures import MAIN, main_figures
from talkingface.evaluation.report.numbers import decimals_of_line, depends_on, direction, interval, number
from talkingface.evaluation.report.result import EvalResult, RowResult


@dataclass(frozen=True)
class Column:
    """One row of one evaluation.

    Attributes:
        name: its heading.
        about: what stands under the heading.
        style: class of the style sheet that gives its colour.
        result: the evaluation.
        row: the row in it.
        compared: whether its curves are drawn clip by clip.
    """

    name: str
    about: str
    style: str
    result: EvalResult
    row: str
    compared: bool = True

    @property
    def averages(self) -> RowResult:
        """Its averages."""
        return self.result.rows[self.row]

    @property
    def count(self) -> str:
        """How many clips stand behind it: `n = 8 of 9 clips`."""
        clips, failed = self.averages.clips, len(self.result.failed(self.row))
        total = f" of {clips + failed}" if failed else ""
        return f"n = {clips}{total} clip{'' if clips + failed == 1 else 's'}"


class Counted(Protocol):
    """A column that says on how many clips or runs it stands."""

    @property
    def count(self) -> str:
        """`n = 6 clips`."""
        ...


@dataclass(frozen=True)
class Cell:
    """One number of the table, as text.

    Attributes:
        mean: the number; a dash for none.
        interval: its 95 % interval.
        count: of its clips, where it is not that of the column.
        note: what is special about it.
    """

    mean: str
    interval: str = ""
    count: str = ""
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One figure of the table; `warning` says why its numbers do not compare."""

    key: str
    unit: str
    direction: str
    details: str
    about: str
    cells: list[Cell]
    warning: str = ""


@dataclass
class Group:
    """The figures of one metric; those that no column has are `absent`, for the reason given if there is one."""

    metric: str
    weights: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    reason: str = ""


def groups(
    columns: Sequence[Column],
    warnings: Mapping[str, str] | None = None,
    notes: Mapping[tuple[str, str], str] | None = None,
) -> list[Group]:
    """The table: metrics, their figures, one cell per column.

    Args:
        columns: what stands side by side.
        warnings: by figure, why its numbers do not compare.
        notes: by (column's name, figure), what is special about one number.
    """
    found: dict[str, Group] = {}
    for key in all_figures([column.result for column in columns]):
        # Columns may come from different evaluations: one may have a figure that another could not compute.
        source = source_of(columns, key)
        metric = source.metric_of.get(key) or key
        group = found.setdefault(metric, Group(metric, reason=source.unavailable.get(metric, "")))
        cells = _cells(columns, key, notes or {})
        definition, figure = source.definitions.get(key, {}), source.figures[key]
        group.weights += [text for text in _weights(definition) if text not in group.weights]
        # A figure that no column has a number of is named below the table, with the reason, and takes no line in it.
        if any(cell.count or cell.mean != "-" for cell in cells):
            warning = (warnings or {}).get(key, "")
            line = Line(
                key=key,
                unit=figure.unit,
                direction=direction(figure),
                details=depends_on(definition),
                about=figure.about,
                cells=cells,
                warning=warning,
            )
            group.lines.append(line)
        else:
            group.absent.append(key)
    return list(found.values())


def _cells(columns: Sequence[Column], key: str, notes: Mapping[tuple[str, str], str]) -> list[Cell]:
    """The cells of one figure, all with equal digits behind the point."""
    values = {column.name: column.averages.values.get(key) for column in columns}
    places = decimals_of_line(values)
    return [
        Cell(
            mean=number(values[column.name], places),
            interval=interval(column.averages.intervals.get(key), places),
            count=_count(column, key),
            note=notes.get((column.name, key), ""),
        )
        for column in columns
    ]


def _count(column: Column, key: str) -> str:
    """`n = 4, 2 left out` where a figure does not stand on all clips of its column."""
    scored, left_out = column.averages.scored.get(key, 0), len(column.result.left_out(column.row, key))
    if key not in column.averages.values and not left_out:
        return ""
    if not scored and key in column.averages.values:
        return "all clips together"
    parts = [f"n = {scored}"] if scored != column.averages.clips else []
    return ", ".join([*parts, f"{left_out} left out"] if left_out else parts)


def shared_count(columns: Sequence[Counted]) -> str:
    """`n = 6 clips` where all columns stand on equally many; empty otherwise."""
    counts = {column.count for column in columns}
    return counts.pop() if len(counts) == 1 else ""


def main_lines(table: Sequence[Group]) -> list[Line]:
    """The few lines that are shown unfolded; empty where the table is short enough to be shown as a whole."""
    lines = {line.key: line for group in table for line in group.lines}
    if len(lines) <= MAIN + 2:
        return []
    return [lines[key] for key in main_figures(list(lines), [key for key, line in lines.items() if line.direction])]


def all_figures(results: Sequence[EvalResult]) -> list[str]:
    """The figures of all results, in the order in which they come up."""
    return list(dict.fromkeys(key for result in results for key in result.figures))


def source_of(columns: Sequence[Column], key: str) -> EvalResult:
    """The evaluation that tells about a figure: the first that could compute it, else the first that knows it."""
    knowing = [column.result for column in columns if key in column.result.figures]
    able = [column.result for column in columns if key in column.averages.values]
    return (able or knowing)[0]


def _weights(definition: Mapping[str, Any]) -> list[str]:
    """Weight files, or runs, of a definition with their hashes: `syncnet_v2.model sha256 961e8696f888`."""
    flat = dict(flatten(definition))
    # A definition names a file or run beside its hash: `file` and `sha256`, or `judge.run` and `judge.sha256`.
    names = [name.removesuffix("sha256") for name in flat if name.endswith("sha256")]
    return [
        f"{flat.get(name + 'file') or flat.get(name + 'run') or ''} sha256 {flat[name + 'sha256'][:12]}".strip()
        for name in names
    ]


def flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (`outer.inner`, text) pairs; yes and no for booleans."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in flatten(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(text for part in value for _, text in flatten(part)))]
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    return [(name, "unknown" if value is None else str(value))]
