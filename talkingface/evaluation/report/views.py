"""What the pages show beside the table, made ready for the templates: plots and definitions of any set of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from talkingface.evaluation.report.comparison import REFERENCES
from talkingface.evaluation.report.numbers import direction
from talkingface.evaluation.report.plots import Curve, Lane, frames, mean_curve, offset_plot, strip_plot
from talkingface.evaluation.report.result import EvalResult
from talkingface.evaluation.report.results_table import Column, all_figures, flatten, source_of

MAX_CLIP_CURVES = 24  # clips that get a plot of their own
MAX_FAINT_CURVES = 60  # thin lines behind the averages
SMALL = 260  # width of the plot of one clip
JUDGES = {
    "lse": "LSE: distance of lips and sound in the public SyncNet",
    "expert": "expert: cosine in a trained expert",
}


def distributions(columns: Sequence[Column]) -> list[tuple[str, str, Markup]]:
    """A strip plot per figure that clips have values of: (figure, what stands beside its name, plot)."""
    plots = []
    for key in all_figures([column.result for column in columns]):
        lanes = []
        for column in columns:
            values = column.result.per_clip(column.row, key)
            row = column.averages
            lanes.append(
                Lane(
                    name=column.name,
                    style=column.style,
                    values=values,
                    mean=row.values.get(key),
                    interval=row.intervals.get(key),
                    reference=column.row in REFERENCES,
                )
            )
        if any(lane.values for lane in lanes):
            figure = source_of(columns, key).figures[key]
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
