"""What the pages show, made ready for the templates: tables, plots and definitions of any set of columns.

A column is one row of one evaluation. A report has the rows of one result as columns; a comparison the generated rows
of several, and reference rows beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from talkingface.evaluation.report.numbers import depends_on, direction, interval, number
from talkingface.evaluation.report.plots import Curve, Lane, frames, mean_curve, offset_plot, strip_plot
from talkingface.evaluation.report.result import EvalResult, RowResult

MAX_CLIP_CURVES = 24  # clips that get a plot of their own
MAX_FAINT_CURVES = 60  # thin lines behind the averages
SMALL = 260  # width of the plot of one clip
JUDGES = {
    "lse": "LSE: distance of lips and sound in the public SyncNet",
    "expert": "expert: cosine in a trained expert",
}


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
        """How many clips stand behind it: `8 of 9 clips`."""
        clips, failed = self.averages.clips, len(self.result.failed(self.row))
        total = f" of {clips + failed}" if failed else ""
        return f"{clips}{total} clip{'' if clips + failed == 1 else 's'}"


@dataclass(frozen=True)
class Cell:
    """One number of the table, as text; `note` says what is special about it."""

    mean: str
    interval: str = ""
    clips: int = 0
    left_out: int = 0
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
        source = _source(columns, key)
        metric = source.metric_of.get(key) or key
        group = found.setdefault(metric, Group(metric, reason=source.unavailable.get(metric, "")))
        cells = [_cell(column, key, (notes or {}).get((column.name, key), "")) for column in columns]
        definition, figure = source.definitions.get(key, {}), source.figures[key]
        group.weights += [text for text in _weights(definition) if text not in group.weights]
        # A figure that no column has a number of is named below the table, with the reason, and takes no line in it.
        if any(cell.clips or cell.left_out or cell.mean != "-" for cell in cells):
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


def _cell(column: Column, key: str, note: str) -> Cell:
    row = column.averages
    return Cell(
        mean=number(row.values.get(key)),
        interval=interval(row.intervals.get(key)),
        clips=row.scored.get(key, 0),
        left_out=len(column.result.left_out(column.row, key)),
        note=note,
    )


def all_figures(results: Sequence[EvalResult]) -> list[str]:
    """The figures of all results, in the order in which they come up."""
    return list(dict.fromkeys(key for result in results for key in result.figures))


def _source(columns: Sequence[Column], key: str) -> EvalResult:
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


def distributions(columns: Sequence[Column]) -> list[tuple[str, str, Markup]]:
    """A strip plot per figure that clips have values of: (figure, what stands beside its name, plot)."""
    plots = []
    for key in all_figures([column.result for column in columns]):
        lanes = []
        for column in columns:
            values = column.result.per_clip(column.row, key)
            row = column.averages
            lanes.append(Lane(column.name, column.style, values, row.values.get(key), row.intervals.get(key)))
        if any(lane.values for lane in lanes):
            figure = _source(columns, key).figures[key]
            plots.append((key, ", ".join(filter(None, (figure.unit, direction(figure)))), strip_plot(key, lanes)))
    return plots


@dataclass(frozen=True)
class CurveSet:
    """The offset curves of one judge.

    Attributes:
        judge: its name.
        about: what is drawn, and which way is better.
        legend: (style, name, peak) of the averaged curves.
        first: the column whose clips are drawn thin behind the averages.
        overview: averages over clips.
        clips: (clip, best offsets, plot).
        total: clips that have a curve in a compared column.
    """

    judge: str
    about: str
    legend: list[tuple[str, str, str]]
    first: str
    overview: Markup
    clips: list[tuple[str, str, Markup]]
    total: int


def curve_sets(columns: Sequence[Column]) -> list[CurveSet]:
    """The offset curves of every judge that left some, those of the first `MAX_CLIP_CURVES` clips one by one."""
    every = (clip for column in columns for clip in column.result.clips if clip.row == column.row)
    judges = dict.fromkeys(judge for clip in every for judge, curve in clip.curves.items() if curve)
    return [_curve_set(judge, columns) for judge in judges]


def _curve_set(judge: str, columns: Sequence[Column]) -> CurveSet:
    low = judge.lower().startswith("lse")  # a distance; all others are similarities
    by_column = [(column, _curves_of(column, judge)) for column in columns]
    by_column = [(column, curves) for column, curves in by_column if curves]
    means = [Curve(column.name, column.style, mean_curve(list(curves.values()))) for column, curves in by_column]
    # The spread over clips is shown for the first column alone: the clips of all would be a tangle.
    first, own = by_column[0]
    faint = [Curve(clip, first.style, curve) for clip, curve in list(own.items())[:MAX_FAINT_CURVES]]
    drawn = [(column, curves) for column, curves in by_column if column.compared]
    names = list(dict.fromkeys(clip for _, curves in drawn for clip in curves))
    clips = []
    for clip in names[:MAX_CLIP_CURVES]:
        lines = [Curve(column.name, column.style, curves[clip]) for column, curves in drawn if clip in curves]
        peaks = ", ".join(f"{line.name} {frames(line.peak(low)).split()[0]}" for line in lines)
        clips.append((clip, peaks, offset_plot(f"{judge} of {clip}", lines, low, width=SMALL)))
    about = JUDGES.get(judge, judge) + (", lowest is best" if low else ", highest is best")
    legend = [(line.style, line.name, frames(line.peak(low))) for line in means]
    overview = offset_plot(f"{judge}, mean over clips", means, low, faint)
    return CurveSet(
        judge=judge,
        about=about,
        legend=legend,
        first=first.name,
        overview=overview,
        clips=clips,
        total=len(names),
    )


def _curves_of(column: Column, judge: str) -> dict[str, list[float]]:
    return {c.clip_id: c.curves[judge] for c in column.result.clips if c.row == column.row and c.curves.get(judge)}


def definitions(result: EvalResult) -> list[tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    """Definitions with the figures that share them: ((figure, what it says), (name, value) of every part).

    What is defined under another name than a figure's stands by itself, unless a figure's definition has all of it.
    """
    shared: dict[tuple[tuple[str, str], ...], list[tuple[str, str]]] = {}
    for key, figure in result.figures.items():
        if key in result.definitions:
            # Figures of equal definition share one entry: the flattened definition is the key.
            shared.setdefault(tuple(flatten(result.definitions[key])), []).append((key, figure.about))
    for key, definition in result.definitions.items():
        parts = tuple(flatten(definition))
        if key not in result.figures and not any(set(parts) <= set(known) for known in shared):
            shared[parts] = [(key, "")]
    return [(keys, list(parts)) for parts, keys in shared.items()]


def flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (`outer.inner`, text) pairs; yes and no for booleans."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in flatten(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(text for part in value for _, text in flatten(part)))]
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    return [(name, "unknown" if value is None else str(value))]
