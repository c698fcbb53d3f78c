"""`list`: what can be named on the command line."""

from __future__ import annotations

from talkingface.cli.arguments import HELP, Arguments, Command
from talkingface.plugin.metrics import METRICS
from talkingface.plugin.registry import describe_datasets, describe_models


def list_names(_: Arguments) -> None:
    """Print models, data sets and metrics; loads none of them."""
    metrics = {name: entry.line + ("" if entry.default else "; only if named") for name, entry in METRICS.items()}
    for title, rows in (("models", describe_models()), ("data sets", describe_datasets()), ("metrics", metrics)):
        print(title)
        for name, line in rows.items():
            print(f"  {name:<16} {line}")


LIST = Command(line="models, data sets and metrics, one line each", options=(HELP,), run=list_names)
