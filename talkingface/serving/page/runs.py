"""The second tab of the page: what lies in `saved/`, the report of a run and its training curves."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, NamedTuple

from talkingface.evaluation.report.numbers import number
from talkingface.evaluation.report.run_list import RunSummary, list_runs
from talkingface.serving.page.curves import draw_curves, read_curves

_MOST_REPORT_BYTES = 64 * 2**20


class Shown(NamedTuple):
    """What the tab shows of a run: a few words, its report as HTML, its curves as PNG."""

    about: str
    report: str
    curves: bytes | None


class Runs:
    """The runs below a folder, by names that the page may show and take.

    Args:
        saved: folder of runs.
    """

    def __init__(self, saved: Path) -> None:
        self._saved = saved

    def names(self) -> list[str]:
        """Names of the runs, the latest first."""
        return [_name(run) for run in reversed(list_runs(self._saved))]

    def show(self, name: str | None) -> Shown:
        """What there is of a run; only names of the list are known, for a name becomes a path."""
        run = next((run for run in list_runs(self._saved) if _name(run) == name), None)
        if run is None:
            return Shown("There are no runs here yet." if not name else "This run is no longer there.", "", None)
        return Shown(
            _about(run), _report(run.path / "eval" / "report.html"), draw_curves(read_curves(run.path / "log.jsonl"))
        )


def _name(run: RunSummary) -> str:
    return f"{run.path.parent.name}/{run.path.name}"


def _about(run: RunSummary) -> str:
    figures = ", ".join(f"{key} {number(value)}" for key, value in run.figures.items())
    parts: list[Any] = [
        f"{run.model} on {run.dataset}",
        run.state,
        run.progress,
        run.date.replace("T", " "),
        figures,
        run.problem,
    ]
    return " · ".join(str(part) for part in parts if part)


def _report(file: Path) -> str:
    """The report in a frame of its own, which runs no scripts."""
    if not file.is_file():
        return "<p>This run has no report: it was not evaluated.</p>"
    if file.stat().st_size > _MOST_REPORT_BYTES:
        return f"<p>The report is too large for this page: {html.escape(str(file))}</p>"
    text = html.escape(file.read_text(encoding="utf-8", errors="replace"), quote=True)
    return f'<iframe sandbox title="report" srcdoc="{text}" style="width:100%;height:80vh;border:0"></iframe>'
