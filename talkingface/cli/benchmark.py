"""`benchmark`: how fast this machine does each part of the work."""

from __future__ import annotations

import json
from pathlib import Path

from talkingface.cli.arguments import Arguments, Command, Option
from talkingface.cli.configuration import CONFIGURED, load, print_config
from talkingface.files import write_text


def benchmark(arguments: Arguments) -> None:
    """Print the figures as JSON and as a table; also write the JSON where asked."""
    loaded = load(arguments, dataset="demo")
    if arguments["print_config"]:
        return print_config(loaded)
    from talkingface.benchmark.speed import measure, table
    from talkingface.devices import limit_threads

    limit_threads(loaded.config.threads)
    figures = measure(loaded, arguments["seconds"])
    text = json.dumps(figures, indent=2)
    print(text)
    print(table(figures))
    if arguments["json"]:
        write_text(Path(arguments["json"]), text + "\n")


BENCHMARK = Command(
    line="measure data loading, training, generation and preprocessing speed",
    options=(
        Option("json", "also write the figures to this file"),
        Option("seconds", "time spent on each figure", 5.0, type=float),
        *CONFIGURED,
    ),
    run=benchmark,
    takes_keys=True,
)
