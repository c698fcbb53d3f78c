"""Several evaluated runs in one report: its files, and what is said about it in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkingface.errors import DataError
from talkingface.evaluation.report.comparison import Comparison, Difference, read_runs
from talkingface.evaluation.report.html import write_comparison_html
from talkingface.evaluation.report.numbers import decimals, interval, number
from talkingface.evaluation.report.paper_table import paper_table, to_latex, to_markdown
from talkingface.evaluation.report.seed_groups import SeedGroup, group_runs, group_to_json
from talkingface.evaluation.report.write import as_json
from talkingface.files import csv_text, write_text


@dataclass(frozen=True)
class Wanted:
    """What is written beside the report.

    Attributes:
        group: put runs together that differ in their seed only.
        latex: `table.tex`.
        markdown: `table.md`.
        figures: columns of these tables; empty for the main ones.
    """

    group: bool = False
    latex: bool = False
    markdown: bool = False
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What `compare_runs` found and wrote."""

    comparison: Comparison
    groups: list[SeedGroup]
    files: list[Path]


def compare_runs(paths: Sequence[str | Path], output: str | Path, wanted: Wanted | None = None) -> Compared:
    """Write `report.html`, `comparison.json` and `comparison.csv` about evaluated runs, and tables that are wanted.

    Args:
        paths: run folders, their `eval` folders, or `metrics.json` files; the first is what others are compared with.
        output: folder to write to.
        wanted: what else.

    Raises:
        DataError: no path, one without a usable `metrics.json`, or a figure that no run knows.
        OutputError: the folder cannot be written.
    """
    if not paths:
        raise DataError("nothing to compare: give run folders, as in `compare saved/A-demo/first saved/B-demo/first`")
    wanted = wanted or Wanted()
    comparison = Comparison(read_runs(paths))
    groups = group_runs(comparison.runs) if wanted.group else []
    table = paper_table(comparison, groups, wanted.figures)
    folder = Path(output)
    content = comparison.to_json()
    if groups:
        content["groups"] = [group_to_json(group, comparison.figures) for group in groups]
    texts = {"comparison.json": as_json(content), "comparison.csv": _table(comparison)}
    texts |= {"table.tex": to_latex(table)} if wanted.latex else {}
    texts |= {"table.md": to_markdown(table)} if wanted.markdown else {}
    for name, text in texts.items():
        write_text(folder / name, text)
    write_comparison_html(comparison, folder, groups)
    return Compared(comparison, groups, [folder / name for name in ("report.html", *texts)])


def remarks_and_verdicts(comparison: Comparison) -> list[str]:
    """Lines that belong below the table: what a reader must know first, and the differences that are clear."""
    remarks = [f"{run.name}: {'; '.join(run.remarks)}" for run in comparison.runs if run.remarks]
    warnings = [f"warning: {text}" for text in comparison.warnings]
    clear = [_line(difference) for difference in comparison.differences if difference.verdict != "unclear"]
    return remarks + warnings + clear


def _line(difference: Difference) -> str:
    places = decimals([difference.mean, *(difference.interval95 or ())])
    mean, ends = number(difference.mean, places), interval(difference.interval95, places)
    clips = f"on {difference.clips} common clips"
    return (
        f"{difference.figure}: {difference.run} less {difference.base} {mean} {ends} {clips}: "
        f"{difference.verdict}" + (f", but no evidence: {difference.doubt}" if difference.doubt else "")
    )


def _table(comparison: Comparison) -> str:
    """`comparison.csv`: one line per figure and row; a run's difference to the first run stands in its line."""
    header = ["figure", "unit", "higher_is_better", "row", "mean", "low", "high", "clips"]
    header += ["difference", "difference_low", "difference_high", "common_clips", "verdict", "does_not_compare"]
    lines: list[list[Any]] = [header]
    differences = {(d.figure, d.run): d for d in comparison.differences}
    merged = comparison.merged()
    for key, figure in merged.figures.items():
        for name, row in merged.rows.items():
            difference = differences.get((key, name))
            # Rows that are no run (real, still), the first run, and figures that do not compare have no difference.
            paired = [""] * 5
            if difference is not None:
                paired = [*_cells(difference.mean, difference.interval95), difference.clips, difference.verdict]
            better = {True: "yes", False: "no", None: ""}[figure.higher_is_better]
            numbers = _cells(row.values.get(key), row.intervals.get(key))
            lines.append(
                [key, figure.unit, better, name, *numbers, row.scored.get(key, 0), *paired]
                + [comparison.doubtful.get(key, "")]
            )
    return csv_text(lines)


def _cells(mean: float | None, ends: tuple[float, float] | None) -> list[str]:
    return ["" if value is None else f"{value:.6g}" for value in (mean, *(ends or (None, None)))]
