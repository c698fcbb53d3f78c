"""`list`: what can be named on the command line, and what lies in `saved/`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from talkingface.cli.arguments import HELP, Arguments, Command, Option
from talkingface.errors import ConfigError
from talkingface.plugin.metrics import METRICS
from talkingface.plugin.registry import describe_datasets, describe_models, load_plugins

if TYPE_CHECKING:
    from talkingface.evaluation.report.run_list import RunSummary


def list_names(arguments: Arguments) -> None:
    """Print models, data sets and metrics, or the runs; loads none of them but plug-ins.

    Raises:
        ConfigError: something else is asked for.
    """
    if arguments.words == ["runs"]:
        return list_runs(arguments)
    if arguments.words:
        raise ConfigError(
            f"command line: `list {' '.join(arguments.words)}` is not known; there are `list`, `list runs`"
        )
    if arguments["json"]:
        raise ConfigError("command line: --json is for `list runs`")
    load_plugins()
    metrics = {name: entry.line + ("" if entry.default else "; only if named") for name, entry in METRICS.items()}
    for title, rows in (("models", describe_models()), ("data sets", describe_datasets()), ("metrics", metrics)):
        print(title)
        for name, line in rows.items():
            print(f"  {name:<16} {line}")


def list_runs(arguments: Arguments) -> None:
    """Print one line per run, the latest last."""
    from talkingface.evaluation.report import run_list

    runs = run_list.list_runs(arguments["saved_dir"])
    if arguments["json"]:
        print(json.dumps(run_list.to_json(runs), indent=2))
    elif not runs:
        print(f"{arguments['saved_dir']}: no runs here yet; another folder is named with --saved_dir=FOLDER")
    else:
        _print_table([("run", "date", "state", "how far", "figures"), *map(_row, runs)])


def _row(run: RunSummary) -> tuple[str, ...]:
    from talkingface.evaluation.report.numbers import number

    figures = ", ".join(f"{key} {number(value)}" for key, value in run.figures.items())
    damage = f"({run.problem})" if run.problem else ""
    return (
        str(run.path),
        run.date.replace("T", " "),
        run.state,
        run.progress,
        "; ".join(filter(None, (" ".join(filter(None, (figures, damage))), run.licence))),
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """Columns side by side; a character that would steer the terminal is shown as it is written in code."""
    shown = [["".join(c if c.isprintable() else repr(c)[1:-1] for c in cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in shown) for index in range(len(shown[0]))]
    for row in shown:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


LIST = Command(
    line="models, data sets and metrics, one line each; `list runs`: what lies in saved/",
    options=(
        Option("saved_dir", "`list runs`: the folder of runs", default="saved"),
        Option("json", "`list runs`: as JSON", flag=True),
        HELP,
    ),
    run=list_names,
    takes_words=True,
)
