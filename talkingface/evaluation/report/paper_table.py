"""Tables for papers and notes: methods down, figures across, in LaTeX (booktabs) and Markdown.

The best number of a figure is bold, by the direction of that figure; numbers that do not compare have no best.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from talkingface.errors import DataError, unknown
from talkingface.evaluation.metric import Figure
from talkingface.evaluation.report.comparison import GENERATED, Comparison
from talkingface.evaluation.report.main_figures import main_figures
from talkingface.evaluation.report.numbers import decimals_of_line, depends_on, number
from talkingface.evaluation.report.seed_groups import SeedGroup


@dataclass(frozen=True)
class Language:
    """How a table language writes the parts of a cell.

    Attributes:
        arrows: what stands behind a figure's name, by whether higher is better.
        bold: the form of the best number.
        spread: what stands between a mean and its deviation.
        absent: no number.
        minus: before a negative number.
        doubt: behind the name of a figure whose numbers do not compare.
    """

    arrows: Mapping[bool | None, str]
    bold: str
    spread: str
    absent: str
    minus: str
    doubt: str


LATEX = Language(
    arrows={True: r" $\uparrow$", False: r" $\downarrow$", None: ""},
    bold=r"\textbf{{{}}}",
    spread=r" $\pm$ ",
    absent="--",
    minus="$-$",
    doubt=r"$^\dagger$",
)
MARKDOWN = Language(
    arrows={True: " ↑", False: " ↓", None: ""}, bold="**{}**", spread=" ± ", absent="-", minus="-", doubt=" †"
)


@dataclass(frozen=True)
class Method:
    """One line of a table.

    Attributes:
        name: of a run, a group of runs, or a reference row.
        means: by figure.
        deviations: over runs, by figure; empty for a single run.
        runs: how many.
        reference: whether it is a row that no method made (real, still); such a row is never best.
    """

    name: str
    means: Mapping[str, float]
    deviations: Mapping[str, float] = field(default_factory=dict)
    runs: int = 1
    reference: bool = False


@dataclass(frozen=True)
class Column:
    """One figure of a table.

    Attributes:
        key: the figure.
        figure: unit and direction.
        details: variant, region, protocol.
        places: digits behind the point, the same for all lines.
        best: names of the methods whose written number is the best.
        doubt: why the numbers do not compare, if so.
    """

    key: str
    figure: Figure
    details: str
    places: int
    best: frozenset[str]
    doubt: str = ""


@dataclass(frozen=True)
class PaperTable:
    """What is written, whatever the language."""

    methods: tuple[Method, ...]
    columns: tuple[Column, ...]


def paper_table(comparison: Comparison, groups: Sequence[SeedGroup] = (), figures: Sequence[str] = ()) -> PaperTable:
    """The table of a comparison.

    Args:
        comparison: the runs.
        groups: runs put together by seed; without, every run is a line.
        figures: the columns; by default the main ones.

    Raises:
        DataError: a figure is not known.
    """
    methods = _grouped(groups, comparison.figures) if groups else _single(comparison)
    references = [Method(row, run.result.values(row), reference=True) for row, run in comparison.references]
    known = {key: figure for run in reversed(comparison.runs) for key, figure in run.result.figures.items()}
    for key in figures:
        if key not in known:
            raise DataError(unknown("figure", key, list(known)))
    scored = [key for key in comparison.figures if all(key in method.means for method in methods)]
    directed = [key for key in scored if known[key].higher_is_better is not None]
    chosen = list(dict.fromkeys(figures)) or main_figures(scored, directed)
    lines = (*methods, *references)
    return PaperTable(lines, tuple(_column(comparison, key, known[key], lines) for key in chosen))


def _single(comparison: Comparison) -> list[Method]:
    return [Method(run.name, run.result.values(GENERATED)) for run in comparison.runs]


def _grouped(groups: Sequence[SeedGroup], figures: Sequence[str]) -> list[Method]:
    methods = []
    for group in groups:
        means = {key: value for key in figures if (value := group.mean(key)) is not None}
        deviations = {key: value for key in figures if (value := group.deviation(key)) is not None}
        methods.append(Method(group.name, means, deviations, len(group.runs)))
    return methods


def _column(comparison: Comparison, key: str, figure: Figure, lines: Sequence[Method]) -> Column:
    places = decimals_of_line({line.name: line.means.get(key) for line in lines})
    definitions = [run.result.definitions.get(key) for run in comparison.runs]
    doubt = comparison.doubtful.get(key, "")
    best = frozenset() if doubt else _best(key, figure, lines, places)
    return Column(key, figure, depends_on(next(filter(None, definitions), {})), places, best, doubt)


def _best(key: str, figure: Figure, lines: Sequence[Method], places: int) -> frozenset[str]:
    """Methods whose number, as it is written, is the best of two or more."""
    judged = [line for line in lines if key in line.means and not line.reference]
    values = {line.name: float(number(line.means[key], places)) for line in judged}
    if figure.higher_is_better is None or len(values) < 2:
        return frozenset()
    best = max(values.values()) if figure.higher_is_better else min(values.values())
    return frozenset(name for name, value in values.items() if value == best)


# -- LaTeX -------------------------------------------------------------------------------------------------------------

_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def latex_text(text: str) -> str:
    """Text in which nothing is a command of LaTeX."""
    return "".join(_LATEX.get(char, char) for char in _plain(text))


def to_latex(table: PaperTable) -> str:
    r"""A `tabular` with the rules of booktabs; what the numbers mean stands in comments above it."""
    heads = _heads(table, latex_text, LATEX)
    lines = [*(f"% {text}" for text in explained(table)), rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule"]
    lines += [" & ".join(["", *heads]) + r" \\", r"\midrule"]
    for index, method in enumerate(table.methods):
        if method.reference and index and not table.methods[index - 1].reference:
            lines.append(r"\midrule")
        lines.append(" & ".join([latex_text(method.name), *_cells(method, table.columns, LATEX)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown_text(text: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#+!|~$&])", r"\\\1", _plain(text))


def to_markdown(table: PaperTable) -> str:
    """A table as GitHub and most wikis show it, with its notes below."""
    heads = _heads(table, "`{}`".format, MARKDOWN)
    lines = [f"| {' | '.join(['', *heads])} |", f"|{'---|'}{'---:|' * len(heads)}"]
    for method in table.methods:
        lines.append(f"| {' | '.join([markdown_text(method.name), *_cells(method, table.columns, MARKDOWN)])} |")
    return "\n".join([*lines, "", *(f"* {markdown_text(text)}" for text in explained(table))]) + "\n"


# -- both --------------------------------------------------------------------------------------------------------------


def _heads(table: PaperTable, name: Callable[[str], str], language: Language) -> list[str]:
    return [
        name(column.key) + language.arrows[column.figure.higher_is_better] + language.doubt * bool(column.doubt)
        for column in table.columns
    ]


def _cells(method: Method, columns: Sequence[Column], language: Language) -> list[str]:
    cells = []
    for column in columns:
        mean, deviation = method.means.get(column.key), method.deviations.get(column.key)
        if mean is None:
            cells.append(language.absent)
            continue
        text = number(mean, column.places)
        text = language.minus + text[1:] if text[0] == "-" else text
        text = language.bold.format(text) if method.name in column.best else text
        cells.append(text if deviation is None else text + language.spread + number(deviation, column.places))
    return cells


def explained(table: PaperTable) -> list[str]:
    """What a reader must know, a line each: what a figure depends on, which do not compare, how many runs there are."""
    lines = []
    for column in table.columns:
        parts = ", ".join(part for part in (column.details, column.figure.unit) if part)
        about = f"{column.key} ({parts}): {column.figure.about}" if parts else f"{column.key}: {column.figure.about}"
        lines.append(about + (f"; † does not compare: {column.doubt}" if column.doubt else ""))
    if any(method.deviations for method in table.methods):
        counts = ", ".join(f"{method.name}: n = {method.runs}" for method in table.methods if not method.reference)
        lines.append(f"± standard deviation over runs that differ in their seed only ({counts})")
    return [_plain(line) for line in lines]


def _plain(text: str) -> str:
    """One line without control characters."""
    return "".join(char if char.isprintable() else " " for char in text)
