"""The table of runs put together by seed: on a page and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.comparison import Comparison
from talkingface.evaluation.report.numbers import decimals, depends_on, direction, interval, label, number
from talkingface.evaluation.report.results_table import Cell, Group, Line
from talkingface.evaluation.report.seed_groups import SeedGroup, left_out


@dataclass(frozen=True)
class GroupColumn:
    """A group of runs as a column of the page's table: heading, what stands below it, colour, how many runs."""

    name: str
    about: str
    style: str
    count: str


def seed_columns(groups: Sequence[SeedGroup], styles: Sequence[str]) -> list[GroupColumn]:
    """The columns, each in the colour of its first run."""
    columns = []
    for group, style in zip(groups, styles, strict=True):
        runs, _, seeds = group.about.partition(", ")
        columns.append(GroupColumn(group.name, seeds, style, f"n = {runs}"))
    return columns


def seed_lines(groups: Sequence[SeedGroup], comparison: Comparison) -> Group:
    """One line per figure that a group has: mean, and below it standard deviation and interval over runs."""
    found = Group("")
    for key in comparison.figures:
        if any(group.mean(key) is not None for group in groups):
            figure, definition = _told(comparison, key)
            found.lines.append(
                Line(
                    key=key,
                    unit=figure.unit,
                    direction=direction(figure),
                    details=depends_on(definition),
                    about=figure.about,
                    cells=[Cell(mean, spread) for mean, spread in _numbers(groups, key)],
                    warning=comparison.doubtful.get(key, ""),
                )
            )
    return found


def printed_seeds(groups: Sequence[SeedGroup], comparison: Comparison) -> str:
    """The same for the terminal: figures down, groups across."""
    rows = [["", *(group.name for group in groups)]]
    for line in seed_lines(groups, comparison).lines:
        figure, definition = _told(comparison, line.key)
        rows.append([label(line.key, figure, definition), *(f"{c.mean} {c.interval}".strip() for c in line.cells)])
    rows.append(["", *(group.about for group in groups)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(groups) + 1)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    legend = "±: standard deviation over runs that differ in their seed only; [ ]: 95 % interval of their mean (t)"
    said = [legend, *left_out(comparison.runs, groups)]
    return "\n".join([*lines, *said])


def _numbers(groups: Sequence[SeedGroup], key: str) -> list[tuple[str, str]]:
    """(mean, `± deviation [low, high]`) of every group, with equal digits; a single run has a mean alone."""
    places = decimals(group.mean(key) for group in groups)
    found = []
    for group in groups:
        deviation = group.deviation(key)
        spread = "" if deviation is None else f"± {number(deviation, places)} {interval(group.interval(key), places)}"
        found.append((number(group.mean(key), places), spread))
    return found


def _told(comparison: Comparison, key: str) -> tuple[Figure, dict[str, object]]:
    """Figure and definition as the first run tells them that knows it."""
    results = [run.result for run in comparison.runs if key in run.result.figures]
    return results[0].figures[key], next((r.definitions[key] for r in results if key in r.definitions), {})
